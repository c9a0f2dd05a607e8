//! [`Lock`]: exactly which artifacts were used, to be demanded again.

use crate::{
    digest::Sha256Digest,
    error::{self, Error, Result},
    fs,
    inputs::{Content, Found, Wanted},
    kind::Stored,
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
    /// The hash of what it unpacked to, if it was extracted: names, types, permissions, content and targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree: Option<Sha256Digest>,
}

impl Lock {
    /// Notes what was found, and the hashes of what that unpacked to.
    ///
    /// # Errors
    /// [`Error::Usage`] for what is not in the store, so that nothing vouches for it.
    pub fn of(found: &[Found<'_>], trees: &[Option<Sha256Digest>]) -> Result<Self> {
        let inputs = found.iter().zip(trees).map(|(found, tree)| {
            let Content::Stored(stored) = &found.content else {
                let label = &found.wanted.label;
                return Err(Error::usage(format!(
                    "{label} is out of an image: it cannot be locked"
                )));
            };
            Ok(Locked {
                tree: *tree,
                ..Locked::of(found.wanted, stored)
            })
        });
        Ok(Self {
            version: VERSION,
            inputs: inputs.collect::<Result<_>>()?,
        })
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
        let mut pairs = self.inputs.iter().zip(found);
        let difference = match pairs.find_map(|(locked, found)| locked.differs(found)) {
            Some(difference) => difference,
            None if self.inputs.len() == found.len() => return Ok(()),
            None => format!(
                "there are {} inputs, not {}",
                found.len(),
                self.inputs.len()
            ),
        };
        Err(Error::Usage {
            what: format!(
                "the inputs are not those of {}: {difference}",
                from.display()
            ),
            hint: Some("if that is meant to be, write the lock anew with --lock".into()),
        })
    }
}

impl Locked {
    fn of(wanted: &Wanted, stored: &Stored) -> Self {
        Self {
            label: wanted.label.clone(),
            artifact: stored.artifact.name.clone(),
            task: stored.task.clone(),
            sha256: stored.artifact.sha256,
            size: stored.artifact.size,
            dest: wanted.dest.to_string(),
            extract: wanted.extract,
            tree: None,
        }
    }

    /// Returns how something that was found differs from this.
    fn differs(&self, found: &Found<'_>) -> Option<String> {
        let wanted = found.wanted;
        let now = match &found.content {
            Content::Stored(stored) => Self::of(wanted, stored),
            // It was found by its digest: by whom it was made, nobody needed to know.
            Content::Unpacked { sha256, .. } => Self {
                label: wanted.label.clone(),
                artifact: wanted.artifact.clone(),
                sha256: *sha256,
                dest: wanted.dest.to_string(),
                extract: wanted.extract,
                ..self.clone()
            },
        };
        // Not all locks have it, and what was verified needs none.
        let now = Self {
            tree: self.tree,
            ..now
        };
        (now != *self).then(|| {
            let told = |locked: &Self| {
                let Self {
                    artifact,
                    task,
                    sha256,
                    size,
                    ..
                } = locked;
                format!("{artifact} of task {task} with sha256 {sha256}, size {size}")
            };
            format!(
                "{} is {}; the lock has {}",
                now.label,
                told(&now),
                told(self)
            )
        })
    }
}
