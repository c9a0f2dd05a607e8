//! [`Sha256Digest`]: a SHA-256 value, parsed from and shown as 64 hex digits.

use std::{fmt, str::FromStr};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha256Digest([u8; 32]);

/// The text is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a SHA-256: expected 64 hexadecimal digits, got {} characters", text.chars().count())]
pub struct ParseDigestError {
    text: String,
}

impl Sha256Digest {
    /// Wraps the 32 bytes of a finished hash.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl FromStr for Sha256Digest {
    type Err = ParseDigestError;

    /// Accepts upper and lower case. The Python tool compares strings, so that upper case never matches.
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let malformed = || ParseDigestError {
            text: text.escape_debug().to_string(),
        };
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(malformed());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or_else(malformed)?;
                *byte = *byte << 4 | u8::try_from(value).unwrap_or_default();
            }
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Sha256Digest;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn either_case_is_read_and_lower_case_is_shown() {
        let digest: Sha256Digest = HEX.to_uppercase().parse().unwrap();
        assert_eq!(digest.to_string(), HEX);
    }

    #[test]
    fn anything_but_64_hex_digits_is_refused_and_quoted() {
        for text in [
            "",
            "abc",
            &HEX[1..],
            &format!("{HEX}0"),
            &HEX.replace('e', "g"),
            &"é".repeat(32),
        ] {
            let err = text.parse::<Sha256Digest>().unwrap_err().to_string();
            assert!(err.contains(&format!("`{text}`")), "{err}");
        }
    }
}
