//! What can be typed after `run-task`.

use clap::Parser;
use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// Prepare a task's caches, volumes and fetches, become its user, and run its command.
#[derive(Debug, Parser)]
#[command(name = "run-task", version, max_term_width = 100, args_override_self = true, after_help = ENVIRONMENT)]
pub(super) struct Args {
    /// User to run the command as, if this is root
    #[arg(long, default_value = "worker")]
    pub(super) user: String,
    /// Group to run the command as, if this is root
    #[arg(long, default_value = "worker")]
    pub(super) group: String,
    /// Directory to run the command in
    #[arg(long, value_name = "DIR")]
    pub(super) task_cwd: Option<PathBuf>,
    /// Let programs like sudo have more privileges than the command
    #[arg(long)]
    pub(super) allow_new_privileges: bool,
    /// Accepted for compatibility, without effect
    #[arg(long, hide = true)]
    pub(super) fetch_hgfingerprint: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

const ENVIRONMENT: &str = "\
Environment:
  TASKCLUSTER_CACHES            directories that are caches, joined by `;`
  TASKCLUSTER_UNTRUSTED_CACHES  set where caches may be taken over from other users
  TASKCLUSTER_VOLUMES           directories that are volumes, joined by `;`
  TASK_ID                       who used a cache, for its log
  MOZ_FETCHES, MOZ_FETCHES_DIR  fetched as by `fetch-content task-artifacts`, whose other variables apply
  REPOSITORIES                  JSON object whose keys are the prefixes of `<PREFIX>_PATH` [{\"vcs\": \"repository\"}]

Exit codes:
  72 a cache has to be purged, 1 the task is set up wrongly, 2 usage; 3 to 6, 130 and 143 fetches, as fetch-content;
  otherwise that of the command: 128+N if signal N ended it, 127 if there is none, 126 if it cannot be run";

/// Returns whether an argument asks for a checkout of some repository.
pub(super) fn is_about_checkouts(argument: &OsStr) -> bool {
    let argument = argument.to_string_lossy();
    let option = argument.split('=').next().unwrap_or_default();
    option.starts_with("--")
        && ["-checkout", "-shallow-clone", "-sparse-profile"]
            .iter()
            .any(|end| option.ends_with(end))
}
