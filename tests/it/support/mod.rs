//! What the tests stand on: a scripted server, a sandbox for the binary, listings of trees, archives in memory.

pub(crate) mod archives;
pub(crate) mod hostile_zips;
pub(crate) mod raw_tar;
pub(crate) mod sandbox;
pub(crate) mod server;
pub(crate) mod skip;
pub(crate) mod tree;
pub(crate) mod zips;
