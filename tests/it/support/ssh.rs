//! A real sshd on the loopback interface, for the user who runs the tests.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::skip::{have_programs, skip};

/// Where Debian has it, which is not in everybody's `PATH`; it wants to be called so, too.
const PROGRAM: &str = "/usr/sbin/sshd";

/// What sshd needs a directory for when it is started by root.
const SEPARATION: &str = "/run/sshd";

/// A running sshd. Dropping it ends it.
pub(crate) struct Sshd {
    child: Child,
    dir: TempDir,
    port: u16,
    user: String,
}

impl Sshd {
    /// Starts sshd, or reports that the test is skipped.
    pub(crate) fn start(test: &str) -> Option<Self> {
        if !have_programs(test, &[PROGRAM, "ssh", "ssh-keygen", "id"]) {
            return None;
        }
        let user = said(Command::new("id").arg("-un"));
        if user == "root" && fs::create_dir_all(SEPARATION).is_err() {
            skip(test, "sshd needs /run/sshd");
            return None;
        }
        let dir = tempfile::tempdir().expect("make a temporary directory");
        for name in ["host", "user"] {
            make_key(&dir.path().join(name));
        }
        // Ports are free when they are chosen; somebody else may be quicker.
        let mut attempts = (0..5).filter_map(|_| listen(dir.path()));
        let (child, port) = attempts.next().expect("sshd listens");
        Some(Self {
            child,
            dir,
            port,
            user,
        })
    }

    /// `ssh://…` of a path on this machine.
    pub(crate) fn url(&self, path: &Path) -> String {
        format!(
            "ssh://{}@127.0.0.1:{}{}",
            self.user,
            self.port,
            path.display()
        )
    }

    /// The private key that opens it.
    pub(crate) fn key(&self) -> String {
        fs::read_to_string(self.dir.path().join("user")).expect("read the key")
    }

    /// The file with its host key.
    pub(crate) fn known_hosts(&self) -> PathBuf {
        self.known_hosts_with("host")
    }

    /// A file with another key for its address.
    pub(crate) fn wrong_known_hosts(&self) -> PathBuf {
        self.known_hosts_with("user")
    }

    fn known_hosts_with(&self, key: &str) -> PathBuf {
        let key_file = self.dir.path().join(format!("{key}.pub"));
        let key_text = fs::read_to_string(key_file).expect("read a public key");
        // In the way of quoting.
        let path = self.dir.path().join(format!("known 100% by {key}"));
        let line = format!("[127.0.0.1]:{} {key_text}", self.port);
        fs::write(&path, line).expect("write known hosts");
        path
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn make_key(path: &Path) {
    let mut command = Command::new("ssh-keygen");
    said(
        command
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(path),
    );
}

fn said(command: &mut Command) -> String {
    let output = command
        .stdin(Stdio::null())
        .output()
        .expect("start a program");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn listen(dir: &Path) -> Option<(Child, u16)> {
    let probe =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind to the loopback interface");
    let port = probe.local_addr().expect("address of the listener").port();
    drop(probe);
    let path = std::env::var("PATH").unwrap_or_default();
    let configuration = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/user.pub\nPidFile none\n\
         StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nSetEnv PATH={path}\n",
        dir = dir.display()
    );
    let file = dir.join("sshd_config");
    fs::write(&file, configuration).expect("configure sshd");
    let mut child = Command::new(PROGRAM)
        .args(["-D", "-e", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join("log")).expect("make a log"))
        .spawn()
        .expect("start sshd");
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
        if child.try_wait().expect("wait for sshd").is_some() {
            assert!(
                log().contains("Address already in use"),
                "sshd does not start: {}",
                log()
            );
            return None;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{}", log());
        thread::sleep(Duration::from_millis(5));
    }
    Some((child, port))
}
