//! Credential helpers: programs called `docker-credential-NAME`, which are asked on their standard input and answer on
//! their standard output.

use crate::{
    error::{Error, Result},
    oci::registry::login::Login,
    stream::bridge::run_blocking,
};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use std::{
    io::{ErrorKind, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

/// How long a helper may take. It may have to ask somebody, but there is nobody where this runs.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether a helper has ended.
const POLL: Duration = Duration::from_millis(10);

/// How long the end of what a helper has said may take to arrive.
const REST: Duration = Duration::from_secs(5);

/// The most that a helper says, in bytes.
const MAX_ANSWER: u64 = 256 * 1024;

/// How helpers say that they know nothing, and that is no failure.
const NOT_FOUND: &str = "credentials not found in native keychain";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

/// Asks a helper for the credentials of a server.
///
/// # Errors
/// [`Error::Usage`] when there is no such helper, or when it fails.
///
/// # Cancel safety
/// When dropped, the helper is killed.
pub(super) async fn get(helper: &str, server: &str) -> Result<Option<Login>> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !helper.bytes().all(known) {
        return Err(Error::usage(format!(
            "`{}` cannot be the name of a credential helper",
            helper.escape_debug()
        )));
    }
    let program = format!("docker-credential-{helper}");
    let (server, cancelled) = (server.to_owned(), Arc::new(AtomicBool::new(false)));
    let _ending = Ending(Arc::clone(&cancelled));
    let job = move || Helper { program, cancelled }.ask(&server);
    run_blocking(job).await
}

/// Tells a job that nobody waits for it any more.
struct Ending(Arc<AtomicBool>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Helper {
    program: String,
    cancelled: Arc<AtomicBool>,
}

impl Helper {
    fn ask(&self, server: &str) -> Result<Option<Login>> {
        let mut child = self.start()?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (sender, answer) = mpsc::channel();
        // Nobody waits for its end: who else the helper started may hold its output open for ever.
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let read = stdout.map(|stdout| stdout.take(MAX_ANSWER).read_to_end(&mut said));
            // What cannot be read is missing in the answer, and that is told.
            let _ = (read, sender.send(said));
        });
        if let Some(mut stdin) = stdin {
            // Whoever does not read it says why.
            let _ = stdin.write_all(server.as_bytes());
        }
        let ended = self.wait(&mut child)?;
        let said = answer.recv_timeout(REST);
        let said = said.map_err(|_silence| self.failed("it has ended, and its output does not"))?;
        let said = String::from_utf8_lossy(&said);
        if ended.success() {
            // The parser's own words may repeat the secret.
            let answer: Answer = serde_json::from_str(&said)
                .map_err(|_secret| self.failed("its answer is not what helpers answer"))?;
            return Ok(Some(Login::of_helper(answer.username, answer.secret)));
        }
        match said.trim().lines().next().unwrap_or_default() {
            NOT_FOUND => Ok(None),
            "" => Err(self.failed("it says nothing")),
            words => {
                let words: String = words
                    .chars()
                    .take(200)
                    .flat_map(char::escape_debug)
                    .collect();
                Err(self.failed(&words))
            }
        }
    }

    fn start(&self) -> Result<Child> {
        let started = Command::new(&self.program)
            .arg("get")
            // Signals at a terminal are for us: we end it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        started.map_err(|err| match err.kind() {
            ErrorKind::NotFound => Error::Usage {
                what: format!("the credential helper `{}` cannot be found", self.program),
                hint: Some(
                    "install it, or remove its name from credHelpers or credsStore of the file with credentials"
                        .into(),
                ),
            },
            _ => self.failed(&err.to_string()),
        })
    }

    /// Waits for the end, and makes one after a while.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            let ended = child.try_wait();
            if let Some(status) = ended.map_err(|err| self.failed(&err.to_string()))? {
                return Ok(status);
            }
            let cancelled = self.cancelled.load(Ordering::Relaxed);
            if cancelled || start.elapsed() > PATIENCE {
                // With all that it started, so that nobody holds its output open.
                let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
                let _ = child.wait();
                return Err(if cancelled {
                    Error::Cancelled
                } else {
                    self.failed(&format!("it does not answer for {PATIENCE:?}"))
                });
            }
            std::thread::sleep(POLL);
        }
    }

    fn failed(&self, problem: &str) -> Error {
        Error::usage(format!(
            "the credential helper `{}` fails: {problem}",
            self.program
        ))
    }
}
