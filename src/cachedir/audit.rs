//! The audit log of a cache, `.cachelog`: who made it, used it, or could not.

use super::{
    LOG,
    requirements::{Requirements, shown},
};
use crate::{
    error::{Error, Result},
    fs::{Content, Dir},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

/// More of a log is not read, in bytes. A task adds a hundred, or two.
const LONGEST: u64 = 1 << 24;

/// What happened to a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    Created(&'a Requirements),
    Used,
    Chown(&'a Requirements),
    Mismatch(&'a Requirements),
    Missing,
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(brought) => write!(f, "created; requirements: {}", brought.for_log()),
            Self::Used => f.write_str("used"),
            Self::Chown(brought) => write!(f, "chown; requirements: {}", brought.for_log()),
            Self::Mismatch(brought) => {
                write!(f, "requirements mismatch; wanted: {}", brought.for_log())
            }
            Self::Missing => f.write_str("missing .cacherequires"),
        }
    }
}

/// Adds a line to the log of a cache.
pub(super) fn append(cache: &Dir, task: Option<&OsStr>, event: &Event<'_>) -> Result<()> {
    let task = task.map_or_else(|| "UNKNOWN".to_owned(), |task| shown(task.as_bytes()));
    let line = format!("[{} {task}] {event}\n", moment(SystemTime::now()));
    cache.append_to_child(LOG, line.as_bytes())
}

/// Returns a time in the form of the log: with microseconds, unless there are none.
fn moment(time: SystemTime) -> String {
    let time = DateTime::<Utc>::from(time);
    let precision = if time.timestamp_subsec_micros() == 0 {
        SecondsFormat::Secs
    } else {
        SecondsFormat::Micros
    };
    time.to_rfc3339_opts(precision, false)
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// When, as it was written.
    pub time: Option<String>,
    /// The id of the task, or `UNKNOWN`.
    pub task: Option<String>,
    /// What happened: `created`, `used`, `chown`, `mismatch` or `missing`; nothing if the line is none of run-task's.
    pub event: Option<&'static str>,
    /// What the task brought, where the line says it.
    pub requirements: Vec<String>,
    /// The line without time and task.
    pub text: String,
}

impl Entry {
    fn parse(line: &[u8]) -> Self {
        let line = shown(line);
        let headed = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "))
            .and_then(|(head, text)| Some((head.split_once(' ')?, text)));
        let Some(((time, task), text)) = headed else {
            return Self {
                time: None,
                task: None,
                event: None,
                requirements: Vec::new(),
                text: line,
            };
        };
        let (what, details) = text.split_once("; ").unwrap_or((text, ""));
        let event = match what {
            "created" => Some("created"),
            "used" => Some("used"),
            "chown" => Some("chown"),
            "requirements mismatch" => Some("mismatch"),
            "missing .cacherequires" => Some("missing"),
            _ => None,
        };
        let lines = details.split_once(": ").map_or("", |(_, lines)| lines);
        let lines = lines.split(", ").filter(|line| !line.is_empty());
        Self {
            time: Some(time.to_owned()),
            task: Some(task.to_owned()),
            event,
            requirements: lines.map(str::to_owned).collect(),
            text: text.to_owned(),
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.time, &self.task) {
            (Some(time), Some(task)) => write!(f, "[{time} {task}] {}", self.text),
            _ => f.write_str(&self.text),
        }
    }
}

/// Reads the log of a cache; a cache without one has no entries.
///
/// # Errors
/// [`Error::Fs`] when there is no such directory, or its log is not a regular file or longer than any run-task made it.
pub fn read(cache: &Path) -> Result<Vec<Entry>> {
    read_in(&Dir::open(cache)?)
}

pub(super) fn read_in(cache: &Dir) -> Result<Vec<Entry>> {
    let unreadable = |kind: std::io::ErrorKind| Error::Fs {
        action: "read",
        path: cache.path().join(LOG),
        source: kind.into(),
    };
    let bytes = match cache.read_child(LOG, LONGEST)? {
        Content::Absent => return Ok(Vec::new()),
        Content::NotAFile => return Err(unreadable(std::io::ErrorKind::InvalidInput)),
        Content::TooLong => return Err(unreadable(std::io::ErrorKind::FileTooLarge)),
        Content::Whole(bytes) => bytes,
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    Ok(lines.map(Entry::parse).collect())
}

#[cfg(test)]
mod tests {
    use super::{Entry, moment};
    use std::time::{Duration, SystemTime};

    #[test]
    fn times_have_microseconds_unless_there_are_none() {
        let whole = SystemTime::UNIX_EPOCH + Duration::from_secs(1_785_579_630);
        assert_eq!(moment(whole), "2026-08-01T10:20:30+00:00");
        let later = whole + Duration::from_micros(120_450);
        assert_eq!(moment(later), "2026-08-01T10:20:30.120450+00:00");
    }

    #[test]
    fn lines_of_all_times_are_understood() {
        let entry = Entry::parse(
            b"[2019-03-01T10:20:30.123456Z AbC] created; requirements: gid=1, uid=2, version=1",
        );
        assert_eq!(entry.time.as_deref(), Some("2019-03-01T10:20:30.123456Z"));
        assert_eq!(entry.task.as_deref(), Some("AbC"));
        assert_eq!(entry.event, Some("created"));
        assert_eq!(entry.requirements, ["gid=1", "uid=2", "version=1"]);

        let entry = Entry::parse(b"[2026-08-01T10:20:30+00:00 UNKNOWN] missing .cacherequires");
        assert_eq!(
            (entry.event, entry.requirements.len()),
            (Some("missing"), 0)
        );

        let entry = Entry::parse(b"what is \x1b[2J this");
        assert_eq!((entry.time, entry.event), (None, None));
        assert_eq!(entry.text, "what is \\u{1b}[2J this");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_in_a_log_is_shown_as_it_is(line in "(\\[|\\] |; |: |, |created| |[a-z]){0,20}") {
            proptest::prop_assert_eq!(Entry::parse(line.as_bytes()).to_string(), line);
        }
    }
}
