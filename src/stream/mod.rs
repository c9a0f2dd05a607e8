//! Adapters without policy, each one thing: the one border between async and blocking, and reading ahead on a thread.

pub(crate) mod bridge;
mod read_ahead;

pub(crate) use bridge::BlockingReader;
pub(crate) use read_ahead::ReadAhead;
