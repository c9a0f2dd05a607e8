//! What can be typed for `inputs`.

use super::{LabelledTask, Making, Tuning};
use clap::{ArgGroup, Args as ClapArgs};
use std::path::PathBuf;

/// Make the directory that a task's fetches would fill.
///
/// Each input comes from the first that has it: the store, images, the index of `TASKCLUSTER_ROOT_URL`, or upstream, by
/// --distdir and --mirror first. What was fetched stays in the store, so that the second time needs no network.
#[derive(Debug, ClapArgs)]
#[command(after_help = INPUTS_EXAMPLE, group(ArgGroup::new("whose").args(["task", "task_id"]).required(true)))]
pub(in crate::cli) struct Inputs {
    #[command(flatten)]
    pub(in crate::cli) of: OfTask,
    /// Take what MOZ_FETCHES of this task of the deployment lists
    #[arg(long, value_name = "TASK_ID", conflicts_with_all = ["task", "kinds", "root", "kind"])]
    pub(in crate::cli) task_id: Option<String>,
    /// Where to put them
    #[arg(short, long, value_name = "DIR", default_value = "fetches")]
    pub(in crate::cli) dest: PathBuf,
    /// Write which artifacts were used
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) lock: Option<PathBuf>,
    /// Demand exactly the artifacts of a lock
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) locked: Option<PathBuf>,
    /// Give every file content of its own: without it, files share theirs with the store
    #[arg(long)]
    pub(in crate::cli) copy: bool,
    #[command(flatten)]
    pub(in crate::cli) making: Making,
    #[command(flatten)]
    pub(in crate::cli) tuning: Tuning,
}

/// A task of a graph, whose fetches are meant.
#[derive(Debug, ClapArgs)]
pub(in crate::cli) struct OfTask {
    /// Name, alias or label of the task
    pub(in crate::cli) task: Option<String>,
    /// Kind of the task
    #[arg(long, value_name = "KIND", default_value = "toolchain")]
    pub(in crate::cli) kind: String,
    /// Root of the repository, which has `taskcluster/` [default: here]
    #[arg(long, value_name = "DIR", requires = "task")]
    pub(in crate::cli) root: Option<PathBuf>,
    /// Directory of the kinds, in place of a root: DIR is ROOT/taskcluster/kinds
    #[arg(long, value_name = "DIR", requires = "task", conflicts_with = "root")]
    pub(in crate::cli) kinds: Option<PathBuf>,
    /// Task that has the artifact of a label, for toolchains that are in no index (repeatable)
    #[arg(long = "task", value_name = "LABEL=TASK_ID", requires = "task")]
    pub(in crate::cli) tasks: Vec<LabelledTask>,
}

const INPUTS_EXAMPLE: &str = "\
Example:
  fetch-content inputs linux64-gcc --kinds taskcluster/kinds --dest fetches";
