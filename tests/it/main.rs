//! Tests that run the real binary, against a scripted server on the loopback interface or a local store.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "helpers outside of #[test] functions fail like tests, and prepare and look at real files"
)]

mod archives;
mod bad_input;
mod cache_names;
mod caches;
mod cancel;
mod chain_of_trust;
mod connections;
mod deployment;
mod desk;
mod differential;
mod differential_zip;
mod encoding;
mod faults;
mod ftp;
mod git;
mod git_ssh;
mod github;
mod google_storage;
mod hostile;
mod hostile_compressed;
mod hostile_zip;
mod http2;
mod images;
mod kinds;
mod launcher;
mod limits;
mod mirrors;
mod names;
mod oddities;
mod openpgp;
mod private;
mod python;
mod readme;
mod registries;
mod registry_faults;
mod resume;
mod run_task;
mod run_task_git;
mod run_task_python;
mod serve;
mod signatures;
mod small_inputs;
mod static_url;
mod store;
mod support;
mod task_artifacts;
mod toolchains;
mod transport;
mod upload;
