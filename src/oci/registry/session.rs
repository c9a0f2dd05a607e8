//! [`Session`]: where an upload goes on, and what the registry's answers say of it.

use super::Repository;
use crate::{
    error::{Error, Result},
    http::Reply,
    safe_url::SafeUrl,
};
use std::io;
use url::Url;

/// The largest chunk that a registry may ask for, in bytes: it is not in memory, but it is what a break can cost.
const MAX_CHUNK: u64 = 1 << 30;

/// Where the registry takes the next chunk.
pub(super) struct Session {
    pub(super) location: Url,
    /// In bytes.
    pub(super) least_chunk: u64,
}

impl Session {
    /// Reads the answer that opens a session.
    pub(super) fn of(reply: &Reply, repository: &Repository) -> Result<Self> {
        let location = location(reply, repository)?.ok_or_else(|| {
            let text = "the registry does not say where to upload to";
            broken(&reply.url, false, text)
        })?;
        let least = reply.header("oci-chunk-min-length");
        let least: Option<u64> = least.and_then(|text| text.trim().parse().ok());
        Ok(Self {
            location,
            least_chunk: least.unwrap_or(0).min(MAX_CHUNK),
        })
    }
}

/// Returns where to go on, if an answer says it.
pub(super) fn location(reply: &Reply, repository: &Repository) -> Result<Option<Url>> {
    let Some(text) = reply.header("location") else {
        return Ok(None);
    };
    match reply.url.join(text) {
        Ok(url) if repository.may_lead_to(&url) => Ok(Some(url)),
        _ => {
            let text = "the registry says to upload to something that is no URL, or without TLS";
            Err(broken(&reply.url, false, text))
        }
    }
}

/// Returns how many bytes a session has, by its `Range`: `0-` and the last one.
pub(super) fn reached(reply: &Reply) -> Option<u64> {
    let range = reply.header("range")?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let (first, last) = range.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    (first.trim() == "0").then(|| last.saturating_add(1))
}

/// Says of a refusal at the end what it means.
pub(super) fn refused(err: Error) -> Error {
    match &err {
        // The file is right: it is what arrived that is not.
        Error::Status {
            url,
            code: 400,
            answer: Some(answer),
            ..
        } if answer.starts_with("DIGEST_INVALID") => Error::Send {
            url: url.clone(),
            transient: true,
            source: io::Error::other(format!("it did not arrive as it was sent: {answer}")),
        },
        Error::Status {
            code: 404 | 416, ..
        } => forgotten(err),
        _ => err,
    }
}

/// Says that there has to be another session.
pub(super) fn forgotten(err: Error) -> Error {
    match err {
        Error::Status { url, status, .. } => Error::Send {
            url,
            transient: true,
            source: io::Error::other(format!("the registry has lost the upload ({status})")),
        },
        err => err,
    }
}

/// Says of an answer that it is none. `transient` is whether another one may be.
pub(super) fn broken(url: &Url, transient: bool, problem: &str) -> Error {
    Error::Send {
        url: SafeUrl::from(url),
        transient,
        source: io::Error::new(io::ErrorKind::InvalidData, problem.to_owned()),
    }
}
