//! The log of a task: what `run-task` writes to standard output, a line at a time: `[<topic> <UTC time>] <text>`.

use chrono::{DateTime, SecondsFormat, Utc};
use std::{io::Write, time::SystemTime};

/// Writes one line about a topic; or several, if there are more in the text.
pub(super) fn line(topic: &str, text: &str) {
    let prefix = prefix(topic);
    let lines = text.split('\n').map(|line| format!("{prefix}{line}\n"));
    bytes(lines.collect::<String>().as_bytes());
}

/// Writes lines that have no prefix: those that the Python run-task writes so.
pub(super) fn plain(text: &str) {
    bytes(format!("{text}\n").as_bytes());
}

/// Writes what has its prefixes already.
pub(super) fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // A task must not fail since nobody listens.
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// Returns the beginning of a line that is written now.
pub(super) fn prefix(topic: &str) -> String {
    let now = DateTime::<Utc>::from(SystemTime::now());
    let now = now.to_rfc3339_opts(SecondsFormat::Millis, false);
    format!("[{topic} {now}] ")
}
