//! What the tests stand on: a scripted server (with TLS before it, behind a proxy), nginx, FTP servers, a network of one's own with
//! a name server, a sandbox for the binary, listings of trees, archives in memory.

pub(crate) mod acceptor;
pub(crate) mod archives;
pub(crate) mod docker_registry;
pub(crate) mod ftp;
pub(crate) mod git;
pub(crate) mod google;
pub(crate) mod gpg;
pub(crate) mod hawk;
pub(crate) mod hostile_zips;
pub(crate) mod images;
pub(crate) mod moto;
pub(crate) mod name_server;
pub(crate) mod namespace;
pub(crate) mod nginx;
pub(crate) mod plain_http;
pub(crate) mod platform;
pub(crate) mod proxy;
pub(crate) mod raw_tar;
pub(crate) mod registry;
pub(crate) mod run_task;
pub(crate) mod sandbox;
pub(crate) mod server;
pub(crate) mod serving;
pub(crate) mod skip;
pub(crate) mod ssh;
pub(crate) mod tls;
pub(crate) mod tree;
pub(crate) mod zips;
