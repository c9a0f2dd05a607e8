//! [`Body`]: the content of an answer as a sequence of chunks, with `Content-Encoding` undone and silence noticed.

use crate::{
    error::{Error, Result},
    fs,
    safe_url::SafeUrl,
    size::ByteSize,
};
use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{BoxStream, Stream},
};
use reqwest::{Response, header::CONTENT_ENCODING};
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::io::{ReaderStream, StreamReader};

/// Chunk size of bodies that are read from a file or decoded here, in bytes.
const CHUNK: usize = 256 * 1024;

/// Content on its way.
pub struct Body {
    url: SafeUrl,
    length: Option<u64>,
    cache: Option<String>,
    chunks: BoxStream<'static, io::Result<Bytes>>,
    stall_timeout: Duration,
    received: u64,
}

impl Body {
    /// Takes over an answer. `path` is the path of the URL asked for, before redirects: a name that ends in `.gz` is
    /// the content's own compression, whatever the encoding says.
    pub(super) fn new(
        url: SafeUrl,
        path: &str,
        response: Response,
        stall_timeout: Duration,
    ) -> Self {
        let encoded = response
            .headers()
            .get(CONTENT_ENCODING)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let cache = response
            .headers()
            .get("x-cache-status")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let announced = response.content_length();
        let wire = count_wire(response.bytes_stream(), url.clone(), announced);
        let (chunks, length) = if encoded && !path.as_bytes().ends_with(b".gz") {
            let mut decoder = GzipDecoder::new(StreamReader::new(wire));
            decoder.multiple_members(true);
            (ReaderStream::with_capacity(decoder, CHUNK).boxed(), None)
        } else {
            (wire.boxed(), announced)
        };
        Self {
            url,
            length,
            cache,
            chunks,
            stall_timeout,
            received: 0,
        }
    }

    /// Reads a local file in place of an answer.
    ///
    /// # Errors
    /// [`Error::Fs`] when the file cannot be opened.
    pub async fn open(path: &Path) -> Result<Self> {
        let file = fs::open_async(path).await?;
        let length = file.metadata().await.ok().map(|meta| meta.len());
        let read_error = {
            let path = path.to_owned();
            move |source| {
                io::Error::other(Error::Fs {
                    action: "read",
                    path: path.clone(),
                    source,
                })
            }
        };
        let chunks = ReaderStream::with_capacity(file, CHUNK)
            .map_err(read_error)
            .boxed();
        Ok(Self {
            url: SafeUrl::of_file(path),
            length,
            cache: None,
            chunks,
            stall_timeout: Duration::MAX,
            received: 0,
        })
    }

    /// Returns the URL asked for.
    #[must_use]
    pub fn url(&self) -> &SafeUrl {
        &self.url
    }

    /// Returns how many bytes will come, if that is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Returns what a cache on the way said about itself.
    #[must_use]
    pub fn cache_status(&self) -> Option<&str> {
        self.cache.as_deref()
    }

    /// Returns the next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Stalled`], [`Error::Truncated`] and [`Error::Http`].
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        match tokio::time::timeout(self.stall_timeout, self.chunks.try_next()).await {
            Ok(Ok(chunk)) => {
                self.received += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
                Ok(chunk)
            }
            Ok(Err(err)) => Err(self.broken(err)),
            Err(_elapsed) => Err(Error::Stalled {
                url: self.url.clone(),
                after: self.stall_timeout,
                received: ByteSize(self.received),
            }),
        }
    }

    /// Reads everything into memory.
    ///
    /// # Errors
    /// As [`Body::next`]; [`Error::Http`] when there is more than `limit` bytes.
    pub async fn read_all(mut self, limit: usize) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        while let Some(chunk) = self.next().await? {
            content.extend_from_slice(&chunk);
            if content.len() > limit {
                let source = io::Error::new(
                    io::ErrorKind::FileTooLarge,
                    format!("more than {limit} bytes"),
                );
                return Err(Error::Http {
                    url: self.url,
                    transient: false,
                    source,
                });
            }
        }
        Ok(content)
    }

    /// An error of the transport travels through the decoder inside `io::Error`; what else the decoder says is about
    /// the encoding, which a broken cache can spoil.
    fn broken(&self, err: io::Error) -> Error {
        match err.downcast::<Error>() {
            Ok(err) => err,
            Err(source) => Error::Http {
                url: self.url.clone(),
                transient: true,
                source,
            },
        }
    }
}

/// Counts the encoded bytes, so that an early end can be told.
fn count_wire(
    chunks: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    url: SafeUrl,
    announced: Option<u64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    chunks
        .inspect_ok(move |chunk| {
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        })
        .map_err(move |err| {
            let received = received.load(Ordering::Relaxed);
            io::Error::other(match announced {
                Some(expected) if received < expected => Error::Truncated {
                    url: url.clone(),
                    received,
                    expected,
                },
                _ => transport_error(url.clone(), err),
            })
        })
        .boxed()
}

/// Turns a failure of the transport into an error. A certificate that is not accepted will not be so later.
pub(super) fn transport_error(url: SafeUrl, err: reqwest::Error) -> Error {
    let lasting = err.is_builder() || has_certificate_problem(&err);
    Error::Http {
        url,
        transient: !lasting,
        source: io::Error::other(err.without_url()),
    }
}

fn has_certificate_problem(err: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(err);
    while let Some(err) = next {
        let inner = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let tls = inner
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
            .or_else(|| err.downcast_ref());
        if matches!(
            tls,
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented)
        ) {
            return true;
        }
        next = err.source();
    }
    false
}
