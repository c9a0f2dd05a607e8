//! Checkouts of git repositories as archives, the same bytes for the same commit on every machine.
//!
//! ```text
//! GitHub, no submodules, without .git: its own archive ─▶ fetch, repacked
//! all others: git fetch (the commit alone, else all) ─▶ checkout, submodules ─▶ [.git made plain] ─▶ archive::pack
//! ```
//!
//! Everything happens in staging, and the result is a file there, as that of [`crate::fetch`] is. A [`WorkingCopy`] is a
//! checkout that stays where it is made, as those of `run-task` do. The only room that knows the `git` program.

mod calls;
mod checkout;
mod dot_git;
mod failure;
mod github;
mod program;
mod repository;
mod ssh;
mod wanted;
mod working_copy;

use crate::{
    error::Result,
    fetch::{Context, Staged},
    fs,
    http::{Address, Attempts, Client, RetryPolicy},
    observe::{Event, Observer},
    stream::bridge::run_blocking,
};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use wanted::Wanted;

pub use calls::{Console, Means, Ran};
pub use working_copy::WorkingCopy;

/// A checkout to be made an archive.
pub struct Request {
    /// Where the repository is: a URL (https, http, ssh, git, file), `user@host:path`, or a local path.
    pub repo: String,
    /// The commit: its full hash. A branch, a tag or whatever git understands works, too, but means something else
    /// tomorrow.
    pub revision: String,
    /// What is in front of the names in the archive; without it, the last segment of `repo`.
    pub path_prefix: Option<String>,
    /// Whether the repository itself is wanted, too, with this one commit.
    pub include_dot_git: bool,
    /// Where the secrets service has the ssh key to use, as `ssh_privkey`.
    pub ssh_key: Option<Address>,
    /// A file with more ssh host keys.
    pub known_hosts: Option<PathBuf>,
    /// The name of the archive, which ends in `.tar.zst`.
    pub file_name: OsString,
}

/// Makes the archive in staging, trying again where that can help.
///
/// # Errors
/// [`crate::Error::Usage`] for a request that makes no sense, [`crate::Error::Git`] by what git says, and those of
/// [`crate::fetch::fetch`].
///
/// # Cancel safety
/// When dropped, git and what it started are killed; what was made goes with the staging area.
pub async fn fetch(
    request: &Request,
    context: &Context,
    observer: &dyn Observer,
) -> Result<Staged> {
    let wanted = Wanted::parse(request)?;
    if !wanted.revision.is_exact() {
        observer.on_event(&Event::Warning(format!(
            "`{}` is not the full hash of a commit: what it means can change",
            wanted.revision
        )));
    }
    if let Some(staged) = github::fetch(&wanted, context, observer).await? {
        return Ok(staged);
    }
    let home = context.staging.fresh()?;
    let made = checkout::archive(&wanted, &home, context, observer).await;
    // There may be a key in it, and other fetches may go on for long.
    let removed = run_blocking(move || fs::remove_tree(&home)).await;
    let staged = made?;
    removed?;
    Ok(staged)
}

/// Gets an ssh key, puts what ssh needs into the private directory `home`, and returns the command for git.
///
/// # Errors
/// As for any download, and [`crate::Error::Usage`] when there is no key in the secret.
pub async fn ssh_command(
    key: &Address,
    home: &Path,
    (client, retry): (&Client, &RetryPolicy),
    observer: &dyn Observer,
) -> Result<Option<String>> {
    let attempts = Attempts::new(retry, observer);
    ssh::prepare(Some(key), None, home, (client, &attempts)).await
}
