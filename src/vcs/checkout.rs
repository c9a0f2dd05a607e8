//! A checkout by git, top to bottom: fetch, check out, submodules, pack.

use crate::{
    archive::{self, Pack},
    digest::Sha256Digest,
    error::{Error, Kind, Result, Retry},
    fetch::{Context, Staged},
    fs::{self, Context as _},
    http::Attempts,
    observe::{Event, Fetched, Observer},
    safe_url::SafeUrl,
    stream::bridge::run_blocking,
    vcs::{
        dot_git,
        failure::Failure,
        program::Git,
        ssh,
        wanted::{Revision, Wanted},
    },
};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsStr,
    io::Read,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Submodules that are fetched at once.
const JOBS: &str = "--jobs=4";

/// A commit that is here.
struct Commit {
    hash: String,
    /// When it was committed, in seconds since the epoch.
    time: i64,
}

/// A checkout in the making.
struct Work<'a> {
    wanted: &'a Wanted<'a>,
    git: Git,
    observer: &'a dyn Observer,
    /// Where in `home` the checkout is.
    tree: PathBuf,
    /// Where in `home` git writes what it says to a server.
    trace: PathBuf,
}

/// Makes the archive with git, in the empty directory `home`.
pub(super) async fn archive(
    wanted: &Wanted<'_>,
    home: &Path,
    context: &Context,
    observer: &dyn Observer,
) -> Result<Staged> {
    let start = Instant::now();
    let attempts = Attempts::new(&context.retry, observer);
    let work = Work::prepare(wanted, home, context, (&attempts, observer)).await?;
    let commit = attempts.run(|| work.obtain()).await?;
    attempts.run(|| work.check_out(&commit.hash)).await?;
    let here = Instant::now();
    if wanted.include_dot_git {
        dot_git::make_plain(&work.git, &work.tree).await?;
    }
    let directory = context.staging.fresh()?;
    let packed = work.pack(&commit, &directory, context).await?;
    observer.on_event(&Event::Finished(&Fetched {
        wait: start - context.start,
        transfer: here - start,
        unpack: here.elapsed(),
        ..packed
    }));
    Ok(Staged {
        directory,
        warnings: Vec::new(),
        unpacked: None,
    })
}

impl<'a> Work<'a> {
    async fn prepare(
        wanted: &'a Wanted<'a>,
        home: &Path,
        context: &Context,
        (attempts, observer): (&Attempts<'_>, &'a dyn Observer),
    ) -> Result<Self> {
        let home = std::path::absolute(home).context("look at", home)?;
        let tree = home.join("tree");
        fs::create_dir(&tree)?;
        let mut git = Git::find(&tree, &context.staging).await?;
        let trace = home.join("trace");
        let settings = context.client.settings();
        // A server that is busy with finding what to send sends a few bytes every five seconds.
        git.configure("http.lowSpeedLimit", "1");
        let seconds = settings.stall_timeout.as_secs().max(1);
        git.configure("http.lowSpeedTime", seconds.to_string());
        certificates(&mut git);
        if let Some(login) = &wanted.repository.login {
            git.configure(format!("url.{}.insteadOf", login.with), &login.without);
            login.secrets().iter().for_each(|secret| git.hide(secret));
        }
        let service = (&context.client, attempts);
        if let Some(command) =
            ssh::prepare(wanted.ssh_key, wanted.known_hosts, &home, service).await?
        {
            git.set("GIT_SSH_COMMAND", command);
        }
        let format = format!("--object-format={}", wanted.revision.object_format());
        git.call(&["init", "--quiet", &format])
            .run("make a repository")
            .await?;
        git.call(&["config", "remote.origin.url", &wanted.repository.location])
            .run("make a repository")
            .await?;
        Ok(Self {
            wanted,
            git,
            observer,
            tree,
            trace,
        })
    }

    /// Gets the commit: alone if the server allows, else with all branches and tags.
    async fn obtain(&self) -> Result<Commit> {
        self.observer.on_event(&Event::Started {
            url: &SafeUrl::of_file(Path::new(&self.wanted.repository.to_string())),
            size: None,
        });
        if let Revision::Exact(hash) = &self.wanted.revision {
            let alone = ["--depth=1", "--no-tags", "origin", hash];
            match self.fetch(&alone, Some(&self.trace)).await? {
                Ok(()) => return self.resolve().await,
                // In version 2 of the protocol, every commit that is there can be asked for.
                Err(failure) if failure.is_absence() && self.speaks_version_2().await => {
                    return Err(self.no_commit());
                }
                Err(failure) if failure.may_refuse_exact_commit() => {}
                Err(failure) => return Err(self.not_fetched(&failure)),
            }
        }
        let all = "+refs/heads/*:refs/remotes/origin/*";
        let mut refs = vec!["--tags", "--force", "origin", all];
        if self.wanted.revision.to_string().starts_with("HEAD") {
            refs.push("+HEAD:refs/remotes/origin/HEAD");
        }
        match self.fetch(&refs, None).await? {
            Ok(()) => self.resolve().await,
            Err(failure) => Err(self.not_fetched(&failure)),
        }
    }

    /// Fetches, and has git write what it says to the server to a file.
    async fn fetch(&self, what: &[&str], trace: Option<&Path>) -> Result<Result<(), Failure>> {
        let options = ["fetch", "--quiet", "--no-write-fetch-head"];
        let mut call = self.git.call(&[&options, what].concat());
        if let Some(trace) = trace {
            call = call.set("GIT_TRACE_PACKET", trace);
        }
        Ok(call.try_run().await?.map(drop))
    }

    fn not_fetched(&self, failure: &Failure) -> Error {
        failure.failure(&format!("fetch from {}", self.wanted.repository))
    }

    fn no_commit(&self) -> Error {
        Error::Git {
            problem: format!(
                "{} has no commit `{}`",
                self.wanted.repository, self.wanted.revision
            ),
            retry: Retry::Never,
            kind: Kind::Network,
            hint: Some(
                "check COMMIT; it may not have been pushed, or be gone since a branch was rewritten",
            ),
        }
    }

    /// Whether the server was just talked to in version 2 of git's protocol.
    async fn speaks_version_2(&self) -> bool {
        let trace = self.trace.clone();
        let trace = run_blocking(move || fs::read_to_string(&trace)).await;
        trace.is_ok_and(|trace| trace.contains("< version 2"))
    }

    /// Finds the commit in what was fetched. Names are those of tags, and then of branches.
    async fn resolve(&self) -> Result<Commit> {
        let revision = &self.wanted.revision;
        for name in [
            format!("{revision}^{{commit}}"),
            format!("origin/{revision}^{{commit}}"),
        ] {
            let parse = [
                "rev-parse",
                "--quiet",
                "--verify",
                "--end-of-options",
                &name,
            ];
            let Ok(hash) = self.git.call(&parse).try_run().await? else {
                continue;
            };
            let hash = String::from_utf8_lossy(&hash).trim().to_owned();
            let commit = self.git.call(&["cat-file", "commit", &hash]);
            let commit = commit.run("read the commit").await?;
            let time = committed_at(&commit).ok_or_else(|| {
                Error::archive(format!("commit {hash} does not say when it was made"))
            })?;
            return Ok(Commit { hash, time });
        }
        Err(self.no_commit())
    }

    async fn check_out(&self, hash: &str) -> Result<()> {
        self.git
            .call(&["checkout", "--quiet", "--force", "--detach", hash])
            .run(&format!("check out {hash}"))
            .await?;
        let update = [
            "submodule",
            "--quiet",
            "update",
            "--init",
            "--recursive",
            JOBS,
        ];
        let shallow = [&update[..], &["--depth=1"]].concat();
        let action = format!("get the submodules of {}", self.wanted.repository);
        let Err(failure) = self.git.call(&shallow).try_run().await? else {
            return Ok(());
        };
        if !failure.may_refuse_exact_commit() {
            return Err(failure.failure(&action));
        }
        // What was fetched shallowly would stay so, and keep the commit from being found.
        let deinit = ["submodule", "--quiet", "deinit", "--force", "--all"];
        self.git.call(&deinit).run(&action).await?;
        let modules = self.tree.join(".git/modules");
        run_blocking(move || fs::remove_tree(&modules)).await?;
        self.git.call(&update).run(&action).await?;
        Ok(())
    }

    /// Writes the archive to `directory`. Returns how large it is, and its digest.
    async fn pack(&self, commit: &Commit, directory: &Path, context: &Context) -> Result<Fetched> {
        let stop = Stop::default();
        let (staging, stopped) = (Arc::clone(&context.staging), Arc::clone(&stop.0));
        let (tree, path) = (self.tree.clone(), directory.join(self.wanted.file_name));
        let (prefix, mtime) = (self.wanted.prefix.clone(), commit.time);
        let without = (!self.wanted.include_dot_git).then_some(OsStr::new(".git"));
        run_blocking(move || {
            let go_on = || !stopped.load(Ordering::Relaxed);
            let pack = Pack {
                name: prefix.as_bytes(),
                mtime,
                without,
                go_on: &go_on,
            };
            archive::pack(&tree, &path, &pack)?;
            let packed = measure(&path);
            drop(staging);
            packed
        })
        .await
    }
}

/// Says to stop when it is dropped.
#[derive(Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Has git trust the same certificates as our own requests, unless it is told otherwise.
fn certificates(git: &mut Git) {
    for (ours, theirs) in [
        ("SSL_CERT_FILE", "GIT_SSL_CAINFO"),
        ("SSL_CERT_DIR", "GIT_SSL_CAPATH"),
    ] {
        let value = std::env::var_os(ours).filter(|value| !value.is_empty());
        if let (Some(value), None) = (value, std::env::var_os(theirs)) {
            // Git runs elsewhere.
            git.set(
                theirs,
                std::path::absolute(&value).map_or(value, PathBuf::into_os_string),
            );
        }
    }
}

/// Returns the committer's time of a commit, in seconds since the epoch.
fn committed_at(commit: &[u8]) -> Option<i64> {
    let headers = String::from_utf8_lossy(commit);
    let headers = headers.lines().take_while(|line| !line.is_empty());
    let mut committers = headers.filter_map(|line| line.strip_prefix("committer "));
    let mut words = committers.next()?.rsplit(' ');
    words.nth(1)?.parse().ok()
}

fn measure(path: &Path) -> Result<Fetched> {
    let mut file = fs::open(path)?;
    let (mut hasher, mut buffer, mut bytes) = (Sha256::new(), vec![0; 256 * 1024], 0);
    loop {
        let length = file.read(&mut buffer).context("read", path)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        bytes += length as u64;
    }
    Ok(Fetched {
        bytes,
        sha256: Sha256Digest::from_bytes(hasher.finalize().into()),
        wait: Duration::ZERO,
        transfer: Duration::ZERO,
        unpack: Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    use super::committed_at;

    #[test]
    fn the_committer_s_time_is_the_last_but_one_word() {
        let commit = b"tree x\nauthor A <a> 1 +0000\ncommitter B > C <b> -77 +0200\n\ncommitter D <d> 9 +0000\n";
        assert_eq!(committed_at(commit), Some(-77));
        assert_eq!(committed_at(b"tree x\n\ncommitter D <d> 9 +0000\n"), None);
    }
}
