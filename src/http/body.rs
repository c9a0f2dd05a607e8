//! [`Body`]: the content of an answer as a sequence of chunks, with `Content-Encoding` undone and silence noticed.

use crate::{
    error::{Error, Result},
    fs,
    http::{
        Address, Settings, content_range::ContentRange, encoding, part::Place,
        transport::transport_error,
    },
    safe_url::SafeUrl,
    size::ByteSize,
    verify::Expected,
};
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{BoxStream, Stream},
};
use reqwest::Response;
use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::io::ReaderStream;
use url::Url;

/// Chunk size of bodies that are read from a file or decoded here, in bytes.
const CHUNK: usize = 256 * 1024;

/// What is known of some content before any of it is read.
#[derive(Clone)]
pub struct Head {
    /// The URL asked for.
    pub url: SafeUrl,
    /// How many bytes will come, if that is known.
    pub length: Option<u64>,
    /// What a cache on the way said about itself.
    pub cache_status: Option<String>,
    /// What is promised beside; it is for the reader to check.
    pub promised: Expected,
}

/// Content on its way.
pub struct Body {
    head: Head,
    place: Option<Place>,
    chunks: BoxStream<'static, io::Result<Bytes>>,
    pace: Pace,
    /// Where in the content it begins, in bytes.
    start: u64,
    received: u64,
}

impl Body {
    /// Takes over an answer with the whole content, which came from `location`. `asked` is the URL before redirects: a
    /// name that ends in `.gz` is the content's own compression, whatever the encoding says.
    pub(super) fn whole(
        asked: &Url,
        location: Address,
        response: Response,
        settings: &Settings,
    ) -> Self {
        let url = SafeUrl::from(asked);
        let promised = location.promised;
        let encoded = encoding::is_gzip(response.headers());
        let cache_status = response
            .headers()
            .get("x-cache-status")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let place = Place::of(location, &response);
        let announced = response.content_length();
        let wire = count_wire(response.bytes_stream(), url.clone(), 0, announced);
        let (chunks, length) = if encoded && !asked.path().as_bytes().ends_with(b".gz") {
            (encoding::gunzip(wire, CHUNK), None)
        } else {
            (wire, announced)
        };
        let mut body = Self::of_chunks(url, length, chunks, settings);
        (body.head.cache_status, body.head.promised) = (cache_status, promised);
        body.place = place;
        body
    }

    /// Takes over an answer with a part of the content.
    pub(super) fn part(
        asked: &Url,
        ContentRange { start, end, .. }: ContentRange,
        response: Response,
        settings: &Settings,
    ) -> Self {
        let url = SafeUrl::from(asked);
        let chunks = count_wire(response.bytes_stream(), url.clone(), start, Some(end));
        Self {
            start,
            ..Self::of_chunks(url, Some(end - start), chunks, settings)
        }
    }

    /// Takes over content that comes by other means than HTTP. Silence is noticed here, and errors that are an
    /// [`Error`] inside are passed on as they are.
    pub(super) fn of_chunks(
        url: SafeUrl,
        length: Option<u64>,
        chunks: BoxStream<'static, io::Result<Bytes>>,
        settings: &Settings,
    ) -> Self {
        let head = Head {
            url,
            length,
            cache_status: None,
            promised: Expected::default(),
        };
        Self {
            head,
            place: None,
            chunks,
            pace: Pace::new(settings),
            start: 0,
            received: 0,
        }
    }

    /// Says how to ask for a part of it.
    pub(super) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
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
        let url = SafeUrl::of_file(path);
        Ok(Self::of_chunks(
            url,
            length,
            chunks,
            &Settings::without_limits(),
        ))
    }

    /// Returns what is known of it beforehand.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns how to ask for a part of it.
    pub(super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Returns the next chunk; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Stalled`], [`Error::Slow`], [`Error::Truncated`] and [`Error::Http`].
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let begin = Instant::now();
        match tokio::time::timeout(self.pace.stall_timeout, self.chunks.try_next()).await {
            Ok(Ok(Some(chunk))) => {
                self.received += chunk.len() as u64;
                if self
                    .head
                    .length
                    .is_some_and(|length| self.received > length)
                {
                    return Err(self.too_long());
                }
                self.pace
                    .took(begin.elapsed(), chunk.len())
                    .map_err(|rate| Error::Slow {
                        url: self.head.url.clone(),
                        rate,
                        window: self.pace.stall_timeout,
                        least: self.pace.min_speed,
                    })?;
                Ok(Some(chunk))
            }
            Ok(Ok(None)) => match self.head.length {
                Some(length) if self.received < length => Err(Error::Truncated {
                    url: self.head.url.clone(),
                    received: self.start + self.received,
                    expected: self.start + length,
                }),
                _ => Ok(None),
            },
            Ok(Err(err)) => Err(self.broken(err)),
            Err(_elapsed) => Err(Error::Stalled {
                url: self.head.url.clone(),
                after: self.pace.stall_timeout,
                received: ByteSize(self.received),
            }),
        }
    }

    /// No transport checks what a server says about a part, and a file may grow while it is read.
    fn too_long(&self) -> Error {
        Error::Http {
            url: self.head.url.clone(),
            transient: true,
            source: io::Error::other("there is more than was announced"),
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
                    url: self.head.url,
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
            Err(source) => Error::Encoding {
                url: self.head.url.clone(),
                source,
            },
        }
    }
}

/// Whether a transfer is alive. Only the time spent waiting for bytes counts, not what others do between them.
struct Pace {
    stall_timeout: Duration,
    min_speed: u64,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn new(settings: &Settings) -> Self {
        Self {
            stall_timeout: settings.stall_timeout,
            min_speed: settings.min_speed,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Takes notice that `bytes` took `waited` to come. The error is the rate, in bytes per second, of a window that
    /// was slower than allowed.
    fn took(&mut self, waited: Duration, bytes: usize) -> std::result::Result<(), u64> {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < self.stall_timeout {
            return Ok(());
        }
        let milliseconds = u64::try_from(self.waited.as_millis().max(1)).unwrap_or(u64::MAX);
        let rate = self.bytes.saturating_mul(1000) / milliseconds;
        (self.waited, self.bytes) = (Duration::ZERO, 0);
        if rate < self.min_speed {
            return Err(rate);
        }
        Ok(())
    }
}

/// Counts the encoded bytes from `start` on, so that an early end can be told. `end` is where they should end.
fn count_wire(
    chunks: impl Stream<Item = reqwest::Result<Bytes>> + Send + 'static,
    url: SafeUrl,
    start: u64,
    end: Option<u64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let reached = Arc::new(AtomicU64::new(start));
    let counter = Arc::clone(&reached);
    chunks
        .inspect_ok(move |chunk| {
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        })
        .map_err(move |err| {
            let received = reached.load(Ordering::Relaxed);
            io::Error::other(match end {
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
