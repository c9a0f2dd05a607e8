//! A network of its own for one test: loopback only, with its own `/etc/hosts` and its own name server.
//!
//! The test runs again as a child process in new user, mount and network namespaces, which needs no rights where the
//! kernel gives them to everybody; elsewhere it is skipped, loudly.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use super::skip::{have_programs, skip};

const INSIDE: &str = "FETCH_CONTENT_TEST_NAMESPACE";

/// Names with addresses of both families, and with one.
const HOSTS: &str = "\
127.0.0.1 localhost four.test both.test
::1 localhost six.test both.test
";

/// Runs as root of the namespaces; `$DIR` holds the files, the rest is the command.
const ENTER: &str = "\
ip link set lo up || exit 77
for name in hosts resolv.conf nsswitch.conf; do
    mount --bind \"$DIR/$name\" /etc/$name || exit 77
done
exec \"$@\"";

/// What [`ENTER`] exits with when something is not permitted.
const NOT_PERMITTED: i32 = 77;

/// Whether this process is in the namespace, and the test is to go on. If not, the test has been run there, and must
/// have succeeded; `options` are those of its `resolv.conf`. `test` is the test's whole name.
pub(crate) fn inside(test: &str, options: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    if !have_programs(test, &["unshare", "ip", "sh"]) {
        return false;
    }
    let dir = tempfile::tempdir().expect("make a temporary directory");
    for (name, content) in [
        ("hosts", HOSTS.to_owned()),
        (
            "resolv.conf",
            format!("nameserver 127.0.0.1\noptions {options}\n"),
        ),
        ("nsswitch.conf", "hosts: files dns\n".to_owned()),
    ] {
        fs::write(dir.path().join(name), content).expect("write a file for the namespace");
    }
    let program = env::current_exe().expect("the path of the tests");
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "--net", "sh", "-c", ENTER])
        .arg("sh")
        .arg(program)
        .args(["--exact", test, "--nocapture"])
        .env("DIR", dir.path())
        .env(INSIDE, "yes")
        .stdin(Stdio::null())
        .output()
        .expect("start unshare");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(!out.contains("running 0 tests"), "there is no {test}");
    let started = out.contains("running 1 test");
    if output.status.code() == Some(NOT_PERMITTED) || !started {
        let reason = err.lines().next().unwrap_or("unshare failed");
        skip(test, &format!("no namespace of its own: {reason}"));
    } else {
        assert!(output.status.success(), "in its namespace: {out}\n{err}");
    }
    false
}
