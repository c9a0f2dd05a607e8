//! [`Requirements`]: what a cache requires of the tasks that use it.

use crate::fs::Owner;
use std::{collections::BTreeSet, fmt};

/// The version of the rules. Another one makes all caches unusable.
const VERSION: &str = "version=1";

/// A set of lines; a task must bring each of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements(BTreeSet<Vec<u8>>);

impl Requirements {
    /// Returns what a task brings that runs as `owner`.
    #[must_use]
    pub fn of(owner: Owner) -> Self {
        let Owner { uid, gid } = owner;
        let lines = [
            VERSION.to_owned(),
            format!("uid={uid}"),
            format!("gid={gid}"),
        ];
        Self(lines.map(String::into_bytes).into())
    }

    /// Reads the lines of a `.cacherequires`; they end in `\n`, `\r\n` or `\r`.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut lines = BTreeSet::new();
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            lines.insert(rest[..end].to_vec());
            let length = if rest[end..].starts_with(b"\r\n") {
                2
            } else {
                1
            };
            rest = &rest[end + length..];
        }
        if !rest.is_empty() {
            lines.insert(rest.to_vec());
        }
        Self(lines)
    }

    /// Returns the content of a `.cacherequires`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let lines: Vec<&[u8]> = self.0.iter().map(Vec::as_slice).collect();
        lines.join(&b'\n')
    }

    /// Returns the lines that `brought` lacks.
    #[must_use]
    pub fn lacking_in(&self, brought: &Self) -> Self {
        Self(self.0.difference(&brought.0).cloned().collect())
    }

    /// Returns whether there is no line.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether some line is about a user or group.
    #[must_use]
    pub fn mentions_owner(&self) -> bool {
        self.0.iter().any(|line| is_about_owner(line))
    }

    /// Returns whether every line is about a user or group.
    #[must_use]
    pub fn is_only_about_owner(&self) -> bool {
        self.0.iter().all(|line| is_about_owner(line))
    }

    /// Returns the lines in order, as text.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.0.iter().map(|line| shown(line)).collect()
    }

    /// Returns the lines as the audit log has them.
    pub(super) fn for_log(&self) -> String {
        self.lines().join(", ")
    }
}

impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join(" "))
    }
}

fn is_about_owner(line: &[u8]) -> bool {
    line.starts_with(b"uid=") || line.starts_with(b"gid=")
}

/// A line as text. Whoever could write to the cache wrote it, so control characters are escaped.
pub(super) fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::{Owner, Requirements};

    const WORKER: Owner = Owner {
        uid: 1000,
        gid: 1000,
    };

    #[test]
    fn the_bytes_are_those_of_run_task() {
        assert_eq!(
            Requirements::of(WORKER).to_bytes(),
            b"gid=1000\nuid=1000\nversion=1"
        );
    }

    #[test]
    fn any_line_end_will_do_and_empty_lines_are_lines() {
        let ours = Requirements::of(WORKER);
        for same in [
            "gid=1000\nuid=1000\nversion=1",
            "version=1\r\nuid=1000\r\ngid=1000\r\n",
            "version=1\ruid=1000\rgid=1000\ruid=1000\n",
        ] {
            assert_eq!(Requirements::parse(same.as_bytes()), ours, "{same:?}");
        }
        assert!(Requirements::parse(b"").is_empty());
        let blank = Requirements::parse(b"uid=1000\n\n").lacking_in(&ours);
        assert_eq!(blank.lines(), [""]);
        assert!(!blank.is_only_about_owner());
    }

    #[test]
    fn lines_cannot_forge_a_log() {
        let forged = Requirements::parse(b"uid=\x1b[2J\xff\0");
        assert_eq!(forged.to_string(), "uid=\\u{1b}[2J\u{fffd}\\u{0}");
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(bytes in "[a-c=\r\n]{0,12}") {
            let parsed = Requirements::parse(bytes.as_bytes());
            let lines = parsed.lines();
            // A last empty line leaves no trace.
            if lines != [""] {
                proptest::prop_assert_eq!(Requirements::parse(&parsed.to_bytes()).lines(), lines);
            }
        }
    }
}
