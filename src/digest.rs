//! [`Sha256Digest`] and [`Sha512Digest`]: values of a hash, parsed from and shown as hex digits.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr};

/// A SHA-256 digest.
pub type Sha256Digest = Sha2Digest<32>;

/// A SHA-512 digest.
pub type Sha512Digest = Sha2Digest<64>;

/// A digest of the SHA-2 family, which is named after its length.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sha2Digest<const BYTES: usize>([u8; BYTES]);

/// The text is not as many hexadecimal digits as a digest has.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a SHA-{}: expected {} hexadecimal digits, got {} characters", bytes * 8, bytes * 2, text.chars().count())]
pub struct ParseDigestError {
    text: String,
    bytes: usize,
}

impl<const BYTES: usize> Sha2Digest<BYTES> {
    /// Wraps the bytes of a finished hash.
    #[must_use]
    pub fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; BYTES] {
        &self.0
    }
}

impl<const BYTES: usize> FromStr for Sha2Digest<BYTES> {
    type Err = ParseDigestError;

    /// Accepts upper and lower case. The Python tool compares strings, so that upper case never matches.
    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let malformed = || ParseDigestError {
            text: text.escape_debug().to_string(),
            bytes: BYTES,
        };
        let digits = text.as_bytes();
        if digits.len() != 2 * BYTES {
            return Err(malformed());
        }
        let mut bytes = [0; BYTES];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                let value = char::from(*digit).to_digit(16).ok_or_else(malformed)?;
                *byte = *byte << 4 | u8::try_from(value).unwrap_or_default();
            }
        }
        Ok(Self(bytes))
    }
}

impl<const BYTES: usize> fmt::Display for Sha2Digest<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const BYTES: usize> fmt::Debug for Sha2Digest<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<const BYTES: usize> Serialize for Sha2Digest<BYTES> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, const BYTES: usize> Deserialize<'de> for Sha2Digest<BYTES> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{Sha256Digest, Sha512Digest};

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

    #[test]
    fn a_sha_512_has_128_digits() {
        let hex = HEX.repeat(2);
        assert_eq!(hex.parse::<Sha512Digest>().unwrap().to_string(), hex);
        let err = HEX.parse::<Sha512Digest>().unwrap_err().to_string();
        assert!(
            err.ends_with("is not a SHA-512: expected 128 hexadecimal digits, got 64 characters"),
            "{err}"
        );
    }
}
