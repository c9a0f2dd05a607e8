//! [`Digest`]: the name of a blob, which is the algorithm and the hash of its content.

use crate::digest::Sha256Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    fmt,
    io::{self, Write},
    str::FromStr,
};

/// What a digest begins with.
const PREFIX: &str = "sha256:";

/// `sha256:` and 64 lower-case hexadecimal digits.
///
/// The specification knows SHA-512, too, but nobody makes such images.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub Sha256Digest);

/// A text is not a [`Digest`].
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct ParseDigestError {
    text: String,
}

impl Digest {
    /// Returns the digest of some content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256Digest::from_bytes(Sha256::digest(content).into()))
    }

    /// Returns the hexadecimal digits, which are the name of a blob's file.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.to_string()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let malformed = || ParseDigestError {
            text: text
                .chars()
                .take(200)
                .flat_map(char::escape_debug)
                .collect(),
        };
        let hex = text.strip_prefix(PREFIX).ok_or_else(malformed)?;
        // Two spellings would be two names of the same blob.
        if hex.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(malformed());
        }
        hex.parse().map(Self).map_err(|_other_digits| malformed())
    }
}

impl TryFrom<String> for Digest {
    type Error = ParseDigestError;

    fn try_from(text: String) -> Result<Self, ParseDigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// Counts and hashes what is written through it.
#[derive(Debug)]
pub struct DigestWriter<W> {
    inner: W,
    hasher: Sha256,
    written: u64,
}

impl<W> DigestWriter<W> {
    /// Wraps a writer.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
            written: 0,
        }
    }

    /// Returns the writer, and digest and size in bytes of what was written.
    pub fn finish(self) -> (W, Digest, u64) {
        let digest = Sha256Digest::from_bytes(self.hasher.finalize().into());
        (self.inner, Digest(digest), self.written)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..length]);
        self.written += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::{Digest, DigestWriter};
    use std::io::Write;

    #[test]
    fn a_digest_has_one_spelling() {
        let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::of(b"").to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), Digest::of(b""));
        for wrong in [
            "",
            &text[7..],
            &text[..70],
            &text.to_uppercase(),
            &text.replace("e3", "E3"),
            &text.replace("256", "512"),
            "sha256:../../etc/passwd",
        ] {
            let err = wrong.parse::<Digest>().unwrap_err().to_string();
            assert!(err.contains(&format!("`{wrong}`")), "{err}");
        }
    }

    #[test]
    fn what_is_written_is_hashed_and_counted() {
        let mut writer = DigestWriter::new(Vec::new());
        writer.write_all(b"a").unwrap();
        writer.write_all(b"bc").unwrap();
        let (content, digest, size) = writer.finish();
        assert_eq!(
            (&content[..], digest, size),
            (&b"abc"[..], Digest::of(b"abc"), 3)
        );
    }
}
