//! [`Lock`]: exactly which artifacts were used, to be demanded again.

use crate::{
    digest::Sha256Digest,
    error::{self, Error, Result},
    fs,
    inputs::Found,
    task::{ArtifactName, TaskId},
};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The version of the format.
const VERSION: u32 = 1;

/// The inputs of a task, as they were at some time.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Lock {
    version: u32,
    /// In the order in which they are placed.
    pub inputs: Vec<Locked>,
}

/// An artifact that was used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// What people call it.
    pub label: String,
    /// Its name.
    pub artifact: ArtifactName,
    /// The task that has it.
    pub task: TaskId,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it went, below the destination.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub dest: String,
    /// Whether it was extracted.
    pub extract: bool,
}

impl Lock {
    /// Notes what was found.
    #[must_use]
    pub fn of(found: &[Found<'_>]) -> Self {
        let inputs = found.iter().map(|found| Locked {
            label: found.wanted.label.clone(),
            artifact: found.stored.artifact.name.clone(),
            task: found.stored.task.clone(),
            sha256: found.stored.artifact.sha256,
            size: found.stored.artifact.size,
            dest: found.wanted.dest.to_string(),
            extract: found.wanted.extract,
        });
        Self {
            version: VERSION,
            inputs: inputs.collect(),
        }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// [`Error::Usage`] when it is not there or not a lock file of this version.
    pub fn read(path: &Path) -> Result<Self> {
        let json = fs::read_to_string(path).map_err(|err| Error::usage(error::chain(&err)))?;
        let lock: Self = serde_json::from_str(&json)
            .map_err(|err| Error::usage(format!("{} is no lock file: {err}", path.display())))?;
        if lock.version != VERSION {
            return Err(Error::usage(format!(
                "{} is a lock file of version {}; this program knows version {VERSION}",
                path.display(),
                lock.version
            )));
        }
        Ok(lock)
    }

    /// Writes a lock file, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Fs`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let json =
            serde_json::to_string_pretty(self).map_err(|err| Error::usage(err.to_string()))?;
        let json = format!("{json}\n");
        if path.exists() {
            fs::replace(path, json.as_bytes())
        } else {
            fs::write(path, &json)
        }
    }

    /// Says how what was found differs from what is demanded.
    ///
    /// # Errors
    /// [`Error::Usage`] with the first difference.
    pub fn check(&self, found: &[Found<'_>], from: &Path) -> Result<()> {
        let now = Self::of(found);
        if now == *self {
            return Ok(());
        }
        let pairs = self.inputs.iter().zip(&now.inputs);
        let difference = pairs.into_iter().find(|(then, now)| then != now).map_or_else(
            || format!("there are {} inputs, not {}", now.inputs.len(), self.inputs.len()),
            |(then, now)| {
                format!(
                    "{} is {} of task {} with sha256 {}, size {}; the lock has {} of task {} with sha256 {}, size {}",
                    now.label,
                    now.artifact,
                    now.task,
                    now.sha256,
                    now.size,
                    then.artifact,
                    then.task,
                    then.sha256,
                    then.size
                )
            },
        );
        Err(Error::Usage {
            what: format!(
                "the inputs are not those of {}: {difference}",
                from.display()
            ),
            hint: Some("if that is meant to be, write the lock anew with --lock".into()),
        })
    }
}
