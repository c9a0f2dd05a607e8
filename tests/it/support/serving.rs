//! `fetch-content serve` as a process of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::plain_http::{self, Answer};
use super::sandbox::{TASK_A, TASK_B};

/// A running server. Dropping it kills it.
pub(crate) struct Serving {
    child: Child,
    root: String,
}

impl Serving {
    /// Serves a store that requests may change.
    pub(crate) fn writing(store: impl AsRef<Path>) -> Self {
        Self::start(store, &["--write"], &[])
    }

    /// Serves a store; returns when there is a root URL.
    pub(crate) fn start(
        store: impl AsRef<Path>,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fetch-content"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--store"])
            .arg(store.as_ref())
            .args(options)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the server");
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut line = String::new();
        let read = BufReader::new(stdout).read_line(&mut line);
        if read.is_err() || !line.starts_with("http://") {
            let _ = child.kill();
            let mut said = String::new();
            let _ = child
                .stderr
                .take()
                .map(|mut err| err.read_to_string(&mut said));
            panic!("no root URL but {line:?}: {said}");
        }
        Self {
            child,
            root: line.trim_end().to_owned(),
        }
    }

    /// The root URL.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.root.strip_prefix("http://").expect("an http URL");
        address.parse().expect("an address")
    }

    /// Sends a request without a body.
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        plain_http::ask(self.address(), "GET", path, headers, b"")
    }

    /// Sends JSON.
    pub(crate) fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let json = [("Content-Type", "application/json")];
        plain_http::ask(
            self.address(),
            method,
            path,
            &json,
            body.to_string().as_bytes(),
        )
    }

    /// Stores an artifact.
    pub(crate) fn put(&self, task: &str, encoded: &str, content: &[u8]) -> Answer {
        let path = format!("/content/{task}/{encoded}");
        plain_http::ask(self.address(), "PUT", &path, &[], content)
    }

    /// Lets a namespace lead to a task.
    pub(crate) fn index(&self, namespace: &str, task: &str, rank: u64) -> Answer {
        let entry = json!({
            "taskId": task, "rank": rank, "data": {"made": "by a test"}, "expires": "3000-01-02T03:04:05.000Z",
        });
        self.send("PUT", &format!("/api/index/v1/task/{namespace}"), &entry)
    }

    /// Stocks an empty store: a large artifact, of which another task has the same, a small one with an odd name,
    /// and two namespaces. What contradicts them is refused.
    pub(crate) fn stock(&self, large: &[u8], small: &[u8]) {
        self.put(TASK_A, "public/large.bin", large).expect(200);
        self.put(TASK_A, "public/a%20b%2541", small).expect(200);
        self.put(TASK_B, "public/same", large).expect(200);
        self.put(TASK_B, "public/same", large).expect(200);
        self.put(TASK_B, "public/same", small).expect(409);
        for (namespace, rank) in [("a.b", 5), ("a.b", 4), ("a.b.c!~*%2541", 1)] {
            self.index(namespace, TASK_A, rank).expect(200);
        }
    }

    /// Panics unless what it was stocked with comes out, whole and in part.
    pub(crate) fn expect_stocked(&self, large: &[u8]) {
        let path = format!("/content/{TASK_A}/public/large.bin");
        let range = [("Range", "bytes=15000000-15000009")];
        let part = self.get(&path, &range).expect(206);
        assert_eq!(part.body, &large[15_000_000..15_000_010]);
        let whole = self.get(&format!("/content/{TASK_B}/public/same"), &[]);
        assert!(whole.body == large);
    }

    /// The most memory it has had so far, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("read the status of the server");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.expect("a peak").trim().trim_end_matches(" kB");
        kilobytes.parse::<u64>().expect("a number") * 1024
    }

    /// Ends it without giving it a chance.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("kill the server");
        self.child.wait().expect("wait for the server");
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("signal the server");
    }

    /// Waits until it has ended by itself; panics at the bound. Returns what it said on stderr, too.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait for the server") {
                break status;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "it goes on");
            thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().expect("stderr is a pipe");
        stderr.read_to_string(&mut said).expect("read stderr");
        (status, said)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking()
            && let Some(mut stderr) = self.child.stderr.take()
        {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            let _ = writeln!(std::io::stderr(), "{} said: {said}", self.root);
        }
    }
}
