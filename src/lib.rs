//! Puts the inputs of a CI task on disk: fast, verified, never half-way.
//!
//! ```text
//! entries ──▶ resolve ──▶ transfer ──▶ verify ──▶ decode ──▶ place ──▶ publish
//! task        task        http         verify     archive    archive   batch
//!                                                            fs        fs
//! ```
//!
//! One pass: a byte is read from the socket once, hashed, decoded and written once. [`fetch`] is that way for one
//! artifact, top to bottom; [`batch`] runs many and publishes them in order. Everything before publishing lives in a
//! private directory beside the destination ([`fs::Staging`]).
//!
//! What was fetched once can be kept in a [`store`], which others can [`serve`]. [`kind`] is beside it: what the YAML of a
//! task graph says about fetches, without fetching anything. What is in a repository and in no archive takes another way
//! to a file in staging: [`vcs`].
//!
//! Calls go one way: `cli` → `batch`, `vcs` → `fetch` → `http`, `archive` → `verify`, `stream`, `fs` → the nouns
//! ([`digest`], [`size`], [`safe_url`], [`rel_path`], [`error`], [`observe`]).
//!
//! Beside that way, `cli` → [`run_task`], [`cachedir`] → `fs` prepare a task and run its command.

mod archive;
pub mod batch;
pub mod cachedir;
pub mod cli;
pub mod digest;
pub mod error;
pub mod fetch;
pub mod fs;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod heap;
pub mod http;
pub mod inputs;
pub mod kind;
pub mod observe;
pub mod oci;
pub mod rel_path;
pub mod run_task;
pub mod safe_url;
pub mod serve;
pub mod size;
pub mod store;
mod stream;
pub mod task;
pub mod upstream;
pub mod vcs;
pub mod verify;

pub use archive::{Limits, Placing, Repack};
pub use error::Error;
