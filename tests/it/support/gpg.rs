//! `gpg` with a home of its own: makes keys and signatures, and says what it thinks of some.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::skip::have_programs;

/// A home directory of `gpg`. Its agent ends with the value.
pub(crate) struct Gpg {
    home: TempDir,
}

/// Whether there is `gpg`; if not, reports the test as skipped.
pub(crate) fn have_gpg(test: &str) -> bool {
    have_programs(test, &["gpg", "gpgconf", "gpg-agent"])
}

/// A day that `gpg` takes for today, as `20240131`.
pub(crate) type Time<'a> = Option<&'a str>;

impl Gpg {
    /// Makes an empty home, with a path that is short enough for the agent's socket.
    pub(crate) fn new() -> Self {
        let home = tempfile::Builder::new().prefix("gpg-").tempdir_in("/tmp");
        let home = home.expect("make a home for gpg");
        Self { home }
    }

    fn command(&self, time: Time<'_>, args: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", self.home.path()).args([
            "--no-options",
            "--batch",
            "--no-tty",
            "--quiet",
        ]);
        if let Some(time) = time {
            command.args(["--faked-system-time", &format!("{time}T000000!")]);
        }
        let mut child = command
            .args(["--pinentry-mode", "loopback", "--passphrase", ""])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start gpg");
        let mut stdin = child.stdin.take().expect("stdin is a pipe");
        let _ = stdin.write_all(input); // it may not read it
        drop(stdin);
        child.wait_with_output().expect("wait for gpg")
    }

    /// Runs `gpg` at a time and returns what it writes.
    pub(crate) fn run(&self, time: Time<'_>, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.command(time, args, input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "gpg {args:?}: {said}");
        output.stdout
    }

    /// Makes a primary key that signs, and returns its fingerprint.
    pub(crate) fn key(&self, time: Time<'_>, user: &str, algorithm: &str, expires: &str) -> String {
        let args = ["--quick-generate-key", user, algorithm, "sign", expires];
        self.run(time, &args, b"");
        self.fingerprints(user).swap_remove(0)
    }

    /// Adds a subkey that signs, and returns its fingerprint.
    pub(crate) fn subkey(
        &self,
        time: Time<'_>,
        of: &str,
        algorithm: &str,
        expires: &str,
    ) -> String {
        self.run(
            time,
            &["--quick-add-key", of, algorithm, "sign", expires],
            b"",
        );
        self.fingerprints(of).pop().expect("a subkey")
    }

    /// The fingerprints of a key and its subkeys.
    fn fingerprints(&self, user: &str) -> Vec<String> {
        let listing = self.run(None, &["--with-colons", "--list-keys", user], b"");
        let listing = String::from_utf8(listing).expect("a listing");
        let lines = listing.lines().filter(|line| line.starts_with("fpr:"));
        let fingerprints = lines.filter_map(|line| line.split(':').nth(9));
        fingerprints.map(str::to_owned).collect()
    }

    /// A public key, armored.
    pub(crate) fn export(&self, key: &str) -> Vec<u8> {
        self.run(None, &["--armor", "--export", key], b"")
    }

    /// A detached signature. `!` behind a fingerprint means just this key and no subkey of it.
    pub(crate) fn sign(&self, time: Time<'_>, key: &str, content: &[u8], more: &[&str]) -> Vec<u8> {
        let args = [&["-u", key, "-o", "-"], more, &["--detach-sign"]].concat();
        self.run(time, &args, content)
    }

    /// The revocation of a primary key, for a reason as the dialogue of `gpg` numbers them.
    pub(crate) fn revocation(&self, time: Time<'_>, key: &str, reason: u8) -> Vec<u8> {
        let dialogue = format!("y\n{reason}\n\ny\n");
        let args = ["--no-batch", "--command-fd", "0", "--gen-revoke", key];
        self.run(time, &args, dialogue.as_bytes())
    }

    /// A public key with its first subkey revoked.
    pub(crate) fn export_without_subkey(&self, time: Time<'_>, key: &str, reason: u8) -> Vec<u8> {
        let dialogue = format!("key 1\nrevkey\ny\n{reason}\n\ny\nsave\n");
        let args = ["--no-batch", "--command-fd", "0", "--edit-key", key];
        self.run(time, &args, dialogue.as_bytes());
        self.export(key)
    }

    /// Whether the Python tool would be content: it imports the keys into an empty home and verifies.
    pub(crate) fn accepts(keys: &[u8], signature: &[u8], content: &[u8]) -> bool {
        let gpg = Self::new();
        let file = gpg.home.path().join("content");
        std::fs::write(&file, content).expect("write the content");
        let file = file.to_str().expect("a path of plain characters");
        let imported = gpg.command(None, &["--import"], keys).status.success();
        let verified = gpg.command(None, &["--verify", "-", file], signature);
        imported && verified.status.success()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf")
            .arg("--homedir")
            .arg(self.home.path())
            .args(["--kill", "all"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}
