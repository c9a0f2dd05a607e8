//! `Content-Encoding: gzip`, which is the only one that is asked for and undone.

use async_compression::tokio::bufread::GzipDecoder;
use bytes::Bytes;
use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use std::io::{self, Read};
use tokio::io::AsyncBufReadExt;
use tokio_util::io::{ReaderStream, StreamReader};

type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Tells whether a body is encoded.
pub(super) fn is_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"))
}

/// Tells whether the bytes on their way are not those of the content. The object service labels its content `identity`.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Decodes a body on its way, in chunks of `chunk` bytes. No bytes at all are an empty content, as for Python: that is
/// how some storage sends empty files.
pub(super) fn gunzip(wire: Chunks, chunk: usize) -> Chunks {
    let decoded = async move {
        let mut wire = StreamReader::new(wire);
        if wire.fill_buf().await?.is_empty() {
            return io::Result::Ok(stream::empty().boxed());
        }
        let mut decoder = GzipDecoder::new(wire);
        decoder.multiple_members(true);
        Ok(ReaderStream::with_capacity(decoder, chunk).boxed())
    };
    stream::once(decoded).try_flatten().boxed()
}

/// Decodes what can be decoded of the beginning of a body, at most `limit` bytes.
pub(super) fn gunzip_some(body: &[u8], limit: u64) -> Vec<u8> {
    let mut decoded = Vec::new();
    // What comes before an error counts.
    let _ = flate2::read::GzDecoder::new(body)
        .take(limit)
        .read_to_end(&mut decoded);
    decoded
}
