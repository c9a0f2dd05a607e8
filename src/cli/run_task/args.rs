//! What can be typed after `run-task`.

use crate::run_task::repositories::{Options, Repository};
use clap::{Arg, ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, value_parser};
use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
};

/// Prepare a task's caches, volumes, checkouts and fetches, become its user, and run its command.
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
  MOZ_FETCHES, MOZ_FETCHES_DIR  fetched as by `fetch-content task-artifacts`
  REPOSITORIES                  JSON object from prefixes to names [{\"vcs\": \"repository\"}]
  <PREFIX>_REPOSITORY_TYPE      git
  <PREFIX>_HEAD_REPOSITORY, <PREFIX>_HEAD_REF, <PREFIX>_HEAD_REV
                                where the commit is, its branch or tag, its hash
  <PREFIX>_BASE_REPOSITORY, <PREFIX>_BASE_REV
                                where to clone from instead, and a commit to compare with
  <PREFIX>_SSH_SECRET_NAME      secret with the ssh key
  <PREFIX>_PATH                 becomes absolute
  RUN_TASK_GIT_CHECKOUT_WORKERS processes that write files at once [0: one for each core]

Exit codes:
  1 the task is set up wrongly, 2 usage, 72 a cache has to be purged;
  of fetches 3 to 6, 130 and 143, as fetch-content; of checkouts git's own, 128 most often;
  otherwise that of the command: 128+N if signal N ended it, 127 if there is none, 126 if it
  cannot be run";

/// What an option about a repository tells.
const CHECKOUT: &str = "checkout";
const SHALLOW: &str = "shallow-clone";
const SPARSE: &str = "sparse-profile";

impl Args {
    /// Parses what was typed, with options for each repository.
    pub(super) fn parse_for(
        repositories: Vec<Repository>,
        typed: impl IntoIterator<Item = OsString>,
    ) -> Result<(Self, Vec<(Repository, Options)>), clap::Error> {
        let options = repositories.iter().flat_map(options_of);
        let matches = Self::command().args(options).try_get_matches_from(typed)?;
        let args = Self::from_arg_matches(&matches)?;
        let wanted = repositories.into_iter().map(|repository| {
            let options = typed_for(&repository, &matches);
            (repository, options)
        });
        Ok((args, wanted.collect()))
    }
}

fn name(repository: &Repository, what: &str) -> String {
    format!("{}-{what}", repository.project)
}

/// Returns the options about a repository.
fn options_of(repository: &Repository) -> [Arg; 3] {
    let new = |what| Arg::new(name(repository, what)).long(name(repository, what));
    let shown = &repository.name;
    [
        new(CHECKOUT)
            .value_name("DIR")
            // Also an empty one, which is none.
            .value_parser(value_parser!(OsString))
            .help(format!("Directory for a checkout of {shown}")),
        new(SHALLOW)
            .action(ArgAction::SetTrue)
            .help(format!("Do without the history of {shown}")),
        // An error of our own says why.
        new(SPARSE).value_parser(value_parser!(OsString)).hide(true),
    ]
}

fn typed_for(repository: &Repository, matches: &ArgMatches) -> Options {
    Options {
        checkout: matches
            .get_one::<OsString>(&name(repository, CHECKOUT))
            .map(PathBuf::from),
        shallow: matches.get_flag(&name(repository, SHALLOW)),
        is_sparse: matches.contains_id(&name(repository, SPARSE)),
    }
}

/// Returns whether an argument asks for a checkout of some repository.
pub(super) fn is_about_checkouts(argument: &OsStr) -> bool {
    let argument = argument.to_string_lossy();
    let option = argument.split('=').next().unwrap_or_default();
    option.starts_with("--")
        && [CHECKOUT, SHALLOW, SPARSE]
            .iter()
            .any(|end| option.ends_with(&format!("-{end}")))
}
