//! A temporary directory and the real binary in it, with an environment that holds only what a test sets.
//!
//! Whatever fails is reported whole: command line, exit code, both outputs and the tree on disk.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write as _};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::archives::sha256_hex;
use super::server::Server;
use super::tree::Tree;

/// No run of the binary may last longer.
const RUN_BOUND: Duration = Duration::from_secs(40);
/// How often conditions outside of the server are looked at.
const POLL: Duration = Duration::from_millis(2);

/// A task id of the right shape.
pub(crate) const TASK_A: &str = "aaaaaaaaQ0CabcdefghijA";
/// Another task id.
pub(crate) const TASK_B: &str = "bbbbbbbbR1GabcdefghijQ";

/// A directory that vanishes with the value. Tests write to `fetches/` and `out/` below it; everything else
/// there is a place from where escapes show.
pub(crate) struct Sandbox {
    dir: TempDir,
    root: PathBuf,
}

impl Sandbox {
    /// Makes a fresh, empty sandbox.
    pub(crate) fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("fetch-content-it-")
            .tempdir()
            .expect("make a temporary directory");
        let root = dir
            .path()
            .canonicalize()
            .expect("resolve the temporary directory");
        Self { dir, root }
    }

    /// A path in the sandbox.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// Where `task-artifacts` puts things: `fetches`.
    pub(crate) fn fetches(&self) -> PathBuf {
        self.path("fetches")
    }

    /// Writes a file and the directories above it.
    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        let parent = path.parent().expect("a path in the sandbox");
        fs::create_dir_all(parent).expect("make directories in the sandbox");
        fs::write(&path, content).expect("write a file in the sandbox");
        path
    }

    /// Reads a file.
    pub(crate) fn read(&self, relative: &str) -> Vec<u8> {
        let path = self.path(relative);
        fs::read(&path)
            .unwrap_or_else(|err| panic!("cannot read {}: {err}\n{}", path.display(), self.tree()))
    }

    /// The listing of the whole sandbox.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(&self.root)
    }

    /// The listing of `fetches`.
    pub(crate) fn fetched(&self) -> Tree {
        Tree::of(self.fetches())
    }

    /// Panics if anything at all is in the sandbox.
    pub(crate) fn assert_empty(&self, outcome: &Outcome) {
        let tree = self.tree();
        assert!(tree.is_empty(), "something is left:\n{tree}\n{outcome:?}");
    }

    /// The binary without arguments. Retries wait for milliseconds only, and there are few.
    pub(crate) fn binary(&self) -> Invocation<'_> {
        self.program(env!("CARGO_BIN_EXE_fetch-content"))
            .env("FETCH_CONTENT_RETRY_BASE_MS", "10")
            .env("FETCH_CONTENT_ATTEMPTS", "5")
    }

    /// Any program in the same environment.
    pub(crate) fn program(&self, program: impl AsRef<OsStr>) -> Invocation<'_> {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.root);
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        Invocation {
            command,
            stdin: Vec::new(),
            sandbox: self,
        }
    }

    /// `static-url` for content that is known: `--sha256` and `--size` are those of `content`.
    pub(crate) fn static_url(
        &self,
        content: impl AsRef<[u8]>,
        url: &str,
        dest: &str,
    ) -> Invocation<'_> {
        let content = content.as_ref();
        let (sha256, size) = (sha256_hex(content), content.len().to_string());
        self.binary()
            .args(["static-url", "--sha256", &sha256, "--size", &size, url])
            .args([self.path(dest)])
    }

    /// `task-artifacts` into `fetches`, with the server as queue and as proxy.
    pub(crate) fn task_artifacts(&self, server: &Server, fetches: &Value) -> Invocation<'_> {
        self.binary()
            .args(["task-artifacts"])
            .env("MOZ_FETCHES", fetches.to_string())
            .env("MOZ_FETCHES_DIR", self.fetches())
            .env("TASKCLUSTER_ROOT_URL", server.root())
            .env("TASKCLUSTER_PROXY_URL", server.root())
    }

    fn filtered(&self, text: &str) -> String {
        let text = text.replace(&self.root.display().to_string(), "[TMP]");
        let text = text.replace(&self.dir.path().display().to_string(), "[TMP]");
        filter_times(&filter_ports(&text))
    }
}

/// The path of an artifact on a queue (or a proxy); `encoded` is the name as it travels.
pub(crate) fn artifact(task: &str, encoded: &str) -> String {
    format!("/api/queue/v1/task/{task}/artifacts/{encoded}")
}

/// The path of a task's chain of trust.
pub(crate) fn chain_of_trust(task: &str) -> String {
    artifact(task, "public/chain-of-trust.json")
}

/// A chain of trust that vouches for these contents.
pub(crate) fn vouching_for(artifacts: &[(&str, &[u8])]) -> String {
    let artifacts: serde_json::Map<String, Value> = artifacts
        .iter()
        .map(|(name, content)| {
            (
                (*name).to_owned(),
                serde_json::json!({"sha256": sha256_hex(content)}),
            )
        })
        .collect();
    serde_json::json!({"chainOfTrustVersion": 1, "taskId": TASK_A, "runId": 0, "artifacts": artifacts})
        .to_string()
}

/// A command about to run.
pub(crate) struct Invocation<'a> {
    command: Command,
    stdin: Vec<u8>,
    sandbox: &'a Sandbox,
}

impl<'a> Invocation<'a> {
    /// Adds arguments.
    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Removes an environment variable.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Feeds standard input.
    pub(crate) fn stdin(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.stdin = bytes.as_ref().to_vec();
        self
    }

    /// Sets the working directory.
    pub(crate) fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Runs to the end.
    pub(crate) fn run(self) -> Outcome {
        self.spawn().finish()
    }

    /// Starts and lets run.
    pub(crate) fn spawn(mut self) -> Running<'a> {
        self.command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = self
            .command
            .spawn()
            .unwrap_or_else(|err| panic!("cannot start {:?}: {err}", self.command));
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let _ = stdin.write_all(&self.stdin); // the program may not read it
        drop(stdin);
        Running {
            stdout: child.stdout.take().map(collect),
            stderr: child.stderr.take().map(collect),
            what: format!("{:?}", self.command),
            sandbox: self.sandbox,
            child: Some(child),
            start,
        }
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A command that runs. Dropping it kills it.
pub(crate) struct Running<'a> {
    child: Option<Child>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
    what: String,
    start: Instant,
    sandbox: &'a Sandbox,
}

impl Running<'_> {
    /// The id of the process.
    pub(crate) fn id(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("the program has not ended"))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the program has not ended");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("signal the program");
    }

    /// Whether it runs no more.
    pub(crate) fn has_ended(&mut self) -> bool {
        let child = self.child.as_mut().expect("the program has not ended");
        child.try_wait().expect("wait for the program").is_some()
    }

    /// Waits for the end; kills and panics at the bound.
    pub(crate) fn finish(mut self) -> Outcome {
        let mut child = self.child.take().expect("the program has not ended");
        let mut timed_out = false;
        let status = loop {
            if let Some(status) = child.try_wait().expect("wait for the program") {
                break status;
            }
            if self.start.elapsed() > RUN_BOUND {
                timed_out = true;
                child.kill().expect("kill the program");
            }
            thread::sleep(POLL);
        };
        let elapsed = self.start.elapsed();
        let stdout = join_text(self.stdout.take());
        let stderr = join_text(self.stderr.take());
        let outcome = Outcome {
            filtered: self.sandbox.filtered(&stderr),
            tree: self.sandbox.tree(),
            what: std::mem::take(&mut self.what),
            status,
            stdout,
            stderr,
            elapsed,
        };
        assert!(!timed_out, "did not end in {RUN_BOUND:?}: {outcome:?}");
        outcome
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn join_text(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let reader = reader.expect("the output is collected once");
    let bytes = reader.join().expect("read the program's output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What a run left.
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    /// As it was written.
    pub(crate) stderr: String,
    /// With `[TMP]`, `[PORT]` and `[TIME]` in place of what changes from run to run.
    pub(crate) filtered: String,
    pub(crate) elapsed: Duration,
    what: String,
    tree: Tree,
}

impl Outcome {
    /// Panics, with everything there is to know, unless the exit code is this one and stdout is empty.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        self.expect_one_of(&[code])
    }

    /// Panics unless the exit code is one of these and stdout is empty.
    pub(crate) fn expect_one_of(self, codes: &[i32]) -> Self {
        let as_expected = self.status.code().is_some_and(|code| codes.contains(&code));
        assert!(as_expected, "expected exit code {codes:?}: {self:?}");
        assert!(self.stdout.is_empty(), "something on stdout: {self:?}");
        self
    }

    /// Panics unless stderr holds all of these.
    pub(crate) fn expect_stderr(self, parts: &[&str]) -> Self {
        for part in parts {
            let found = self.stderr.contains(part) || self.filtered.contains(part);
            assert!(found, "stderr lacks {part:?}: {self:?}");
        }
        self
    }

    /// Panics if stderr holds any of these.
    pub(crate) fn expect_not_in_stderr(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(!self.stderr.contains(part), "stderr has {part:?}: {self:?}");
        }
        self
    }

    /// The lines of stderr (filtered) that begin so.
    pub(crate) fn lines(&self, beginning: &str) -> Vec<&str> {
        let lines = self.filtered.lines();
        lines.filter(|line| line.starts_with(beginning)).collect()
    }

    /// The error from its `error:` line to the end, filtered.
    pub(crate) fn error(&self) -> String {
        let lines = self.filtered.lines();
        let lines: Vec<_> = lines.skip_while(|l| !l.starts_with("error:")).collect();
        lines.join("\n")
    }

    /// Panics unless the run was quicker than this.
    pub(crate) fn expect_within(self, bound: Duration) -> Self {
        assert!(self.elapsed < bound, "took longer than {bound:?}: {self:?}");
        self
    }
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = String::new();
        let _ = writeln!(text, "\n--- command: {}", self.what);
        let _ = writeln!(
            text,
            "--- code {:?}, signal {:?}, {:?}",
            self.status.code(),
            self.status.signal(),
            self.elapsed
        );
        let _ = writeln!(text, "--- stdout:\n{}", self.stdout);
        let _ = writeln!(text, "--- stderr:\n{}", self.stderr);
        let _ = writeln!(text, "--- tree:\n{}", self.tree);
        f.write_str(&text)
    }
}

/// Waits until `condition` holds; panics at the bound.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "never happened: {what}"
        );
        thread::sleep(POLL);
    }
}

/// `127.0.0.1:43210` becomes `127.0.0.1:[PORT]`.
fn filter_ports(text: &str) -> String {
    let mut parts = text.split("127.0.0.1:");
    let mut filtered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit());
        let _ = write!(filtered, "127.0.0.1:[PORT]{rest}");
    }
    filtered
}

/// `0.12 s`, `12.4 MB/s` and the value in the PERFHERDER line become `[TIME]`.
fn filter_times(text: &str) -> String {
    let mut filtered = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        filtered.push_str(before);
        let length = number
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(number.len());
        let (digits, after) = number.split_at(length);
        let in_word =
            filtered.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
        let unit = unit_length(after).filter(|_| !in_word);
        if let Some(unit) = unit {
            filtered.push_str("[TIME]");
            rest = &after[unit..];
        } else if filtered.ends_with("\"value\":") {
            filtered.push_str("[TIME]");
            rest = after;
        } else {
            filtered.push_str(digits);
            rest = after;
        }
    }
    filtered + rest
}

/// The length of a unit of time or speed at the start of `text`.
fn unit_length(text: &str) -> Option<usize> {
    let units = [
        "ms", "s", "min", "B/s", "kB/s", "KB/s", "KiB/s", "MB/s", "MiB/s", "GB/s", "GiB/s",
    ];
    let spaces = text.len() - text.trim_start_matches(' ').len();
    let word_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '/');
    units
        .iter()
        .filter(|unit| text[spaces..].strip_prefix(**unit).is_some_and(word_end))
        .map(|unit| spaces + unit.len())
        .next()
}

#[test]
fn filters_replace_what_changes_from_run_to_run() {
    let text = "done: 1.5 MB in 0.12 s (12.4 MB/s), retry 1 of 4 in 800 ms http://127.0.0.1:4321/x1.2s {\"value\":12.3,";
    assert_eq!(
        filter_times(&filter_ports(text)),
        "done: 1.5 MB in [TIME] ([TIME]), retry 1 of 4 in [TIME] http://127.0.0.1:[PORT]/x1.2s {\"value\":[TIME],"
    );
}
