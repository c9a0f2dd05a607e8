//! Volumes: directories of an image that must be empty, so that a task works the same with a cache in their place.

use super::{Say, Tenant, finding::open};
use crate::error::Result;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// What became of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// The task can use it.
    Ready,
    /// There is no directory.
    NotADirectory,
    /// These are in it.
    NotEmpty(Vec<OsString>),
}

/// Makes a volume ready for a task. One that is a cache as well, under the same path, has been made so.
///
/// # Errors
/// [`crate::Error::Fs`].
pub fn prepare_volume(
    path: &Path,
    caches: &[PathBuf],
    tenant: &Tenant,
    say: &mut Say<'_>,
) -> Result<Volume> {
    let shown = path.display();
    if caches
        .iter()
        .any(|cache| cache.as_os_str() == path.as_os_str())
    {
        say("volume", &format!("volume {shown} is a cache"));
        return Ok(Volume::Ready);
    }
    let Some(volume) = open(path)? else {
        return Ok(Volume::NotADirectory);
    };
    let mut names = volume.names()?;
    if !names.is_empty() {
        names.sort();
        return Ok(Volume::NotEmpty(names));
    }
    if tenant.is_root {
        let owner = tenant.owner;
        say(
            "volume",
            &format!(
                "changing ownership of volume {shown} to {}:{}",
                owner.uid, owner.gid
            ),
        );
        owner.give_directory(&volume)?;
    }
    Ok(Volume::Ready)
}

impl Volume {
    /// Returns what is wrong and what can be done, if something is.
    #[must_use]
    pub fn problem(&self, path: &Path) -> Option<String> {
        let path = path.display();
        match self {
            Self::Ready => None,
            Self::NotADirectory => Some(format!("error: volume {path} is not a directory")),
            Self::NotEmpty(names) => {
                let names: Vec<_> = names
                    .iter()
                    .map(|name| name.display().to_string())
                    .collect();
                Some(format!(
                    "error: volume {path} is not empty\n{NOT_EMPTY}\nentries in root directory: {}",
                    names.join(" ")
                ))
            }
        }
    }
}

const NOT_EMPTY: &str = "
A volume must be empty when a task starts. Most likely something that ran while the image was built left files there:
change the Dockerfile so that nothing is created in a VOLUME. Or else the worker gave the task a volume that another one
has used.
";
