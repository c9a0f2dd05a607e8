//! What the tests stand on: a scripted server (with TLS before it, behind a proxy), nginx, a sandbox for the binary,
//! listings of trees, archives in memory.

pub(crate) mod acceptor;
pub(crate) mod archives;
pub(crate) mod nginx;
pub(crate) mod proxy;
pub(crate) mod sandbox;
pub(crate) mod server;
pub(crate) mod skip;
pub(crate) mod tls;
pub(crate) mod tree;
