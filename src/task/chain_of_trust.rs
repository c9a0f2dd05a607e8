//! `public/chain-of-trust.json`: what a worker says about the digests of a task's artifacts.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    safe_url::SafeUrl,
    task::id::{ArtifactName, TaskId},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::Deserialize;
use std::{collections::HashMap, str::FromStr};

/// Where it is.
pub(super) const NAME: &str = "public/chain-of-trust.json";

/// Where its signature is: a bare ed25519 signature over the exact bytes of the file.
pub(super) const SIGNATURE: &str = "public/chain-of-trust.json.sig";

/// More than any task has artifacts for, in bytes.
pub(super) const LIMIT: usize = 64 << 20;

/// A key that workers sign chains of trust with.
#[derive(Clone, Debug)]
pub struct WorkerKey([u8; 32]);

/// The text is not a [`WorkerKey`].
#[derive(Debug, thiserror::Error)]
#[error("`{}` is not an ed25519 public key: expected 32 bytes in base64 or hex", text.escape_debug())]
pub struct ParseKeyError {
    text: String,
}

impl FromStr for WorkerKey {
    type Err = ParseKeyError;

    /// Parses base64, as configurations of Taskcluster's workers and of scriptworker have it, or hex.
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let bytes = match text.parse::<Sha256Digest>() {
            // Also 32 bytes in hex; 64 digits as base64 would be 48.
            Ok(hex) => Some(hex.as_bytes().to_vec()),
            Err(_) => BASE64_STANDARD.decode(text).ok(),
        };
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| ParseKeyError {
            text: text.to_owned(),
        })
    }
}

impl WorkerKey {
    fn has_signed(&self, content: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(content, signature).is_ok()
    }
}

/// A file as it was served.
pub(super) struct Served {
    pub(super) url: SafeUrl,
    pub(super) content: Vec<u8>,
}

impl Served {
    fn problem(&self, problem: String) -> Error {
        Error::ChainOfTrust {
            url: self.url.clone(),
            problem,
        }
    }

    /// Returns the error for a file that nobody signed.
    pub(super) fn not_signed(&self, task: &TaskId) -> Error {
        self.problem(format!("is not signed: task {task} has no {SIGNATURE}"))
    }

    fn document(&self) -> Result<Document> {
        serde_json::from_slice(&self.content)
            .map_err(|err| self.problem(format!("is not a chain of trust: {err}")))
    }
}

/// The part of it that is used.
#[derive(Debug)]
pub(super) struct ChainOfTrust {
    url: SafeUrl,
    artifacts: HashMap<String, Listed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    task_id: Option<String>,
    artifacts: HashMap<String, Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    sha256: Option<String>,
}

impl ChainOfTrust {
    /// Parses it, without knowing who wrote it.
    pub(super) fn unsigned(served: Served) -> Result<Self> {
        let document = served.document()?;
        Ok(Self {
            url: served.url,
            artifacts: document.artifacts,
        })
    }

    /// Parses it if a worker has signed it, for this task: the same worker signs what anybody's task made, and such a
    /// file must not be passed off as another task's.
    pub(super) fn signed(
        served: Served,
        signature: &[u8],
        keys: &[WorkerKey],
        task: &TaskId,
    ) -> Result<Self> {
        if !keys
            .iter()
            .any(|key| key.has_signed(&served.content, signature))
        {
            return Err(served.problem(format!(
                "is not what a worker signed: {SIGNATURE} of task {task} does not fit it by any key given"
            )));
        }
        let document = served.document()?;
        if document.task_id != Some(task.to_string()) {
            let other = document.task_id.unwrap_or_default();
            let other = other.escape_debug();
            return Err(
                served.problem(format!("is signed for task `{other}`, not for task {task}"))
            );
        }
        Ok(Self {
            url: served.url,
            artifacts: document.artifacts,
        })
    }

    /// Returns what it says about one artifact, of the decoded content.
    pub(super) fn digest_of(&self, artifact: &ArtifactName) -> Result<Sha256Digest> {
        let problem = |problem: String| Error::ChainOfTrust {
            url: self.url.clone(),
            problem,
        };
        let listed = self
            .artifacts
            .get(artifact.as_str())
            .and_then(|listed| listed.sha256.as_deref());
        let text = listed.ok_or_else(|| problem(format!("does not list `{artifact}`")))?;
        text.parse()
            .map_err(|err| problem(format!("lists `{artifact}`, but {err}")))
    }

    /// Returns the error for an entry that pins another digest.
    pub(super) fn contradiction(&self, artifact: &ArtifactName, vouched: &Sha256Digest) -> Error {
        Error::ChainOfTrust {
            url: self.url.clone(),
            problem: format!("lists `{artifact}` with {vouched}, the entry pins another sha256"),
        }
    }
}
