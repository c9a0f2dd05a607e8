//! What can be typed for `store` and `serve`.

use super::Tuning;
use clap::{Args as ClapArgs, Subcommand};
use std::{net::SocketAddr, path::PathBuf};

/// Look after a store of artifacts.
///
/// A store is a folder, or `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX` with credentials from
/// the environment. Any number of processes may use it at the same time.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Store {
    #[command(flatten)]
    pub(in crate::cli) place: StorePlace,
    #[command(subcommand)]
    pub(in crate::cli) action: StoreAction,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

/// Which store.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct StorePlace {
    /// The store [default: `fetch-content/store` in `$XDG_CACHE_HOME` or `~/.cache`]
    #[arg(long, value_name = "DIR", global = true)]
    pub(in crate::cli) store: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum StoreAction {
    /// List artifacts: task, name, size in bytes, SHA-256, and when they expire, with tabs in between
    Ls {
        /// List the index: namespace, task, rank, and when entries expire
        #[arg(long)]
        index: bool,
    },
    /// Read everything, and compare it with its digests
    Verify {
        /// Remove what is damaged, so that it can be stored again
        #[arg(long)]
        discard: bool,
    },
    /// Remove what has expired, and content that no artifact has any more
    Gc,
}

/// Offer a store over HTTP, with the URLs of Taskcluster's Queue and Index.
///
/// The first line on standard output is the root URL, to be used as `TASKCLUSTER_ROOT_URL`, once the server accepts
/// connections. It runs until SIGINT or SIGTERM. Everybody who can connect can read all artifacts.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Serve {
    #[command(flatten)]
    pub(in crate::cli) place: StorePlace,
    /// Where to listen; port 0 is any that is free
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub(in crate::cli) listen: SocketAddr,
    /// Let everybody who can connect also add tasks, artifacts and index entries
    #[arg(long)]
    pub(in crate::cli) write: bool,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}
