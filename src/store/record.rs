//! What a store knows of tasks, artifacts and the index, as it is written.

use crate::{
    digest::Sha256Digest,
    store::Namespace,
    task::{ArtifactName, TaskId},
    verify::Expected,
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

/// A task.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskRecord {
    /// When it was made.
    #[serde(serialize_with = "time")]
    pub created: DateTime<Utc>,
    /// When it goes, with all its artifacts; never if there is no such time.
    #[serde(
        default,
        serialize_with = "time_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<DateTime<Utc>>,
    /// How far it is.
    pub state: State,
    /// Its definition, in the Queue's form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Value>,
}

/// How far a task is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Artifacts may still come.
    Running,
    /// It has ended well.
    Completed,
}

/// An artifact of a task.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// What it is called in its task.
    pub name: ArtifactName,
    /// The digest of its content.
    pub sha256: Sha256Digest,
    /// The size of its content in bytes.
    pub size: u64,
    /// What kind of content it is.
    pub content_type: String,
    /// When it was stored.
    #[serde(serialize_with = "time")]
    pub created: DateTime<Utc>,
    /// When it goes; with its task if there is no such time.
    #[serde(
        default,
        serialize_with = "time_if_any",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires: Option<DateTime<Utc>>,
}

impl Artifact {
    /// Returns what its content must be.
    #[must_use]
    pub fn expected(&self) -> Expected {
        Expected {
            sha256: Some(self.sha256),
            size: Some(self.size),
            ..Expected::default()
        }
    }
}

/// What a namespace leads to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexEntry {
    /// The task.
    pub task_id: TaskId,
    /// An entry is not replaced by one of lower rank.
    #[serde(default)]
    pub rank: f64,
    /// What its maker wants to say beside.
    #[serde(default)]
    pub data: Map<String, Value>,
    /// When it goes.
    #[serde(serialize_with = "time")]
    pub expires: DateTime<Utc>,
}

/// A namespace and what it leads to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Indexed {
    /// The namespace.
    pub namespace: Namespace,
    /// What it leads to.
    #[serde(flatten)]
    pub entry: IndexEntry,
}

/// Returns a time as Taskcluster has it: always with milliseconds, which some clients insist on.
#[must_use]
pub fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn time<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

#[expect(clippy::ref_option, reason = "serde's way to ask")]
fn time_if_any<S: Serializer>(
    time: &Option<DateTime<Utc>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time.map(timestamp).serialize(serializer)
}

/// Whether the time of something has come.
pub(super) fn has_expired(expires: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    expires.is_some_and(|expires| expires <= now)
}
