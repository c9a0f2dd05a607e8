//! Fetch kinds of taskgraph: from what a repository's YAML says to commands, digests, index paths and task definitions,
//! all of it to the character as taskgraph 24.5 has it.
//!
//! ```text
//! taskcluster/config.yml ──▶ Config ─┐
//! taskcluster/kinds/*    ──▶ Kind ───┴▶ RawTask ──▶ FetchTask, Toolchain ──▶ Cached (digest, index paths, routes)
//!                                                 └▶ Inputs (`fetches:` → MOZ_FETCHES)
//! ```
//!
//! Pure but for [`Workshop`], which performs tasks, and [`Submission`], which has them performed: it reads files of the
//! repository (and asks git which of them it tracks), but never the network or the clock.
//! What is wrong is told with file, line and task ([`Finding`]).

mod built;
mod caches;
mod config;
mod definition;
mod edit;
mod fetch_task;
mod fields;
mod finding;
mod graph;
mod image;
mod index;
mod inputs;
mod keyed_by;
mod lint;
mod merge;
mod nearest;
mod push;
mod run;
mod source;
mod submit;
mod time;
mod toolchain;
mod tracked;
mod upstream;
mod yaml;

pub use edit::Edit;
pub use fetch_task::FetchTask;
pub use finding::Finding;
pub use graph::Graph;
pub use index::{Cached, Level, Parameters};
pub use inputs::{Input, Inputs};
pub use push::Push;
pub use run::{Stored, Workshop, artifact_name};
pub use submit::{NewTask, Submission};
pub use toolchain::Toolchain;
pub use upstream::{Git, Signature, StaticUrl, Upstream};
pub use yaml::Place;
