//! The directory that a checkout is made in: there, and the task user's.

use super::environment::absolute;
use crate::{
    error::{self, Error},
    fs::{self, Dir, Owner},
};
use std::path::{Path, PathBuf};

/// Where a checkout is to be, and what of that a worker keeps or provides.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The checkout itself: an absolute path.
    pub checkout: &'a Path,
    /// Caches and volumes.
    pub mounts: &'a [PathBuf],
    /// Where relative paths start.
    pub here: &'a Path,
}

/// Makes the directory that a checkout is made in, and gives it to `owner`, if that can be done now. Returns a warning, if
/// there is something to be warned of.
///
/// # Errors
/// What is wrong, as it is logged.
pub fn prepare_parent(place: Place<'_>, owner: Option<Owner>) -> Result<Option<String>, String> {
    let checkout = place.checkout;
    let shown = checkout.display();
    // A checkout is cleaned, and would lose the files by which a cache is known.
    if checkout.join(".cacherequires").exists() {
        return Err(format!(
            "error: cannot perform vcs checkout into cache root: {shown}"
        ));
    }
    let failed = |err: Error| format!("error: {}", error::chain(&err));
    let parent = checkout
        .parent()
        .ok_or_else(|| format!("error: no checkout can be made at {shown}"))?;
    let mount = place.mount();
    if let Some(mount) = &mount {
        refuse_ways_out(parent, mount)?;
    }
    fs::create_missing(parent).map_err(failed)?;
    if let Some(owner) = owner {
        let parent = parent
            .canonicalize()
            .map_err(|err| format!("error: cannot look at {}: {err}", parent.display()))?;
        let parent = Dir::open(&parent).map_err(failed)?;
        owner.give(&parent).map_err(failed)?;
    }
    let warning = format!(
        "WARNING: vcs checkout path ({shown}) not in cache or volume; performance will likely suffer"
    );
    Ok(mount.is_none().then_some(warning))
}

impl Place<'_> {
    /// Returns the innermost mount that the checkout is in.
    fn mount(&self) -> Option<PathBuf> {
        let mounts = self.mounts.iter().map(|mount| absolute(self.here, mount));
        mounts
            .filter(|mount| self.checkout.starts_with(mount))
            .max_by_key(|mount| mount.components().count())
    }
}

/// Refuses a directory that a link leads out of a mount. Another task may have left the link in a cache, and root would
/// give away what it leads to.
fn refuse_ways_out(directory: &Path, mount: &Path) -> Result<(), String> {
    let resolved = |path: &Path| {
        path.canonicalize()
            .map_err(|err| format!("error: cannot look at {}: {err}", path.display()))
    };
    let mut there = directory;
    // What is not there yet leads nowhere, but a dangling link may lead anywhere.
    while there.symlink_metadata().is_err() {
        let Some(parent) = there.parent() else { break };
        there = parent;
    }
    let is_inside = !there.starts_with(mount) || resolved(there)?.starts_with(resolved(mount)?);
    if is_inside {
        return Ok(());
    }
    Err(format!(
        "error: a link in {} leads {} out of it: find the task that made it, and purge the cache",
        mount.display(),
        directory.display()
    ))
}
