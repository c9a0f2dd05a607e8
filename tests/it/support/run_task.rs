//! Both run-tasks, caches of any state for them, and what they leave: output without times, trees with owners.

use std::env;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

use super::sandbox::{Invocation, Outcome, Sandbox};
use super::skip::skip;

/// A user and a group that every system has, and their ids.
pub(crate) const SOMEBODY: (&str, u32) = ("daemon", 1);
/// The id of another one.
pub(crate) const SOMEBODY_ELSE: u32 = 2;

/// What a cache of [`SOMEBODY`] requires.
pub(crate) const REQUIRES: &str = "gid=1\nuid=1\nversion=1";

/// Whether this is root and the users are what they should be; if not, reports the test as skipped.
pub(crate) fn is_root(test: &str) -> bool {
    if !rustix::process::geteuid().is_root() {
        skip(test, "only root can change owners");
        return false;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let group = fs::read_to_string("/etc/group").unwrap_or_default();
    if !passwd.contains("\ndaemon:x:1:1:") || !group.contains("\ndaemon:x:1:") {
        skip(test, "there is no user `daemon` with the ids 1 and 1");
        return false;
    }
    true
}

/// The interpreter and the Python run-task, which is beside the script that `PYTHON_FETCH_CONTENT` names.
pub(crate) fn python_run_task(test: &str) -> Option<PathBuf> {
    let script = env::var_os("PYTHON_FETCH_CONTENT").map(PathBuf::from);
    let script = script.and_then(|script| Some(script.parent()?.join("run-task")));
    let script = script.filter(|script| script.exists());
    if script.is_none() {
        skip(
            test,
            "there is no run-task beside what PYTHON_FETCH_CONTENT names",
        );
    }
    script
}

/// A sandbox that other users can enter.
pub(crate) fn open_sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).expect("open the sandbox");
    sandbox
}

/// Our run-task.
pub(crate) fn run_task(sandbox: &Sandbox) -> Invocation<'_> {
    sandbox
        .program(env!("CARGO_BIN_EXE_run-task"))
        .env("FETCH_CONTENT_RETRY_BASE_MS", "10")
        .env("FETCH_CONTENT_ATTEMPTS", "5")
}

/// The Python run-task. It looks for other interpreters, which takes long where they are wrapped. Its own one is the
/// system's, if there is any: other users must be able to reach it.
pub(crate) fn python<'a>(sandbox: &'a Sandbox, script: &Path) -> Invocation<'a> {
    let system = "/usr/bin/python3";
    let interpreter = if Path::new(system).exists() {
        system.to_owned()
    } else {
        env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
    };
    sandbox
        .program(interpreter)
        .args([OsStr::new("-u"), script.as_os_str()])
        .env("PATH", "/usr/bin:/bin")
}

/// Options that make both run the command as [`SOMEBODY`].
pub(crate) fn as_somebody(invocation: Invocation<'_>) -> Invocation<'_> {
    let (name, _) = SOMEBODY;
    invocation.args(["--user", name, "--group", name])
}

/// Gives a path away, and not what a link leads to.
pub(crate) fn give(path: impl AsRef<Path>, uid: u32, gid: u32) {
    lchown(path.as_ref(), Some(uid), Some(gid)).expect("change an owner");
}

/// Makes a cache with these requirements, if any, a log and some content, all of these ids.
pub(crate) fn make_cache(sandbox: &Sandbox, name: &str, requires: Option<&str>, ids: (u32, u32)) {
    let root = sandbox.path(name);
    sandbox.write(&format!("{name}/content/file"), "content");
    sandbox.write(
        &format!("{name}/.cachelog"),
        "[2026-01-01T00:00:00+00:00 FIRST] created; requirements: whatever\n",
    );
    if let Some(requires) = requires {
        let path = sandbox.write(&format!("{name}/.cacherequires"), requires);
        fs::set_permissions(path, Permissions::from_mode(0o444)).expect("set permissions");
    }
    for path in ["", "content", "content/file"] {
        chown(root.join(path), Some(ids.0), Some(ids.1)).expect("change an owner");
    }
}

/// What the two are compared by: lines about caches, volumes, ownership, errors and the task, without times.
pub(crate) fn comparable(outcome: &Outcome, sandbox: &Sandbox) -> Vec<String> {
    let begins = [
        "[cache]",
        "[chown]",
        "[volume]",
        "[task]",
        "error:",
        "cache requirements:",
        "our requirements:",
        "audit log:",
        "entries in",
        "could not find",
        "user `",
        "group `",
        "[TASK-",
        "[FIRST]",
        "[UNKNOWN]",
    ];
    let root = sandbox.path("");
    let root = root.display().to_string();
    let lines = outcome.stdout.lines().map(|line| {
        let line = without_time(line);
        line.replace(root.trim_end_matches('/'), "[TMP]")
    });
    lines
        .filter(|line| begins.iter().any(|begin| line.starts_with(begin)))
        .collect()
}

/// A line without the time in the brackets at its beginning.
pub(crate) fn without_time(line: &str) -> String {
    let Some((head, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
        return line.to_owned();
    };
    let words = head
        .split(' ')
        .filter(|word| !(word.contains('T') && word.ends_with("+00:00")));
    format!("[{}]{rest}", words.collect::<Vec<_>>().join(" "))
}

/// Everything below a directory and itself: mode, owner, target, and what run-task wrote, without times.
pub(crate) fn owners(root: &Path) -> String {
    let mut text = String::new();
    list(root, Path::new(""), &mut text);
    text
}

fn list(root: &Path, relative: &Path, text: &mut String) {
    let path = root.join(relative);
    let Ok(found) = fs::symlink_metadata(&path) else {
        return;
    };
    let (uid, gid) = (found.uid(), found.gid());
    let _ = write!(
        text,
        "{} {:o} {uid}:{gid}",
        relative.display(),
        found.mode()
    );
    if found.is_symlink() {
        let target = fs::read_link(&path).expect("read a link");
        let _ = write!(text, " -> {}", target.display());
    }
    let name = relative.file_name().map(OsStr::as_bytes);
    if found.is_file() && name == Some(b".cacherequires") {
        let content = fs::read(&path).expect("read requirements");
        let _ = write!(text, " {:?}", String::from_utf8_lossy(&content));
    }
    text.push('\n');
    if found.is_file() && name == Some(b".cachelog") {
        let content = fs::read_to_string(&path).expect("read a log");
        for line in content.split_inclusive('\n') {
            let _ = writeln!(text, "  {:?}", without_time(line));
        }
    }
    if found.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&path)
            .expect("list a directory")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        for name in names {
            list(root, &relative.join(name), text);
        }
    }
}
