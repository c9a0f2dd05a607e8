//! The directories that a worker keeps between tasks, and the rules by which a task may use one: those of taskgraph's
//! `run-task`, byte for byte, so that both can share a cache.
//!
//! A cache holds what it requires of a task ([`Requirements`], in `.cacherequires`) and who used it ([`audit`], in
//! `.cachelog`). [`inspect`] says what a task would find, and changes nothing; [`prepare()`] acts on it. What is different
//! on purpose: links are never followed, and whatever is killed in between leaves a cache that is empty or purged, and
//! never one that is half another user's.

pub mod audit;
mod finding;
pub mod name;
mod prepare;
mod requirements;
mod volume;

pub use finding::{Finding, Refusal, inspect};
pub use prepare::prepare;
pub use requirements::Requirements;
pub use volume::{Volume, prepare_volume};

use crate::fs::Owner;
use std::ffi::OsString;

/// Where a cache says what it requires.
const REQUIRES: &str = ".cacherequires";
/// Where [`REQUIRES`] is written before it gets its name. A cache with nothing else in it is still empty.
const REQUIRES_IN_THE_MAKING: &str = ".cacherequires.new";
/// Where a cache says who used it.
const LOG: &str = ".cachelog";

/// The exit code that makes the worker delete a task's caches and run the task again: `EX_OSFILE`.
pub const EXIT_PURGE: u8 = 72;
/// The exit code for a mistake in how the task is set up.
pub const EXIT_CONFIGURATION: u8 = 1;

/// Who a task runs as, and what that lets it do to caches.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The ids.
    pub owner: Owner,
    /// The name of the user.
    pub user: String,
    /// The name of the group.
    pub group: String,
    /// Whether the task's caches are untrusted, and may be taken over from other users.
    pub untrusted: bool,
    /// Whether files can be given to other users now.
    pub is_root: bool,
    /// The task's id for the log, if there is one.
    pub task: Option<OsString>,
}

/// Takes notice of what is done: a topic, which is `cache`, `chown` or `volume`, and a line.
pub type Say<'a> = dyn FnMut(&'static str, &str) + 'a;
