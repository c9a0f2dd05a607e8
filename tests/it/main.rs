//! Tests that run the real binary, against a scripted server on the loopback interface or a local store.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "helpers outside of #[test] functions fail like tests, and prepare and look at real files"
)]

mod archives;
mod bad_input;
mod cancel;
mod differential;
mod differential_zip;
mod faults;
mod hostile;
mod hostile_zip;
mod limits;
mod oddities;
mod python;
mod readme;
mod small_inputs;
mod static_url;
mod support;
mod task_artifacts;
