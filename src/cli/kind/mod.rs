//! `fetch-content kind`: what a repository's fetch kinds say, for people and programs. One file per verb.

mod check;
mod failures;
mod fetches;
mod list;
pub(super) mod run;
mod show;
mod submit;
mod tasks;
mod update;

use crate::{
    cachedir::name::ScriptDigest,
    cli::{args, settings, ui::Ui},
    error::Result,
    fs,
    kind::{Finding, Graph, Parameters, Push},
    stream::bridge::run_blocking,
};
use args::KindVerb;
use serde::Serialize;
use std::{path::Path, sync::Arc, time::SystemTime};

/// Runs the subcommand.
pub(super) async fn run(args: args::Kind, ui: &Arc<Ui>) -> Result<()> {
    let ui = Arc::clone(ui);
    let graph = run_blocking(move || Graph::load(&args.root.unwrap_or_default())).await?;
    match args.verb {
        KindVerb::Update { name, tuning } => update::run(&graph, &name, &tuning, &ui).await,
        KindVerb::Run(args) => run::run(&graph, *args, &ui).await,
        KindVerb::Submit(args) => submit::run(&graph, *args, &ui).await,
        verb => run_blocking(move || print(&graph, verb, &ui)).await,
    }
}

/// Does what needs no network.
fn print(graph: &Graph, verb: KindVerb, ui: &Ui) -> Result<()> {
    match verb {
        KindVerb::List => list::run(graph, ui),
        KindVerb::Show { name, push } => show::run(graph, &name, &push, ui),
        KindVerb::Tasks(args) => tasks::run(graph, &args),
        KindVerb::Check { strict } => check::run(graph, strict, ui),
        KindVerb::Fetches { kind, task, json } => fetches::run(graph, (&kind, &task), json, ui),
        KindVerb::Update { .. } | KindVerb::Run(_) | KindVerb::Submit(_) => Ok(()),
    }
}

/// Takes what was typed, else the file, else the defaults.
fn parameters(typed: &args::Push) -> Result<(Parameters, Push)> {
    let file = typed
        .parameters
        .as_deref()
        .map(Push::from_file)
        .transpose()?;
    let (mut push, parameters) = match file {
        Some((push, parameters)) => (push, Some(parameters)),
        None => (Push::unknown(), None),
    };
    push.decision_task = settings::text("TASK_ID")?.unwrap_or_default();
    let level = match (&typed.level, &parameters) {
        (Some(typed), _) => typed.parse()?,
        (None, Some(parameters)) => parameters.level,
        (None, None) => crate::kind::Level::HIGHEST,
    };
    let from_file = parameters.as_ref();
    let tasks_for = typed
        .tasks_for
        .clone()
        .or(from_file.map(|from| from.tasks_for.clone()));
    let build_date = typed.build_date.or(from_file.map(|from| from.build_date));
    let parameters = Parameters {
        level,
        tasks_for: tasks_for.unwrap_or_else(|| "github-push".into()),
        build_date: build_date.unwrap_or_else(now),
    };
    Ok((parameters, push))
}

/// Reads the script whose digest is in the names of caches.
fn run_task(typed: Option<&Path>) -> Result<Option<ScriptDigest>> {
    let script = typed.map(fs::read).transpose()?;
    Ok(script.map(|script| ScriptDigest::of(&script)))
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// Writes JSON as Python does with an indentation of one.
fn json(value: &impl Serialize) -> Result<String> {
    let mut text = Vec::new();
    let layout = serde_json::ser::PrettyFormatter::with_indent(b" ");
    let mut writer = serde_json::Serializer::with_formatter(&mut text, layout);
    let unprintable =
        |err: &dyn std::fmt::Display| crate::Error::usage(format!("cannot be told as JSON: {err}"));
    value
        .serialize(&mut writer)
        .map_err(|err| unprintable(&err))?;
    String::from_utf8(text).map_err(|err| unprintable(&err))
}

/// Shows a finding and, on a line of its own, what can be done about it.
fn show(ui: &Ui, severity: &str, finding: &Finding) {
    ui.line(&format!("{severity}: {finding}"));
    if let Some(hint) = &finding.hint {
        ui.line(&format!("hint: {hint}"));
    }
}
