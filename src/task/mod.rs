//! Tasks and their artifacts: what `MOZ_FETCHES` asks for, and where a queue (or a local store) has it. An [`Entry`]
//! becomes a [`crate::fetch::Request`].

mod answer;
mod chain_of_trust;
mod credentials;
mod deployment;
mod entry;
mod hawk;
mod id;
mod index;
mod media_type;
mod object_service;
mod origin;
mod queue;
mod secrets;
mod upload;

pub use chain_of_trust::WorkerKey;
pub use credentials::Credentials;
pub use deployment::{Deployment, TaskStatus};
pub use entry::{Entry, Unknown, parse_entries};
pub use id::{ArtifactName, ParseIdError, RunId, TaskId};
pub use index::IndexedTask;
pub use media_type::media_type;
pub use origin::{Origin, Tasks};
pub use queue::Queue;
pub use secrets::Secrets;
pub use upload::{Artifacts, Content, NewArtifact, NewFile, Storage};
