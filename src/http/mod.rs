//! HTTP: one client, bodies that are checked and decoded as they arrive, downloads that survive their connections, and
//! the retry policy; FTP for what is offered nowhere else. The only room that names reqwest and suppaftp.

mod address;
mod ahead;
mod body;
mod call;
mod client;
mod content_range;
mod dns;
mod download;
mod encoding;
mod ftp;
mod header;
mod part;
mod pilot;
mod proxy;
mod refusal;
mod retry;
mod storage;
mod tls;
mod transport;
mod upload;

pub use address::{Address, Answer, Authorize, Detour};
pub use body::{Body, Head};
pub use call::{Call, Content, Reply};
pub use client::{Client, Settings, Source};
pub use download::Download;
pub use header::Header;
pub use reqwest::Method;
pub use retry::{Attempts, RetryPolicy};
pub use upload::{Hashes, Sent};

/// For fuzz targets.
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    use super::content_range::ContentRange;

    pub(crate) fn content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
        let ContentRange { start, end, total } = ContentRange::parse(text)?;
        Some((start, end, total))
    }
}
