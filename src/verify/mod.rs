//! Whether the bytes that arrived are the bytes that were wanted.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    safe_url::SafeUrl,
};
use futures::{FutureExt, future::BoxFuture};
use sha2::{Digest, Sha256};

/// What is known beforehand about some content. What is absent is not checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The digest of the content.
    pub sha256: Option<Sha256Digest>,
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
#[derive(Default)]
pub struct Verifier {
    hasher: Sha256,
    received: u64,
}

impl Verifier {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
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
    pub fn finish(self, expected: &Expected, url: &SafeUrl) -> Result<Verified> {
        let verified = Verified {
            bytes: self.received,
            sha256: Sha256Digest::from_bytes(self.hasher.finalize().into()),
        };
        if let Some(size) = expected.size
            && size != verified.bytes
        {
            return Err(Error::Size {
                url: url.clone(),
                expected: size,
                actual: verified.bytes,
            });
        }
        match expected.sha256 {
            Some(sha256) if sha256 != verified.sha256 => Err(Error::Digest {
                url: url.clone(),
                expected: sha256,
                actual: verified.sha256,
                received: verified.bytes,
            }),
            _ => Ok(verified),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Expected, Verifier};
    use crate::{error::Error, safe_url::SafeUrl};
    use url::Url;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn finish(content: &[u8], expected: Expected) -> Result<super::Verified, Error> {
        let mut verifier = Verifier::default();
        verifier.update(content);
        verifier.finish(
            &expected,
            &SafeUrl::from(&Url::parse("http://h/x").unwrap()),
        )
    }

    #[test]
    fn size_and_digest_are_compared_when_known() {
        let sha256 = Some(EMPTY.parse().unwrap());
        assert!(
            finish(
                b"",
                Expected {
                    sha256,
                    size: Some(0)
                }
            )
            .is_ok()
        );
        assert!(finish(b"x", Expected::default()).is_ok());
        assert!(matches!(
            finish(b"x", Expected { sha256, size: None }),
            Err(Error::Digest { received: 1, .. })
        ));
        assert!(matches!(
            finish(
                b"x",
                Expected {
                    sha256,
                    size: Some(2)
                }
            ),
            Err(Error::Size { actual: 1, .. })
        ));
    }
}
