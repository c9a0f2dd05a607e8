//! Tests that cannot run here say so: a line on stderr, past the capture of the test harness, and in the file
//! named by `FETCH_CONTENT_SKIP_LOG`, so that whoever runs the suite can count them.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};

use super::sandbox::Sandbox;

/// Reports that a test (or a part of it) is skipped.
pub(crate) fn skip(name: &str, reason: &str) {
    let line = format!("SKIPPED: {name}: {reason}\n");
    // `eprintln!` would be captured and shown for failing tests only.
    let _ = std::io::stderr().write_all(line.as_bytes());
    let Some(log) = env::var_os("FETCH_CONTENT_SKIP_LOG") else {
        return;
    };
    let mut log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .expect("open FETCH_CONTENT_SKIP_LOG");
    log.write_all(line.as_bytes())
        .expect("write to FETCH_CONTENT_SKIP_LOG");
}

/// Whether all programs can be started; if not, reports the test as skipped.
pub(crate) fn have_programs(name: &str, programs: &[&str]) -> bool {
    for program in programs {
        // Only that it starts matters: some of them know no option in common.
        let started = Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if started.is_err() {
            skip(name, &format!("the program `{program}` is not installed"));
            return false;
        }
    }
    true
}

/// An interpreter with this module, if there is one.
pub(crate) fn python_with(test: &str, module: &str) -> Option<String> {
    let interpreter = env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let sandbox = Sandbox::new();
    let probe = sandbox.program(&interpreter);
    let probe = probe.args(["-c", &format!("import {module}")]).run();
    if probe.status.success() {
        return Some(interpreter);
    }
    skip(test, &format!("{interpreter} has no module {module}"));
    None
}
