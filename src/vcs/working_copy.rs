//! [`WorkingCopy`]: a checkout that stays, in which a task works, and which the next task finds if it is in a cache.
//!
//! The calls of git are those of taskgraph's `run-task`, in its order and with the caller's configuration, so that both
//! leave the same and can go on where the other one stopped. What is different on purpose: a clone comes into place when
//! it is whole, what a killed git has locked is unlocked, and only what can get better is tried again.

use crate::{
    error::{Error, Result},
    fs::{self, Dir},
    vcs::{
        calls::{Calls, Console, Means},
        repository::{Repository, last_segment},
    },
};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// Where a clone is made in a directory that is there already.
const CLONING: &str = ".cloning";

/// A checkout, as a task wants it.
#[derive(Clone, Debug)]
pub struct WorkingCopy {
    /// Where it is: an absolute path.
    pub directory: PathBuf,
    /// Where its commit is.
    pub head_repository: String,
    /// Where most of the history is, if that is somewhere else.
    pub base_repository: Option<String>,
    /// A commit that is wanted beside, to compare with.
    pub base_revision: Option<String>,
    /// The branch or tag to fetch, which becomes a branch here.
    pub head_ref: Option<String>,
    /// The commit, if it is not the end of that branch.
    pub head_revision: Option<String>,
    /// Whether to do without history.
    pub shallow: bool,
    /// Processes that write files at once; `0` is one for each core.
    pub workers: String,
}

impl WorkingCopy {
    /// Checks what git might take for something else.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check(&self) -> Result<()> {
        for repository in [Some(&self.head_repository), self.base_repository.as_ref()] {
            repository.map_or(Ok(()), |typed| Repository::parse(typed).map(drop))?;
        }
        for name in [&self.base_revision, &self.head_ref, &self.head_revision] {
            let Some(name) = name else { continue };
            if name.starts_with('-') || name.contains(char::is_control) {
                let name = name.escape_debug();
                let what = format!("`{name}` is no name of a branch, a tag or a commit");
                return Err(Error::usage(what));
            }
        }
        Ok(())
    }

    /// Makes the checkout, or brings the one that is there to what is wanted. Returns the hash of the commit.
    ///
    /// # Errors
    /// [`Error::Git`] by what git says; [`Error::Usage`] for what [`WorkingCopy::check`] finds; [`Error::Fs`].
    ///
    /// # Cancel safety
    /// That of [`Console::run`]. Whatever is there is made good by the next run.
    pub async fn make<C: Console>(&self, means: &Means<'_, C>) -> Result<String> {
        self.check()?;
        let repositories = [Some(&self.head_repository), self.base_repository.as_ref()];
        let calls = Calls::new(means, &self.directory, repositories.into_iter().flatten())?;
        let work = Work { copy: self, calls };
        work.configure().await?;
        if work.is_there()? {
            work.unlock()?;
            let origin = ["remote", "set-url", "origin", self.origin()];
            work.calls.run("name the repository", &origin).await?;
        } else {
            work.clone().await?;
        }
        if let Some(base) = &self.base_revision {
            work.fetch("origin", &[base], false).await?;
        }
        work.fetch_head().await?;
        work.switch().await?;
        if self.directory.join(".gitmodules").exists() {
            work.calls
                .run("get submodules", &["submodule", "init", "--quiet"])
                .await?;
            work.calls
                .ask("get submodules", &["submodule", "update", "--force"])
                .await?;
        }
        work.clean()?;
        work.commit()
    }

    /// The repository that is called `origin`.
    fn origin(&self) -> &str {
        self.base_repository
            .as_ref()
            .unwrap_or(&self.head_repository)
    }
}

/// A checkout in the making.
struct Work<'a, C> {
    copy: &'a WorkingCopy,
    calls: Calls<'a, C>,
}

impl<C: Console> Work<'_, C> {
    /// Has git use what another user has made, and write files with several processes. The task's command needs that as
    /// well, so it is written to the user's configuration.
    async fn configure(&self) -> Result<()> {
        let key = "safe.directory";
        let known = self.calls.configured(key)?;
        let directory = self.copy.directory.as_os_str();
        let is_known = known
            .split(|byte| *byte == b'\n')
            .any(|line| line == directory.as_encoded_bytes());
        if !is_known {
            let mut args: Vec<OsString> =
                ["config", "--global", "--add", key].map(Into::into).into();
            args.push(directory.to_owned());
            self.calls.once("configure itself", &args, None).await?;
        }
        let workers = ["config", "--global", "checkout.workers", &self.copy.workers];
        self.calls.once("configure itself", &workers, None).await
    }

    /// Whether there is a checkout. A directory with nothing in it is none.
    fn is_there(&self) -> Result<bool> {
        let directory = &self.copy.directory;
        if directory.symlink_metadata().is_err() {
            return Ok(false);
        }
        if directory.join(".git").symlink_metadata().is_ok() {
            return Ok(true);
        }
        let names = Dir::open(directory)?.names()?;
        if names.iter().all(|name| name == CLONING) {
            return Ok(false);
        }
        // Git would look for a repository around it, and work in that one.
        Err(Error::Usage {
            what: format!(
                "{} is not empty, and not a checkout: there is no .git in it",
                directory.display()
            ),
            hint: Some(
                "remove what is in it, or purge the cache that it is in; or name another directory"
                    .into(),
            ),
        })
    }

    /// Removes the locks of a git that was killed. There is no other: nobody else has the cache meanwhile.
    fn unlock(&self) -> Result<()> {
        let mut left = vec![self.copy.directory.join(".git")];
        while let Some(directory) = left.pop() {
            let is_objects = directory.file_name() == Some(OsStr::new("objects"));
            if !fs::is_directory(&directory) {
                continue;
            }
            for name in Dir::open(&directory)?.names()? {
                let path = directory.join(&name);
                if fs::is_directory(&path) {
                    // There are many with two letters, and what is in them has the names of its content.
                    if !is_objects || name.len() != 2 {
                        left.push(path);
                    }
                } else if path.extension() == Some(OsStr::new("lock")) {
                    let line = format!("removing {}, which was left behind", path.display());
                    self.calls.console().say(&line);
                    fs::remove_file(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Clones beside, so that what is killed leaves nothing that looks like a checkout.
    async fn clone(&self) -> Result<()> {
        let directory = &self.copy.directory;
        // It may be mounted, or behind a link, and then nothing can be put in its place.
        let is_kept = fs::leads_to_directory(directory);
        let beside = if is_kept {
            directory.join(CLONING)
        } else {
            beside(directory)?
        };
        let mut args: Vec<OsString> = vec!["clone".into()];
        if self.copy.shallow {
            args.push("--depth=1".into());
        }
        // What is wanted is checked out later, and files that cannot be written are no reason to transfer all again.
        args.push("--no-checkout".into());
        args.push(self.copy.origin().into());
        args.push(beside.clone().into());
        let attempt = || async {
            fs::remove_tree(&beside)?;
            self.calls.once("clone", &args, None).await
        };
        self.calls.again(attempt).await?;
        if !is_kept {
            return fs::rename(&beside, directory);
        }
        fs::rename(&beside.join(".git"), &directory.join(".git"))?;
        fs::remove_tree(&beside)
    }

    async fn fetch_head(&self) -> Result<()> {
        let copy = self.copy;
        let (name, revision) = (copy.head_ref.as_deref(), copy.head_revision.as_deref());
        // A tag may be meant. Only the repository itself can have it, and an older one of that name may be here.
        let tags = copy.base_repository.as_ref() == Some(&copy.head_repository)
            && name.is_some_and(|name| !name.starts_with("refs/heads/"));
        let mut targets: Vec<&str> = name.into_iter().collect();
        if name.is_none() || copy.shallow {
            targets.extend(revision);
        }
        targets.dedup();
        let is_origin = copy.head_repository == copy.origin();
        let remote = if is_origin {
            "origin"
        } else {
            &copy.head_repository
        };
        self.fetch(remote, &targets, tags).await
    }

    async fn fetch(&self, remote: &str, targets: &[&str], tags: bool) -> Result<()> {
        let mut args = vec!["fetch"];
        if tags {
            // By force: a tag may have moved.
            args.extend(["--tags", "--force"]);
        }
        if self.copy.shallow {
            args.push("--depth=1");
        }
        args.push(remote);
        args.extend(targets);
        self.calls.ask("fetch", &args).await
    }

    /// Checks the commit out, by force, on a branch if there is a name for one.
    async fn switch(&self) -> Result<()> {
        let mut args = vec!["checkout", "-f"];
        if let Some(name) = &self.copy.head_ref {
            let name = name
                .strip_prefix("refs/heads/")
                .or_else(|| name.strip_prefix("refs/tags/"));
            args.extend([
                "-B",
                name.unwrap_or(self.copy.head_ref.as_deref().unwrap_or_default()),
            ]);
        }
        args.push(self.copy.head_revision.as_deref().unwrap_or("FETCH_HEAD"));
        // Filters may need a server, as that of LFS does.
        self.calls.ask("check out", &args).await
    }

    /// Removes all that is not of the commit, also what is ignored, and repositories of others.
    fn clean(&self) -> Result<()> {
        let console = self.calls.console();
        console.say("cleaning git checkout...");
        let list = ["ls-files", "--others", "--directory", "-z"];
        let found = self.calls.output("list what is not of the commit", &list)?;
        for name in found
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let name = name.strip_suffix(b"/").unwrap_or(name);
            let path = self.copy.directory.join(OsString::from_vec(name.to_vec()));
            console.say(&format!("removing {}", path.display()));
            if fs::is_directory(&path) {
                fs::remove_tree(&path)?;
            } else {
                fs::remove_file(&path)?;
            }
        }
        console.say("successfully cleaned git checkout!");
        Ok(())
    }

    /// Returns the hash of the commit that is checked out, and tells Treeherder.
    fn commit(&self) -> Result<String> {
        let hash = self
            .calls
            .output("tell the commit", &["rev-parse", "--verify", "HEAD"])?;
        let hash = String::from_utf8_lossy(&hash).trim().to_owned();
        let link = self.calls.shown(OsStr::new(&self.copy.head_repository));
        let mut link = link.to_string_lossy().into_owned();
        let mut name = link.clone();
        if link.starts_with("https://github.com") {
            last_segment(&link).clone_into(&mut name);
            link = format!("{}/commit/{hash}", link.trim_end_matches('/'));
        }
        self.calls.console().say(&format!(
            "TinderboxPrint:<a href='{link}' title='Built from {name} commit {hash}'>{hash}</a>"
        ));
        Ok(hash)
    }
}

/// Returns where a clone is made that then becomes a directory.
fn beside(directory: &Path) -> Result<PathBuf> {
    let name = directory.file_name().ok_or_else(|| {
        let what = format!("`{}` cannot be a checkout", directory.display());
        Error::usage(what)
    })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(CLONING);
    Ok(directory.with_file_name(hidden))
}
