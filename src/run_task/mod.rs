//! What `run-task` does around a command: who it runs as ([`Account`]), giving up everything else ([`privileges`]), its
//! environment ([`environment`]), and the command itself with its output and its signals ([`command`], [`Lines`]).
//!
//! As root everything happens on one thread, since Linux drops privileges thread by thread. Caches and volumes are the
//! business of [`crate::cachedir`].

mod account;
pub mod command;
pub mod environment;
mod lines;
pub mod privileges;

pub use account::{Account, AccountError};
pub use lines::Lines;
