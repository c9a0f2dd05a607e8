//! Images at registries, by the distribution protocol of OCI and Docker.
//!
//! - [`Reference`]: what people call an image.
//! - [`Repository`]: what can be asked of the registry that has it: manifests, blobs.
//! - [`Remote`]: an image that is read from there, blob by blob.
//! - [`pull()`], [`push()`]: between a registry and a [`super::Layout`].
//! - [`Logins`]: where credentials are.
//!
//! This is a client of our own, over [`crate::http`], and not `oci-client`: that one has its own connections, without our
//! proxies, certificates and DNS; no retries, no `Retry-After`, and nothing is resumed, in either direction; a mount that
//! a registry declines is an error to it, and it brings a library for signed tokens, which are none of a client's
//! business. What is left of the protocol is what is here.

mod challenge;
mod gate;
mod helper;
mod login;
mod platforms;
mod pull;
mod push;
mod reference;
mod remote;
mod repository;
mod scope;
mod session;
mod upload;

pub use login::Logins;
pub use platforms::{ParsePlatformsError, Platforms};
pub use pull::{Pull, Pulled, pull};
pub use push::{Push, Pushed, push};
pub use reference::{ParseReferenceError, Reference};
pub use remote::Remote;
pub use repository::{Connection, Repository};
