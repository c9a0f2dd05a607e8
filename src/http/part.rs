//! Parts of some content: what it takes to ask for one, and whether an answer is it.

use crate::{
    error::Result,
    http::{Address, Body, Client, content_range::ContentRange, encoding},
};
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED},
};

/// What it takes to ask for a part of the same content: where it is, and how to tell that it has not changed.
#[derive(Clone)]
pub(super) struct Place {
    /// Where redirects led to.
    pub(super) location: Address,
    /// A strong `ETag`, or else `Last-Modified`. Only FTP has none: there it is for the digest of the whole to decide.
    pub(super) validator: Option<HeaderValue>,
    /// The length of the whole in bytes, if it was announced.
    pub(super) total: Option<u64>,
    /// Whether the server says that it knows ranges of bytes.
    pub(super) offers_ranges: bool,
}

impl Place {
    fn has_tag(&self) -> bool {
        let tag = self.validator.as_ref();
        tag.is_some_and(|tag| tag.as_bytes().starts_with(b"\""))
    }

    /// Reads an answer. There is no place in content that is encoded on the way: a range would be one of the encoded
    /// bytes, and nothing says that they are the same next time.
    pub(super) fn of(location: Address, response: &Response) -> Option<Self> {
        let headers = response.headers();
        if encoding::is_encoded(headers) {
            return None;
        }
        Some(Self {
            location,
            validator: Some(validator(headers)?.clone()),
            total: response.content_length(),
            offers_ranges: headers
                .get(ACCEPT_RANGES)
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"bytes")),
        })
    }
}

/// Returns what `If-Range` may hold (RFC 9110, section 13.1.5): a weak tag says nothing about bytes.
fn validator(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers
        .get(ETAG)
        .filter(|tag| tag.as_bytes().starts_with(b"\""))
        .or_else(|| headers.get(LAST_MODIFIED))
}

/// Which bytes of some content to ask for.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) place: &'a Place,
    pub(super) start: u64,
    /// Exclusive; to the end if there is none.
    pub(super) end: Option<u64>,
}

impl Part<'_> {
    /// Returns which bytes an answer holds, if they are just these of the same content; else what is wrong with it.
    pub(super) fn check(&self, response: &Response) -> std::result::Result<ContentRange, String> {
        let headers = response.headers();
        let same = validator(headers).map(|now| Some(now) == self.place.validator.as_ref());
        let partial = response.status() == StatusCode::PARTIAL_CONTENT;
        match (partial, same) {
            (_, Some(false)) => return Err("it has changed".into()),
            (true, Some(true)) => {}
            // A tag that was there must be there again (RFC 9110, section 15.3.7); a date need not.
            (true, None) if !self.place.has_tag() => {}
            (_, Some(true)) => return Err("the server sends the whole again".into()),
            (_, None) => return Err("the server does not say whether it has changed".into()),
        }
        if encoding::is_encoded(headers) {
            return Err("it is encoded now".into());
        }
        let range = headers
            .get(CONTENT_RANGE)
            .and_then(|value| ContentRange::parse(value.to_str().ok()?))
            .ok_or("the server does not say which part it sends")?;
        let total = self.place.total.or(range.total);
        let expected = ContentRange {
            start: self.start,
            end: self.end.or(total).unwrap_or(range.end),
            total: range.total.and(total),
        };
        if range == expected {
            Ok(range)
        } else {
            Err(format!("the server sends {range}, not {expected}"))
        }
    }
}

/// Whom to ask for a part.
#[derive(Clone, Copy)]
pub(super) enum Ask {
    /// The source, which may lead elsewhere now: what it led to may have expired.
    Source,
    /// Where it led to, over a connection of its own.
    Location,
}

/// Content that can be had in parts.
#[derive(Clone)]
pub(super) struct Divisible {
    pub(super) client: Client,
    pub(super) source: Address,
    pub(super) place: Place,
}

impl Divisible {
    /// Asks for the bytes from `start` to `end` (exclusive; to the end of all if there is none). Returns where they came
    /// from, too.
    pub(super) async fn get(
        &self,
        start: u64,
        end: Option<u64>,
        ask: Ask,
    ) -> Result<(Address, Body)> {
        let place = &self.place;
        let part = Part { place, start, end };
        match ask {
            Ask::Source => self.client.get_part(&self.source, part, ask).await,
            Ask::Location => self.client.get_part(&place.location, part, ask).await,
        }
    }
}
