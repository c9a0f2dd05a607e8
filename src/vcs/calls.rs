//! [`Calls`] of git whose output is the log of a task.

use crate::{
    error::{Error, Kind, Result, Retry},
    http::{Attempts, RetryPolicy},
    observe::Observer,
    vcs::{
        failure::{Failure, Words},
        program::not_started,
        repository::Repository,
    },
};
use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::{Command, Output, Stdio},
};

/// The exit code for `SIGPIPE`.
const BROKEN_PIPE: u8 = 128 + 13;

/// A program that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code, or 128 more than the number of the signal that ended it.
    pub code: u8,
    /// The end of its output.
    pub said: Vec<u8>,
}

/// Where programs run so that people see what they write.
pub trait Console {
    /// Writes a line.
    fn say(&self, line: &str);
    /// Runs a program, which is shown by `arguments`, to its end.
    ///
    /// # Errors
    /// That it cannot be started.
    fn run(&self, command: Command, arguments: &[OsString]) -> impl Future<Output = Result<Ran>>;
}

/// What a checkout is made with.
pub struct Means<'a, C> {
    /// Where git runs.
    pub console: &'a C,
    /// How git is to talk ssh, if not as it does by itself.
    pub ssh_command: Option<String>,
    /// How often to try what needs a server.
    pub retry: &'a RetryPolicy,
    /// Hears of retries.
    pub observer: &'a dyn Observer,
}

/// Calls of git for a checkout.
pub(super) struct Calls<'a, C> {
    means: &'a Means<'a, C>,
    /// Where the checkout is, or will be.
    directory: &'a Path,
    /// What may not be shown as it was typed.
    repositories: Vec<(&'a str, Repository)>,
}

impl<'a, C: Console> Calls<'a, C> {
    /// Prepares for calls that concern these repositories.
    pub(super) fn new(
        means: &'a Means<'a, C>,
        directory: &'a Path,
        repositories: impl Iterator<Item = &'a String>,
    ) -> Result<Self> {
        let repositories =
            repositories.map(|typed| Ok((typed.as_str(), Repository::parse(typed)?)));
        Ok(Self {
            means,
            directory,
            repositories: repositories.collect::<Result<_>>()?,
        })
    }

    pub(super) fn console(&self) -> &'a C {
        self.means.console
    }

    /// Runs git in the checkout. `action` is what it does, as in "git cannot …".
    pub(super) async fn run(&self, action: &str, args: &[&str]) -> Result<()> {
        self.once(action, args, Some(self.directory)).await
    }

    /// Runs git in the checkout, which has to ask a server.
    pub(super) async fn ask(&self, action: &str, args: &[&str]) -> Result<()> {
        self.with_retries(action, args, Some(self.directory)).await
    }

    /// Runs git, which has to ask a server, here or in a directory.
    pub(super) async fn with_retries(
        &self,
        action: &str,
        args: &[impl AsRef<OsStr>],
        directory: Option<&Path>,
    ) -> Result<()> {
        let attempts = Attempts::new(self.means.retry, self.means.observer);
        attempts.run(|| self.once(action, args, directory)).await
    }

    /// Runs git here or in a directory.
    pub(super) async fn once(
        &self,
        action: &str,
        args: &[impl AsRef<OsStr>],
        directory: Option<&Path>,
    ) -> Result<()> {
        let mut shown = vec![OsString::from("git")];
        shown.extend(args.iter().map(|arg| self.shown(arg.as_ref())));
        let command = self.git(args, directory);
        let ran = self.means.console.run(command, &shown).await?;
        let retry = match ran.code {
            0 => return Ok(()),
            1..129 => return Err(self.failure(action, &ran.said)),
            // A server that goes away early can end git without a word.
            BROKEN_PIPE => Retry::Soon,
            // Killed, or called in a way that it does not know: the same would happen again.
            _ => Retry::Never,
        };
        Err(Error::Git {
            problem: format!("git cannot {action}: exit code {}", ran.code),
            retry,
            kind: Kind::Network,
            hint: None,
        })
    }

    /// Runs git in the checkout and returns what it writes.
    pub(super) fn output(&self, action: &str, args: &[&str]) -> Result<Vec<u8>> {
        let output = output(&mut self.git(args, Some(self.directory)))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failure(action, &output.stderr))
    }

    /// Returns the values that a key has in the user's configuration, a line each.
    pub(super) fn configured(&self, key: &str) -> Result<Vec<u8>> {
        let args = ["config", "--global", "--get-all", key];
        Ok(output(&mut self.git(&args, None))?.stdout)
    }

    fn git(&self, args: &[impl AsRef<OsStr>], directory: Option<&Path>) -> Command {
        let mut command = Command::new("git");
        command
            .args(args)
            // A minute with less than a kilobyte per second is the end of a transfer.
            .env("GIT_HTTP_LOW_SPEED_LIMIT", "1024")
            .env("GIT_HTTP_LOW_SPEED_TIME", "60")
            // Nobody is there to type.
            .env("GIT_TERMINAL_PROMPT", "0")
            // What is said is looked at.
            .env("LANGUAGE", "C");
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        // Submodules may be anywhere, and the key is for the repository.
        let is_for_submodules = args.first().is_some_and(|arg| arg.as_ref() == "submodule");
        if let (Some(ssh), false) = (&self.means.ssh_command, is_for_submodules) {
            command.env("GIT_SSH_COMMAND", ssh);
        }
        command
    }

    /// Shows an argument, without what is secret in the URL of a repository.
    pub(super) fn shown(&self, arg: &OsStr) -> OsString {
        let mut repositories = self.repositories.iter();
        let known = repositories.find(|(typed, _)| OsStr::new(typed) == arg);
        known.map_or_else(
            || arg.to_owned(),
            |(_, repository)| repository.to_string().into(),
        )
    }

    fn failure(&self, action: &str, said: &[u8]) -> Error {
        let logins = self
            .repositories
            .iter()
            .filter_map(|(_, repository)| repository.login.as_ref());
        let secrets: Vec<_> = logins.map(|login| login.secret.clone()).collect();
        Failure::new(Words::new(said, &secrets)).failure(action)
    }
}

/// Runs a program whose output is not for people.
fn output(command: &mut Command) -> Result<Output> {
    let ended = command.stdin(Stdio::null()).output();
    ended.map_err(not_started)
}
