//! What can be typed for `kind`.

use super::{Making, Tuning};
use crate::task::TaskId;
use clap::{Args as ClapArgs, Subcommand};
use std::{path::PathBuf, str::FromStr};

/// Read the fetch kinds of a task graph: tasks, digests, index paths, MOZ_FETCHES.
///
/// Run it in the root of a repository, as taskgraph is. Nothing but `update`, `run` and `submit` uses the network.
#[derive(Debug, ClapArgs)]
#[command(after_help = KIND_EXAMPLE)]
pub(in crate::cli) struct Kind {
    /// Root of the repository, which has `taskcluster/` [default: here]
    #[arg(long, value_name = "DIR", global = true)]
    pub(in crate::cli) root: Option<PathBuf>,
    #[command(subcommand)]
    pub(in crate::cli) verb: KindVerb,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum KindVerb {
    /// List fetch tasks and toolchains with their artifacts
    List,
    /// Tell all about tasks, by name, alias or label
    Show {
        /// Name, alias or label
        name: String,
        #[command(flatten)]
        push: Push,
    },
    /// Print fetch tasks as they would be created
    Tasks(KindTasks),
    /// Look for what is wrong or odd, exit with 2 if something is wrong
    Check {
        /// Also exit with 2 if something is only odd
        #[arg(long)]
        strict: bool,
    },
    /// Download what a task fetches, and write its SHA-256 and size into the YAML
    ///
    /// The content is believed as it comes, so look at what the new release is. Where the task has an OpenPGP
    /// signature, that must fit.
    Update {
        /// Name, alias or label
        name: String,
        #[command(flatten)]
        tuning: Box<Tuning>,
    },
    /// Perform fetch tasks here, and put their artifacts into a store
    ///
    /// What the store has already, by digest, is not fetched again. A task that fails does not stop the others.
    Run(Box<KindRun>),
    /// Create fetch tasks on the deployment of `TASKCLUSTER_ROOT_URL`, unless its index has them
    ///
    /// A task that cannot be created does not stop the others.
    Submit(Box<KindSubmit>),
    /// Print the MOZ_FETCHES of a task as taskgraph writes it, with `<label>` for task ids
    Fetches {
        /// Kind of the task
        kind: String,
        /// Name or label of the task
        task: String,
        /// Print an object that also has scopes, variables and dependencies
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct KindTasks {
    /// Names, aliases or labels [default: all]
    pub(in crate::cli) names: Vec<String>,
    /// Print an object with one task per name
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Print the whole definitions, as in taskgraph's full-task-graph.json
    #[arg(long)]
    pub(in crate::cli) full: bool,
    /// taskgraph's run-task, whose digest is in the names of caches, for --full
    #[arg(long, value_name = "FILE", requires = "full")]
    pub(in crate::cli) run_task: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) push: Push,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct KindRun {
    /// Names, aliases or labels
    #[arg(required_unless_present = "all")]
    pub(in crate::cli) names: Vec<String>,
    /// All fetch tasks
    #[arg(long, conflicts_with = "names")]
    pub(in crate::cli) all: bool,
    /// Stop at the first task that fails
    #[arg(long)]
    pub(in crate::cli) fail_fast: bool,
    #[command(flatten)]
    pub(in crate::cli) making: Making,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct KindSubmit {
    /// Names, aliases or labels
    #[arg(required_unless_present = "all")]
    pub(in crate::cli) names: Vec<String>,
    /// All fetch tasks
    #[arg(long, conflicts_with = "names")]
    pub(in crate::cli) all: bool,
    /// Task that has made the image `docker-image-NAME` [default: the newest in the index] (repeatable)
    #[arg(long = "task", value_name = "LABEL=TASK_ID")]
    pub(in crate::cli) tasks: Vec<LabelledTask>,
    /// taskgraph's run-task, whose digest is in the names of caches, if tasks have some
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) run_task: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) push: Push,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

/// A task with the label that a graph has for it.
#[derive(Clone, Debug)]
pub(in crate::cli) struct LabelledTask {
    pub(in crate::cli) label: String,
    pub(in crate::cli) task: TaskId,
}

impl FromStr for LabelledTask {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (label, task) = text.split_once('=').ok_or("it is not LABEL=TASK_ID")?;
        let task = task.parse().map_err(|err| format!("{err}"))?;
        let label = label.to_owned();
        Ok(Self { label, task })
    }
}

/// What tasks are created for.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Push")]
pub(in crate::cli) struct Push {
    /// taskgraph's parameters.yml, for what is not given here
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) parameters: Option<PathBuf>,
    /// Level of trust: 1, 2 or 3 [default: 3]
    #[arg(long, value_name = "LEVEL")]
    pub(in crate::cli) level: Option<String>,
    /// The event, such as github-pull-request [default: github-push]
    #[arg(long, value_name = "EVENT")]
    pub(in crate::cli) tasks_for: Option<String>,
    /// When, in seconds since 1970 [default: now]
    #[arg(long, value_name = "SECONDS")]
    pub(in crate::cli) build_date: Option<i64>,
}

const KIND_EXAMPLE: &str = "\
Examples:
  fetch-content kind check
  fetch-content kind tasks --json --level 1 --tasks-for github-pull-request gcc-14.2.0
  fetch-content kind fetches toolchain linux64-gcc
  fetch-content kind update gcc-14.2.0";
