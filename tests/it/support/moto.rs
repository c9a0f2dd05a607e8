//! moto's server: S3 as a process on the loopback interface, from the Python environment of the tests.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;

use super::plain_http;
use super::skip::skip;

/// Starts it on a port that is free, says which, and serves until it is killed.
const PROGRAM: &str = "
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
server = make_server('127.0.0.1', 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
server.serve_forever()
";

/// A running server. Dropping it ends it.
pub(crate) struct Moto {
    child: Child,
    address: SocketAddr,
}

impl Moto {
    /// Starts it, or reports that the test is skipped if it is not installed.
    pub(crate) fn start(test: &str) -> Option<Self> {
        let python = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let probe = Command::new(&python)
            .args(["-c", "import moto.server"])
            .stderr(Stdio::null())
            .status();
        if !probe.is_ok_and(|status| status.success()) {
            skip(test, &format!("{python} has no module moto.server"));
            return None;
        }
        let mut child = Command::new(&python)
            .args(["-c", PROGRAM])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start moto");
        let mut log = BufReader::new(child.stderr.take().expect("stderr is a pipe"));
        // It must not wait until somebody reads its log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let stdout = child.stdout.take().expect("stdout is a pipe");
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("read moto's port");
        let port: u16 = line.trim().parse().expect("a port from moto");
        Some(Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
        })
    }

    /// What tells clients how to get there.
    pub(crate) fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT", format!("http://{}", self.address)),
            ("AWS_ACCESS_KEY_ID", "id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "s3cret".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("FETCH_CONTENT_ATTEMPTS", "3".to_owned()),
        ]
    }

    /// Makes a bucket.
    pub(crate) fn make_bucket(&self, name: &str) {
        self.put(&format!("/{name}"), b"");
    }

    /// Writes an object, past everything.
    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        // Who asks matters; the signature is not looked at.
        let signed = "AWS4-HMAC-SHA256 Credential=id/20200102/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=x";
        let headers = [("Authorization", signed)];
        plain_http::ask(self.address, "PUT", path, &headers, content).expect(200);
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
