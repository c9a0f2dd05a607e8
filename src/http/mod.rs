//! HTTP: one client, bodies that are checked and decoded as they arrive, the retry policy and its one loop. The only
//! room that names reqwest.

mod body;
mod client;
mod retry;

pub use body::Body;
pub use client::{Client, Header, Settings, Source};
pub use retry::{RetryPolicy, retry};
