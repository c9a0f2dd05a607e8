//! What can be typed after `fetch-content cache`.

use clap::{ArgGroup, Args as ClapArgs, Subcommand};
use std::path::PathBuf;

/// Look into the caches that run-task keeps, and name them.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct Cache {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Check(Check),
    Log(Log),
    Name(Name),
    Verify(Verify),
}

/// Say what run-task would say to caches, without changing them.
///
/// The exit code is run-task's for the first cache that it would refuse: 72 if it has to be purged, 1 if it is no
/// directory.
#[derive(Debug, ClapArgs)]
pub(super) struct Check {
    #[command(flatten)]
    pub(super) tenant: Tenant,
    /// Caches
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
}

/// Who the task would run as.
#[derive(Debug, ClapArgs)]
pub(super) struct Tenant {
    /// User id of the task
    #[arg(long, value_name = "ID", default_value_t = 1000)]
    pub(super) uid: u32,
    /// Group id of the task
    #[arg(long, value_name = "ID", default_value_t = 1000)]
    pub(super) gid: u32,
    /// The task's caches are untrusted: run-task may take them over from other users
    #[arg(long)]
    pub(super) untrusted: bool,
}

/// Tell who made and used a cache.
#[derive(Debug, ClapArgs)]
pub(super) struct Log {
    /// Write a JSON list of objects with the keys `time`, `task`, `event`, `requirements` and `text`
    #[arg(long)]
    pub(super) json: bool,
    /// Cache
    pub(super) path: PathBuf,
}

/// Say which of a worker's caches a task could use.
///
/// The exit code is 72 if there is one that it could not.
#[derive(Debug, ClapArgs)]
#[command(group(ArgGroup::new("where").args(["worker_state", "directories"]).multiple(true).required(true)))]
pub(super) struct Verify {
    #[command(flatten)]
    pub(super) tenant: Tenant,
    /// Only caches with TEXT in their names
    #[arg(long, value_name = "TEXT")]
    pub(super) name: Option<String>,
    /// Caches that generic-worker lists in its `directory-caches.json`
    #[arg(long, value_name = "FILE")]
    pub(super) worker_state: Option<PathBuf>,
    /// Write a JSON list of objects with the keys `name`, `path`, `state`, `requirements` and `last`
    #[arg(long)]
    pub(super) json: bool,
    /// Directories whose subdirectories are caches
    #[arg(value_name = "DIR")]
    pub(super) directories: Vec<PathBuf>,
}

/// Print the names that taskgraph gives to a task's caches, or all that its payload says of them.
#[derive(Debug, ClapArgs)]
#[command(after_help = EXAMPLE)]
pub(super) struct Name {
    /// Trust domain of the project
    #[arg(long, value_name = "NAME")]
    pub(super) trust_domain: String,
    /// Level of the task
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub(super) level: u8,
    /// The task runs this run-task, whose content is part of the names
    #[arg(long, value_name = "FILE", conflicts_with = "generic_worker")]
    pub(super) run_task: Option<PathBuf>,
    /// Image that is not built by a task, by its name
    #[arg(long, value_name = "IMAGE", requires = "run_task")]
    pub(super) image: Option<String>,
    /// Id of the task that builds the image; what it refers to unless there is an --image
    #[arg(
        long,
        value_name = "TASK",
        requires = "run_task",
        conflicts_with = "image"
    )]
    pub(super) image_task: Option<String>,
    /// Leave the image task out, as Gecko does
    #[arg(long, requires = "run_task", conflicts_with_all = ["image", "image_task"])]
    pub(super) any_image_task: bool,
    /// The task runs on generic-worker, whose names have no such parts
    #[arg(long)]
    pub(super) generic_worker: bool,
    /// Home of the task's user, where well-known caches are
    #[arg(long, value_name = "DIR", default_value = "/builds/worker")]
    pub(super) workdir: String,
    /// Repository that is checked out, which counts if there are several (repeatable)
    #[arg(long = "repository", value_name = "PATH=PREFIX", value_parser = pair)]
    pub(super) repositories: Vec<(String, String)>,
    /// Cache that is not used at level 1 (repeatable)
    #[arg(long, value_name = "CACHE")]
    pub(super) skip_untrusted: Vec<String>,
    /// Volume of the image (repeatable)
    #[arg(long = "volume", value_name = "PATH")]
    pub(super) volumes: Vec<String>,
    /// Write what the payload has to say: caches, variables, scopes, exit codes
    #[arg(long)]
    pub(super) json: bool,
    /// `cargo`, `checkout`, `npm`, `pip` or `uv`; others with the path where they are mounted
    #[arg(required = true, value_name = "CACHE[=PATH]")]
    pub(super) caches: Vec<String>,
}

/// Parses two texts with `=` between them.
fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=');
    let (path, prefix) = pair.ok_or_else(|| "expected PATH=PREFIX".to_owned())?;
    Ok((path.to_owned(), prefix.to_owned()))
}

const EXAMPLE: &str = "\
Example:
  fetch-content cache name --trust-domain acme --level 3 \\
    --run-task /usr/local/bin/run-task --image acme/ci:1.2 --json checkout pip build=/builds/worker/build-cache";
