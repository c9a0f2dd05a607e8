//! [`TaskId`] and [`ArtifactName`], which become parts of URLs and of file names.

use crate::error::{Error, Result};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What is not encoded in an artifact's name within a URL: RFC 3986's unreserved characters and the slash, as the
/// Python tool has it.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The longest name of a file on Linux, in bytes.
const NAME_MAX: usize = 255;

/// The id of a task. Taskcluster's are slugids of 22 characters; nothing here depends on the length.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct TaskId(String);

/// The name of an artifact, such as `public/build/target.tar.zst`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct ArtifactName(String);

/// The number of a run of a task, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunId(u32);

/// Why a text is not a [`TaskId`], a [`RunId`] or an [`ArtifactName`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} `{}` {problem}", text.escape_debug())]
pub struct ParseIdError {
    what: &'static str,
    text: String,
    problem: &'static str,
}

impl TaskId {
    /// Makes an id that no other task has: a slugid, which is a random UUID (version 4) in URL-safe base64. Its first
    /// bit is zero, as in Taskcluster's own ("nice" ones): none begins with a hyphen, like an option.
    ///
    /// # Errors
    /// [`Error::Usage`] when the system gives no random numbers.
    pub fn random() -> Result<Self> {
        let mut uuid = [0; 16];
        SystemRandom::new()
            .fill(&mut uuid)
            .map_err(|_unspecified| Error::usage("the system gives no random numbers"))?;
        Ok(Self::slugid(uuid))
    }

    /// Makes the id that stands for what is done here, by whatever decides on it: the same on every machine.
    #[must_use]
    pub fn of(what: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, what.as_bytes());
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&digest.as_ref()[..16]);
        Self::slugid(uuid)
    }

    fn slugid(mut uuid: [u8; 16]) -> Self {
        uuid[0] &= 0x7f;
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Self(BASE64_URL_SAFE_NO_PAD.encode(uuid))
    }
}

impl FromStr for TaskId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || !text.bytes().all(allowed) {
            let problem = "is malformed: expected letters, digits, `-` and `_`";
            return Err(ParseIdError {
                what: "task id",
                text: text.to_owned(),
                problem,
            });
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for RunId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let number = text.parse().ok().filter(|_| !text.starts_with('+'));
        number.map(Self).ok_or_else(|| ParseIdError {
            what: "run id",
            text: text.to_owned(),
            problem: "is not a number",
        })
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TaskId {
    /// Returns the id itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArtifactName {
    type Err = ParseIdError;

    /// Accepts what can be both a part of a URL and, its last segment, the name of a file.
    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refused = |problem| {
            Err(ParseIdError {
                what: "artifact name",
                text: text.to_owned(),
                problem,
            })
        };
        let last = text.rsplit('/').next().unwrap_or_default();
        match () {
            () if text.is_empty() => refused("is empty"),
            () if text.chars().any(char::is_control) => refused("has a control character"),
            () if text.starts_with('/') => refused("starts with a slash"),
            () if last.is_empty() => refused("ends with a slash: expected the name of a file"),
            // URL parsers resolve these segments, so that another artifact would be asked for.
            () if text.split('/').any(|part| part == "." || part == "..") => {
                refused("has a `.` or `..` segment")
            }
            () if last.len() > NAME_MAX => {
                refused("has a last segment of more than 255 bytes, which cannot be a file name")
            }
            () => Ok(Self(text.to_owned())),
        }
    }
}

impl ArtifactName {
    /// Returns whether reading it takes no credentials.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.0.starts_with("public/")
    }

    /// Returns the name if an artifact can be created with it: Taskcluster takes up to 1024 printable ASCII characters.
    ///
    /// # Errors
    /// [`ParseIdError`].
    pub fn creatable(self) -> Result<Self, ParseIdError> {
        let printable = |byte: u8| matches!(byte, b' '..=b'~');
        if self.0.len() <= 1024 && self.0.bytes().all(printable) {
            return Ok(self);
        }
        Err(ParseIdError {
            what: "artifact name",
            text: self.0,
            problem: "cannot be created: expected at most 1024 printable ASCII characters",
        })
    }

    /// Returns the last segment: what the file is called.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Returns the name as a part of a URL's path.
    #[must_use]
    pub fn percent_encoded(&self) -> String {
        utf8_percent_encode(&self.0, KEPT).to_string()
    }

    /// Returns the name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_type {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $type {
            type Error = ParseIdError;

            fn try_from(text: String) -> Result<Self, ParseIdError> {
                text.parse()
            }
        }
    };
}

text_type!(TaskId);
text_type!(ArtifactName);

#[cfg(test)]
mod tests {
    use super::{ArtifactName, RunId, TaskId};
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_encoded_once_and_keep_their_slashes() {
        for (name, encoded) in [
            ("public/build/target.tar.zst", "public/build/target.tar.zst"),
            ("public/a b+c#?.txt", "public/a%20b%2Bc%23%3F.txt"),
            ("public/100%.txt", "public/100%25.txt"),
            ("public/a%20b", "public/a%2520b"),
            ("public/é~-_.x", "public/%C3%A9~-_.x"),
        ] {
            assert_eq!(
                name.parse::<ArtifactName>().unwrap().percent_encoded(),
                encoded
            );
        }
    }

    #[test]
    fn names_that_cannot_be_files_are_refused() {
        let long = format!("public/{}", "x".repeat(256));
        for name in [
            "",
            "..",
            "public/..",
            "public/../x",
            "a/./b",
            "public/",
            "/public/x",
            "a\0b",
            "a\nb",
            &long,
        ] {
            let err = name.parse::<ArtifactName>().unwrap_err().to_string();
            assert!(err.starts_with("artifact name `"), "{err}");
        }
        assert!(long[..long.len() - 1].parse::<ArtifactName>().is_ok());
    }

    #[test]
    fn names_of_new_artifacts_are_printable_ascii() {
        let long = format!("public/{}", "x/".repeat(510));
        for (name, creatable) in [
            ("public/a b~%", true),
            ("public/é", false),
            (&format!("{}x", &long[..1023]), true),
            (&format!("{}xy", &long[..1023]), false),
        ] {
            let name: ArtifactName = name.parse().unwrap();
            assert_eq!(name.clone().creatable().is_ok(), creatable, "{name}");
        }
    }

    #[test]
    fn runs_are_numbers() {
        assert_eq!("12".parse::<RunId>().unwrap().to_string(), "12");
        for text in ["", "-1", "+1", "1/2", "x"] {
            assert!(text.parse::<RunId>().is_err(), "{text}");
        }
    }

    #[test]
    fn new_task_ids_are_slugids() {
        for _ in 0..200 {
            let id = TaskId::random().unwrap();
            let id = id.as_str().as_bytes();
            assert_eq!(id.len(), 22);
            assert!(id[0].is_ascii_alphabetic());
            assert!(b"QRST".contains(&id[8]), "the version");
            assert!(b"CGKOSWaeimquy26-".contains(&id[10]), "the variant");
            assert!(b"AQgw".contains(&id[21]), "no bits left over");
        }
    }

    #[test]
    fn task_ids_are_one_segment() {
        assert!("dSlITZ4yQgmvxxAi4A8fHQ".parse::<TaskId>().is_ok());
        for id in ["", "a/b", "..", "a b", "é"] {
            assert!(id.parse::<TaskId>().is_err(), "{id}");
        }
    }

    /// `^[A-Za-z0-9_-]{8}[Q-T][A-Za-z0-9_-][CGKOSWaeimquy26-][A-Za-z0-9_-]{10}[AQgw]$`, and no hyphen in front.
    #[test]
    fn made_ids_are_nice_slugids() {
        let ids: HashSet<String> = (0..1000)
            .map(|_| TaskId::random().unwrap().to_string())
            .collect();
        assert_eq!(ids.len(), 1000);
        for id in ids {
            let bytes = id.as_bytes();
            assert_eq!(bytes.len(), 22, "{id}");
            assert!(bytes[0].is_ascii_alphabetic(), "{id}");
            assert!((b'Q'..=b'T').contains(&bytes[8]), "{id}");
            assert!(b"CGKOSWaeimquy26-".contains(&bytes[10]), "{id}");
            assert!(b"AQgw".contains(&bytes[21]), "{id}");
            assert_eq!(id.parse::<TaskId>().unwrap().to_string(), id);
        }
    }

    proptest! {
        #[test]
        fn accepted_names_name_a_file_and_survive_a_url(name in ".{0,40}") {
            if let Ok(artifact) = name.parse::<ArtifactName>() {
                prop_assert!(!artifact.file_name().contains('/') && !matches!(artifact.file_name(), "" | "." | ".."));
                let url = url::Url::parse(&format!("http://h/{}", artifact.percent_encoded())).unwrap();
                let decoded = percent_encoding::percent_decode_str(&url.path()[1..]).decode_utf8().unwrap().into_owned();
                prop_assert_eq!(decoded, name);
            }
        }
    }
}
