//! HTTP: one client, bodies that are checked and decoded as they arrive, downloads that survive their connections, and
//! the retry policy. The only room that names reqwest.

mod ahead;
mod body;
mod client;
mod content_range;
mod dns;
mod download;
mod encoding;
mod proxy;
mod retry;
mod tls;
mod transport;

pub use body::Body;
pub use client::{Client, Header, Remote, Settings, Source};
pub use download::Download;
pub use retry::{Attempts, RetryPolicy};
