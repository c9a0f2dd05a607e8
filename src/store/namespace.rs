//! [`Namespace`]: a path in the index, such as `gecko.cache.level-3.toolchains.v3.linux64-gcc.latest`.

use serde::{Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A path in the index: labels joined by dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

/// The text is not a [`Namespace`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "index path `{}` is malformed: expected at most 255 letters, digits and any of _!~*'()%- in labels joined by dots",
    text.escape_debug()
)]
pub struct ParseNamespaceError {
    text: String,
}

/// The longest, in characters.
const LONGEST: usize = 255;

impl FromStr for Namespace {
    type Err = ParseNamespaceError;

    fn from_str(text: &str) -> Result<Self, ParseNamespaceError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_!~*'()%-".contains(&byte);
        let label = |label: &str| !label.is_empty() && label.bytes().all(allowed);
        if text.len() > LONGEST || !text.split('.').all(label) {
            let text = text.to_owned();
            return Err(ParseNamespaceError { text });
        }
        Ok(Self(text.to_owned()))
    }
}

impl Namespace {
    /// Returns its labels, the outermost first.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// Returns the namespace of `label` in `parent`, or at the top.
    pub(super) fn child(parent: Option<&Self>, label: &str) -> Result<Self, ParseNamespaceError> {
        match parent {
            Some(Self(parent)) => format!("{parent}.{label}").parse(),
            None => label.parse(),
        }
    }

    /// Returns its last label.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('.').next().unwrap_or_default()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Namespace {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::Namespace;

    #[test]
    fn only_labels_joined_by_dots_are_paths() {
        let longest = "x".repeat(255);
        for text in ["a", "a.b-c.D_9", "a.!~*'()%41", &longest] {
            assert!(text.parse::<Namespace>().is_ok(), "{text}");
        }
        let longer = "x".repeat(256);
        for text in [
            "", ".", "a.", ".a", "a..b", "a/b", "a b", "é", "a.b\n", &longer,
        ] {
            assert!(text.parse::<Namespace>().is_err(), "{text}");
        }
    }
}
