//! Tasks and their artifacts: what `MOZ_FETCHES` asks for, and where a queue (or a local store) has it. An [`Entry`]
//! becomes a [`crate::fetch::Request`].

mod chain_of_trust;
mod credentials;
mod entry;
mod hawk;
mod id;
mod object_service;
mod origin;
mod queue;
mod secrets;

pub use chain_of_trust::WorkerKey;
pub use credentials::Credentials;
pub use entry::{Entry, Unknown, parse_entries};
pub use id::{ArtifactName, TaskId};
pub use origin::{Origin, Tasks};
pub use queue::Queue;
pub use secrets::Secrets;
