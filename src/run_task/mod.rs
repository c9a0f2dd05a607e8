//! What `run-task` does around a command: who it runs as ([`Account`]), giving up everything else ([`privileges`]), its
//! environment ([`environment`]), where its checkouts go ([`repositories`], [`prepare_parent`]), and the command itself
//! with its output and its signals ([`command`], [`Lines`]).
//!
//! As root everything happens on one thread, since Linux drops privileges thread by thread. Caches and volumes are the
//! business of [`crate::cachedir`], checkouts that of [`crate::vcs`].

mod account;
pub mod command;
mod descriptors;
pub mod environment;
mod lines;
mod parent;
pub mod privileges;
pub mod repositories;

pub use account::{Account, AccountError};
pub use descriptors::close_inherited;
pub use lines::Lines;
pub use parent::{Place, prepare_parent};
