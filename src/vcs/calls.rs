//! [`Calls`] of git whose output is the log of a task.

use crate::{
    error::{Error, Kind, Result, Retry},
    http::{Attempts, RetryPolicy},
    observe::Observer,
    vcs::{
        failure::{BROKEN_PIPE, Failure, Words},
        program::not_started,
        repository::{Login, Repository},
    },
};
use std::{
    ffi::{OsStr, OsString},
    path::Path,
    process::{Command, Output, Stdio},
};

/// The exit code for `SIGPIPE`.
const BY_BROKEN_PIPE: u8 = 128 + 13;

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
    /// Whether somebody has asked to end, so that nothing more is to be run.
    fn is_interrupted(&self) -> bool;
    /// Runs a program, which is shown by `arguments`, to its end. Its output is shown without `secrets`.
    ///
    /// # Errors
    /// That it cannot be started.
    fn run(
        &self,
        command: Command,
        arguments: &[OsString],
        secrets: &[String],
    ) -> impl Future<Output = Result<Ran>>;
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
    /// What git may not show, either.
    secrets: Vec<String>,
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
        let repositories = repositories.collect::<Result<Vec<_>>>()?;
        let logins = repositories
            .iter()
            .filter_map(|(_, repository)| repository.login.as_ref());
        Ok(Self {
            means,
            directory,
            secrets: logins.flat_map(Login::secrets).collect(),
            repositories,
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
        self.again(|| self.once(action, args, Some(self.directory)))
            .await
    }

    /// Makes an attempt at what needs a server, and others where they can help.
    pub(super) async fn again<F: Future<Output = Result<()>>>(
        &self,
        attempt: impl FnMut() -> F,
    ) -> Result<()> {
        let attempts = Attempts::new(self.means.retry, self.means.observer);
        attempts.run(attempt).await
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
        self.refuse_if_interrupted()?;
        let console = self.means.console;
        let ran = console.run(command, &shown, &self.secrets).await?;
        match ran.code {
            0 => Ok(()),
            BY_BROKEN_PIPE => Err(self.failure(action, BROKEN_PIPE.as_bytes())),
            // Killed, or called in a way that it does not know: the same would happen again.
            code @ 129.. => Err(Error::Git {
                problem: format!("git cannot {action}: exit code {code}"),
                retry: Retry::Never,
                kind: Kind::Network,
                hint: None,
            }),
            _ => Err(self.failure(action, &ran.said)),
        }
    }

    /// Runs git in the checkout and returns what it writes.
    pub(super) fn output(&self, action: &str, args: &[&str]) -> Result<Vec<u8>> {
        self.refuse_if_interrupted()?;
        let output = output(&mut self.git(args, Some(self.directory)))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(self.failure(action, &output.stderr))
    }

    /// Returns the values that a key has in the user's configuration, a line each.
    pub(super) fn configured(&self, key: &str) -> Result<Vec<u8>> {
        self.refuse_if_interrupted()?;
        let args = ["config", "--global", "--get-all", key];
        Ok(output(&mut self.git(&args, None))?.stdout)
    }

    fn refuse_if_interrupted(&self) -> Result<()> {
        if self.means.console.is_interrupted() {
            return Err(Error::Cancelled);
        }
        Ok(())
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
            // A checkout that is damaged is not to be taken for a part of what is around it.
            if let Some(parent) = directory.parent() {
                command.env("GIT_CEILING_DIRECTORIES", parent);
            }
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
        Failure::new(Words::new(said, &self.secrets)).failure(action)
    }
}

/// Runs a program whose output is not for people.
fn output(command: &mut Command) -> Result<Output> {
    let ended = command.stdin(Stdio::null()).output();
    ended.map_err(not_started)
}

#[cfg(test)]
mod tests {
    use super::{BY_BROKEN_PIPE, Calls, Console, Means, Ran};
    use crate::{error::Result, http::RetryPolicy};
    use std::{
        ffi::{OsStr, OsString},
        path::Path,
        process::Command,
        sync::Mutex,
        time::Duration,
    };

    /// Runs nothing, and answers with these exit codes and words.
    struct Scripted {
        answers: Mutex<Vec<(u8, &'static str)>>,
        lines: Mutex<Vec<String>>,
        ssh: Mutex<Vec<bool>>,
    }

    impl Scripted {
        fn new(answers: &[(u8, &'static str)]) -> Self {
            Self {
                answers: Mutex::new(answers.iter().rev().copied().collect()),
                lines: Mutex::default(),
                ssh: Mutex::default(),
            }
        }
    }

    impl Console for Scripted {
        fn say(&self, _line: &str) {}

        fn is_interrupted(&self) -> bool {
            self.answers.lock().unwrap().is_empty()
        }

        async fn run(
            &self,
            command: Command,
            arguments: &[OsString],
            _secrets: &[String],
        ) -> Result<Ran> {
            let line = arguments.join(OsStr::new(" "));
            self.lines.lock().unwrap().push(line.into_string().unwrap());
            let has_key = command
                .get_envs()
                .any(|(name, value)| name == "GIT_SSH_COMMAND" && value.is_some());
            self.ssh.lock().unwrap().push(has_key);
            let (code, said) = self.answers.lock().unwrap().pop().unwrap();
            Ok(Ran {
                code,
                said: said.into(),
            })
        }
    }

    fn means<'a>(console: &'a Scripted, retry: &'a RetryPolicy) -> Means<'a, Scripted> {
        Means {
            console,
            ssh_command: None,
            retry,
            observer: &(),
        }
    }

    /// Asks once, and returns how often the console was.
    async fn asked(answers: &[(u8, &'static str)]) -> (bool, usize) {
        let console = Scripted::new(answers);
        let retry = RetryPolicy {
            attempts: 4,
            base: Duration::ZERO,
            ..RetryPolicy::default()
        };
        let means = means(&console, &retry);
        let calls = Calls::new(&means, Path::new("/"), std::iter::empty()).unwrap();
        let done = calls.ask("fetch", &["fetch"]).await.is_ok();
        let count = console.lines.lock().unwrap().len();
        (done, count)
    }

    #[tokio::test]
    async fn only_what_can_pass_is_asked_again() {
        let away = (128, "fatal: unable to connect to h");
        assert_eq!(asked(&[away, away, (0, "")]).await, (true, 3));
        assert_eq!(asked(&[away; 4]).await, (false, 4));
        assert_eq!(asked(&[(BY_BROKEN_PIPE, ""), (0, "")]).await, (true, 2));
        for lasting in [
            (143, ""),
            (129, "usage: "),
            (128, "repository 'x' not found"),
        ] {
            assert_eq!(asked(&[lasting]).await, (false, 1), "{lasting:?}");
        }
    }

    #[tokio::test]
    async fn nothing_is_run_for_who_asks_to_end() {
        let away = (128, "fatal: unable to connect to h");
        assert_eq!(asked(&[away]).await, (false, 1));
        let console = Scripted::new(&[]);
        let retry = RetryPolicy::default();
        let means = means(&console, &retry);
        let calls = Calls::new(&means, Path::new("/"), std::iter::empty()).unwrap();
        assert!(calls.run("do", &["version"]).await.is_err());
        assert!(calls.output("do", &["version"]).is_err());
        assert!(console.lines.into_inner().unwrap().is_empty());
    }

    #[tokio::test]
    async fn logins_are_not_shown_and_submodules_get_no_key() {
        let console = Scripted::new(&[(0, ""); 2]);
        let retry = RetryPolicy::default();
        let means = Means {
            ssh_command: Some("ssh".into()),
            ..means(&console, &retry)
        };
        let url = "https://me:s3cret@h/r".to_owned();
        let calls = Calls::new(&means, Path::new("/"), [&url].into_iter()).unwrap();
        calls.ask("fetch", &["fetch", &url]).await.unwrap();
        calls.run("do", &["submodule", "init"]).await.unwrap();
        let lines = console.lines.into_inner().unwrap();
        assert!(!lines[0].contains("s3cret"), "{lines:?}");
        assert_eq!(lines[1], "git submodule init");
        assert_eq!(console.ssh.into_inner().unwrap(), [true, false]);
    }
}
