//! [`Git`]: the `git` program as a child process.
//!
//! The environment is the caller's, so that proxies, certificates, credential helpers and ssh's agent work as they do at
//! a prompt, and so do the system's and the user's configuration. What would change the content of a checkout, run
//! somebody's code or wait for somebody to type is overruled: see [`OVERRULED`].

use crate::{
    error::{Error, Result},
    fs::Staging,
    stream::bridge::run_blocking,
    vcs::failure::{BROKEN_PIPE, Failure, Words},
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    ffi::{OsStr, OsString},
    io::{self, ErrorKind, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The oldest version that reads all of the configuration from the environment (`GIT_CONFIG_COUNT` came with 2.31,
/// `GIT_CONFIG_GLOBAL` with 2.32).
const OLDEST: (u32, u32) = (2, 32);

/// The most of what git says that is kept, in bytes from the end.
const WORDS: usize = 16 * 1024;

/// Configuration that comes before that of the system and the user.
const OVERRULED: [(&str, &str); 33] = [
    // A checkout has the bytes that its commit says. Filters, such as that of LFS, are left to whoever installed them.
    ("core.autocrlf", "false"),
    ("core.eol", "lf"),
    ("core.safecrlf", "false"),
    ("core.symlinks", "true"),
    ("core.fileMode", "true"),
    ("core.ignoreCase", "false"),
    ("core.attributesFile", "/dev/null"),
    ("core.sparseCheckout", "false"),
    // Nobody's code runs.
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("init.templateDir", ""),
    // Only these ways lead to a repository: no `ext::`, no helpers of other names. `user` is git's own default: the
    // caller may name a local repository, a repository may not.
    ("protocol.allow", "never"),
    ("protocol.https.allow", "always"),
    ("protocol.http.allow", "always"),
    ("protocol.ssh.allow", "always"),
    ("protocol.git.allow", "always"),
    ("protocol.file.allow", "user"),
    ("credential.interactive", "false"),
    // Repositories here live for minutes, and what is in them is predictable.
    ("core.logAllRefUpdates", "false"),
    ("core.fsync", "none"),
    ("core.splitIndex", "false"),
    ("core.untrackedCache", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("fetch.writeCommitGraph", "false"),
    ("submodule.recurse", "false"),
    ("transfer.bundleURI", "false"),
    ("clone.defaultRemoteName", "origin"),
    ("init.defaultBranch", "main"),
    ("init.defaultRefFormat", "files"),
    ("advice.detachedHead", "false"),
    // As many threads as there are cores.
    ("checkout.workers", "0"),
];

/// More of it for repositories that are published, and which nothing else is to configure.
const PUBLISHED: [(&str, &str); 4] = [
    ("index.threads", "1"),
    ("index.version", "2"),
    ("pack.threads", "1"),
    ("pack.writeReverseIndex", "false"),
];

/// Variables that are for another repository than ours, as those of a hook are, or would change what is made.
const REMOVED: [&str; 20] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_ATTR_SOURCE",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_CONFIG_PARAMETERS",
    "GIT_DEFAULT_HASH",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NAMESPACE",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_TEMPLATE_DIR",
    "GIT_WORK_TREE",
];

/// How every call of the program is made.
pub(super) struct Git {
    /// Where the program runs.
    directory: PathBuf,
    /// More configuration, and what may not be shown.
    configuration: Vec<(String, String)>,
    variables: Vec<(&'static str, OsString)>,
    secrets: Vec<String>,
    /// What the program works in lives until it has ended.
    staging: Arc<Staging>,
}

impl Git {
    /// Prepares to run the program in `directory`, which is in `staging`.
    ///
    /// # Errors
    /// [`Error::Usage`] when the program is missing or too old.
    pub(super) async fn find(directory: &Path, staging: &Arc<Staging>) -> Result<Self> {
        let git = Self {
            directory: directory.to_owned(),
            configuration: Vec::new(),
            variables: Vec::new(),
            secrets: Vec::new(),
            staging: Arc::clone(staging),
        };
        let said = git.call(&["version"]).run("tell its version").await?;
        let said = String::from_utf8_lossy(&said);
        match version(&said) {
            Some(version) if version < OLDEST => Err(Error::usage(format!(
                "{} is too old: version {}.{} or newer is needed",
                said.trim(),
                OLDEST.0,
                OLDEST.1
            ))),
            _ => Ok(git),
        }
    }

    /// Adds configuration, which is passed where nobody else sees it.
    pub(super) fn configure(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.configuration.push((key.into(), value.into()));
    }

    /// Sets a variable.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.variables.push((name, value.into()));
    }

    /// Keeps a text out of messages.
    pub(super) fn hide(&mut self, secret: &str) {
        if !secret.is_empty() {
            self.secrets.push(secret.to_owned());
        }
    }

    /// Prepares a call.
    pub(super) fn call<A: AsRef<OsStr>>(&self, args: &[A]) -> Call<'_> {
        Call {
            git: self,
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            variables: Vec::new(),
            input: String::new(),
            published: false,
        }
    }

    fn command(&self, args: &[OsString], published: bool) -> Command {
        let mut command = Command::new("git");
        command
            .args(args)
            .current_dir(&self.directory)
            // Signals at a terminal are for us: we end it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for variable in REMOVED {
            command.env_remove(variable);
        }
        command
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ATTR_NOSYSTEM", "1")
            // What is said is looked at.
            .env("LC_ALL", "C")
            // Also ssh must not wait for somebody to type.
            .env("SSH_ASKPASS_REQUIRE", "force")
            .env("SSH_ASKPASS", "false");
        let mut count = 0;
        if published {
            command
                .env("GIT_CONFIG_NOSYSTEM", "1")
                .env("GIT_CONFIG_GLOBAL", "/dev/null");
        } else {
            // Behind the caller's own, so that ours counts.
            let theirs = std::env::var("GIT_CONFIG_COUNT").ok();
            count = theirs.and_then(|text| text.parse().ok()).unwrap_or(0);
        }
        let more: &[_] = if published { &PUBLISHED } else { &[] };
        let ours = OVERRULED.iter().chain(more).copied();
        let given = self
            .configuration
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()));
        for (key, value) in ours.chain(given) {
            command
                .env(format!("GIT_CONFIG_KEY_{count}"), key)
                .env(format!("GIT_CONFIG_VALUE_{count}"), value);
            count += 1;
        }
        command.env("GIT_CONFIG_COUNT", count.to_string());
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }
}

/// One call of the program.
pub(super) struct Call<'a> {
    git: &'a Git,
    args: Vec<OsString>,
    variables: Vec<(&'static str, OsString)>,
    input: String,
    published: bool,
}

impl Call<'_> {
    /// Sets a variable for this call.
    pub(super) fn set(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// Passes a few bytes to its standard input.
    pub(super) fn input(mut self, text: impl Into<String>) -> Self {
        self.input = text.into();
        self
    }

    /// Does without the configuration of system and user, since the result shows it.
    pub(super) fn published(mut self) -> Self {
        self.published = true;
        self
    }

    /// Runs to the end and returns standard output. `action` is what it does, as in "git cannot …".
    ///
    /// # Errors
    /// [`Error::Git`] by what the program says; [`Error::Usage`] when there is none.
    ///
    /// # Cancel safety
    /// When dropped, the program and all that it started are killed. They are gone before the staging area is.
    pub(super) async fn run(self, action: &str) -> Result<Vec<u8>> {
        self.try_run().await?.map_err(|words| words.failure(action))
    }

    /// Runs to the end. The inner error is what the program says when it fails.
    ///
    /// # Errors
    /// As [`Call::run`], but for what the program says.
    pub(super) async fn try_run(self) -> Result<Result<Vec<u8>, Failure>> {
        let mut command = self.git.command(&self.args, self.published);
        command.envs(self.variables);
        let family = Arc::new(Family::default());
        let ending = Ending(Arc::clone(&family));
        let (staging, input) = (Arc::clone(&self.git.staging), self.input);
        let ended = run_blocking(move || {
            let ended = family.run(command, input.as_bytes());
            // Only now may it be removed.
            drop(staging);
            ended
        })
        .await;
        drop(ending);
        let (success, output, words) = ended?;
        Ok(if success {
            Ok(output)
        } else {
            Err(Failure::new(Words::new(&words, &self.git.secrets)))
        })
    }
}

/// The program and whatever it starts: a process group.
#[derive(Default)]
struct Family(Mutex<State>);

#[derive(Default)]
enum State {
    #[default]
    Idle,
    Runs(Pid),
    Cancelled,
}

/// Kills a family when it is dropped.
struct Ending(Arc<Family>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let State::Runs(leader) = *state {
            // Nobody is left if that fails.
            let _ = kill_process_group(leader, Signal::KILL);
        }
        *state = State::Cancelled;
    }
}

impl Family {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the program until nobody of the family is left who could write. Returns whether it succeeded, its output, and
    /// the end of what it said.
    fn run(&self, command: Command, input: &[u8]) -> Result<(bool, Vec<u8>, Vec<u8>)> {
        let mut child = self.start(command)?;
        let (stdin, stdout, stderr) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (output, words) = std::thread::scope(|scope| {
            let words = scope.spawn(|| stderr.map_or(Ok(Vec::new()), tail));
            if let Some(mut stdin) = stdin {
                // Whoever does not read it says why.
                let _ = stdin.write_all(input);
            }
            let mut output = Vec::new();
            let read = stdout.map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut output));
            let words = words
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (read.map(|_| output), words)
        });
        {
            let mut state = self.state();
            if matches!(*state, State::Cancelled) {
                let _ = child.wait();
                return Err(Error::Cancelled);
            }
            // From here on the number may be somebody else's.
            *state = State::Idle;
        }
        let status = child.wait().map_err(broken)?;
        let (output, mut words) = (output.map_err(broken)?, words.map_err(broken)?);
        if status.signal() == Some(Signal::PIPE.as_raw()) {
            words.extend_from_slice(BROKEN_PIPE.as_bytes());
        }
        Ok((status.success(), output, words))
    }

    fn start(&self, mut command: Command) -> Result<Child> {
        let mut state = self.state();
        if matches!(*state, State::Cancelled) {
            return Err(Error::Cancelled);
        }
        let child = command.spawn().map_err(not_started)?;
        *state = State::Runs(Pid::from_child(&child));
        Ok(child)
    }
}

/// Makes the error for a program that did not start.
pub(super) fn not_started(err: io::Error) -> Error {
    match err.kind() {
        ErrorKind::NotFound => Error::Usage {
            what: "the program `git` cannot be found".into(),
            hint: Some("install git, or add its directory to PATH".into()),
        },
        _ => broken(err),
    }
}

fn broken(source: io::Error) -> Error {
    Error::Fs {
        action: "run",
        path: "git".into(),
        source,
    }
}

/// Reads to the end and returns the last bytes.
fn tail(mut from: impl Read) -> io::Result<Vec<u8>> {
    let (mut words, mut buffer) = (Vec::new(), vec![0; WORDS]);
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(words);
        }
        words.extend_from_slice(&buffer[..length]);
        words.drain(..words.len().saturating_sub(WORDS));
    }
}

/// Returns major and minor number, from words like `git version 2.47.3`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split_whitespace().nth(2)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{tail, version};

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version("git version 2.47.3\n"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("hub version"), None);
    }

    #[test]
    fn only_the_end_of_what_is_said_is_kept() {
        let said = [vec![b'a'; 100_000], b"fatal: the end".to_vec()].concat();
        let kept = tail(&said[..]).unwrap();
        assert!(kept.len() <= super::WORDS && kept.ends_with(b"fatal: the end"));
    }
}
