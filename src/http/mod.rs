//! HTTP: one client, bodies that are checked and decoded as they arrive, downloads that survive their connections, and
//! the retry policy; FTP for what is offered nowhere else. The only room that names reqwest and suppaftp.

mod address;
mod ahead;
mod body;
mod client;
mod content_range;
mod dns;
mod download;
mod encoding;
mod ftp;
mod header;
mod part;
mod proxy;
mod refusal;
mod retry;
mod tls;
mod transport;

pub use address::{Address, Answer, Authorize, Detour};
pub use body::Body;
pub use client::{Client, Settings, Source};
pub use download::Download;
pub use header::Header;
pub use retry::{Attempts, RetryPolicy};
