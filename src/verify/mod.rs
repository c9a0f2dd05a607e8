//! Whether the bytes that arrived are the bytes that were wanted.

pub mod openpgp;

use crate::{
    digest::{Sha2Digest, Sha256Digest, Sha512Digest},
    error::{Error, Result},
    safe_url::SafeUrl,
};
use futures::{FutureExt, future::BoxFuture};
use sha2::{Digest, Sha256, Sha512};
use std::fmt;

/// What is known beforehand about some content. What is absent is not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The digest of the content.
    pub sha256: Option<Sha256Digest>,
    /// Its other digest, which is computed only if it is expected.
    pub sha512: Option<Sha512Digest>,
    /// Its size in bytes.
    pub size: Option<u64>,
}

/// Finds out what is known about some content; may have to ask a server for it.
pub type Expectation = Box<dyn Fn() -> BoxFuture<'static, Result<Expected>> + Send + Sync>;

impl Expected {
    /// Returns this as something that is known without asking.
    #[must_use]
    pub fn known(self) -> Expectation {
        Box::new(move || std::future::ready(Ok(self)).boxed())
    }

    /// Checks the length a server announces, before any of the body is read.
    ///
    /// # Errors
    /// [`Error::AnnouncedSize`].
    pub fn check_announced(
        &self,
        url: &SafeUrl,
        announced: Option<u64>,
        cache: Option<&str>,
    ) -> Result<()> {
        match (self.size, announced) {
            (Some(expected), Some(announced)) if expected != announced => {
                Err(Error::AnnouncedSize {
                    url: url.clone(),
                    expected,
                    announced,
                    cache: cache.unwrap_or("None").to_owned(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Returns this together with what the server at `url` promises of its content.
    ///
    /// # Errors
    /// [`Error::Unverifiable`] when no content can be both.
    pub fn and(self, promised: &Self, url: &SafeUrl) -> Result<Self> {
        Ok(Self {
            sha256: both("sha256", self.sha256, promised.sha256, url)?,
            sha512: both("sha512", self.sha512, promised.sha512, url)?,
            size: both("size", self.size, promised.size, url)?,
        })
    }
}

/// Returns what is known of the two, which must be the same if both are.
fn both<T: PartialEq + fmt::Display>(
    what: &str,
    pinned: Option<T>,
    promised: Option<T>,
    url: &SafeUrl,
) -> Result<Option<T>> {
    match (pinned, promised) {
        (Some(pinned), Some(promised)) if pinned != promised => Err(Error::Unverifiable {
            url: url.clone(),
            problem: format!("has content of {what} {promised}, wanted is {what} {pinned}"),
        }),
        (pinned, promised) => Ok(pinned.or(promised)),
    }
}

/// Content that was found to be what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Its size in bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
}

/// Hashes and counts content as it passes.
pub struct Verifier {
    expected: Expected,
    sha256: Sha256,
    sha512: Option<Sha512>,
    received: u64,
}

impl Verifier {
    /// Begins with no content; what is expected decides which hashes are computed.
    #[must_use]
    pub fn new(expected: &Expected) -> Self {
        Self {
            expected: *expected,
            sha256: Sha256::default(),
            sha512: expected.sha512.map(|_| Sha512::default()),
            received: 0,
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(hasher) = &mut self.sha512 {
            hasher.update(bytes);
        }
        self.received += bytes.len() as u64;
    }

    /// Returns how many bytes were taken.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Compares the whole with what was expected.
    ///
    /// # Errors
    /// [`Error::Size`] and [`Error::Digest`].
    pub fn finish(self, url: &SafeUrl) -> Result<Verified> {
        let bytes = self.received;
        match self.expected.size {
            Some(expected) if expected != bytes => {
                return Err(Error::Size {
                    url: url.clone(),
                    expected,
                    actual: bytes,
                });
            }
            _ => {}
        }
        let mismatch = |algorithm, (expected, actual)| Error::Digest {
            url: url.clone(),
            algorithm,
            expected,
            actual,
            received: bytes,
        };
        let sha256 = Sha256Digest::from_bytes(self.sha256.finalize().into());
        if let Some(pair) = differing(self.expected.sha256, sha256) {
            return Err(mismatch("sha256", pair));
        }
        let sha512 = self.sha512.map(|hasher| hasher.finalize().into());
        if let Some(sha512) = sha512.map(Sha512Digest::from_bytes)
            && let Some(pair) = differing(self.expected.sha512, sha512)
        {
            return Err(mismatch("sha512", pair));
        }
        Ok(Verified { bytes, sha256 })
    }
}

/// Returns expected and actual digest in writing, unless they are the same.
fn differing<const BYTES: usize>(
    expected: Option<Sha2Digest<BYTES>>,
    actual: Sha2Digest<BYTES>,
) -> Option<(String, String)> {
    let expected = expected.filter(|expected| *expected != actual)?;
    Some((expected.to_string(), actual.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{Expected, Verifier};
    use crate::{error::Error, safe_url::SafeUrl};
    use url::Url;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const EMPTY_512: &str = "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce\
                             47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e";

    fn url() -> SafeUrl {
        SafeUrl::from(&Url::parse("http://h/x").unwrap())
    }

    fn finish(content: &[u8], expected: Expected) -> Result<super::Verified, Error> {
        let mut verifier = Verifier::new(&expected);
        verifier.update(content);
        verifier.finish(&url())
    }

    #[test]
    fn size_and_digests_are_compared_when_known() {
        let expected = Expected {
            sha256: Some(EMPTY.parse().unwrap()),
            sha512: Some(EMPTY_512.parse().unwrap()),
            size: Some(0),
        };
        assert!(finish(b"", expected).is_ok());
        assert!(finish(b"x", Expected::default()).is_ok());
        let of_x = |expected| finish(b"x", expected).unwrap_err();
        let size = Expected {
            size: Some(2),
            ..expected
        };
        assert!(matches!(of_x(size), Error::Size { actual: 1, .. }));
        for (sha256, sha512, wrong) in [
            (expected.sha256, None, "sha256"),
            (None, expected.sha512, "sha512"),
        ] {
            let expected = Expected {
                sha256,
                sha512,
                size: None,
            };
            let Error::Digest {
                algorithm,
                received: 1,
                ..
            } = of_x(expected)
            else {
                panic!("{wrong}");
            };
            assert_eq!(algorithm, wrong);
        }
    }

    #[test]
    fn two_sources_of_knowledge_add_up_or_contradict() {
        let pinned = Expected {
            sha256: Some(EMPTY.parse().unwrap()),
            ..Expected::default()
        };
        let promised = Expected {
            sha512: Some(EMPTY_512.parse().unwrap()),
            ..pinned
        };
        assert_eq!(pinned.and(&promised, &url()).unwrap(), promised);
        let other = Expected {
            sha256: Some(EMPTY.replace('e', "f").parse().unwrap()),
            ..promised
        };
        assert!(matches!(
            pinned.and(&other, &url()),
            Err(Error::Unverifiable { .. })
        ));
    }
}
