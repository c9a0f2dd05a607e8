//! `fetch-content cache verify`: which of a worker's caches a task could use.

use super::args;
use crate::{
    cachedir::{Finding, Refusal, Requirements, Tenant, audit, inspect},
    cli::ui::Ui,
    error::{self, Error, Result},
    fs,
};
use serde::Deserialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// What is known of one cache.
struct Row {
    name: String,
    path: PathBuf,
    finding: Finding,
    /// Who used it last.
    last: Option<audit::Entry>,
}

pub(super) fn run(args: &args::Verify) -> Result<()> {
    let tenant = Tenant::from(&args.tenant);
    let mut rows = Vec::new();
    for (name, path) in caches(args)? {
        if args.name.as_ref().is_none_or(|part| name.contains(part)) {
            rows.push(Row {
                finding: inspect(&path, &tenant)?,
                last: audit::read(&path).unwrap_or_default().pop(),
                name,
                path,
            });
        }
    }
    if args.json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        Ui::data(&format!("{:#}", json!(rows)))?;
    } else {
        let width = rows.iter().map(|row| row.name.chars().count()).max();
        for row in &rows {
            Ui::data(&row.line(width.unwrap_or(0)))?;
        }
    }
    let mut refused = rows.iter().filter_map(Row::refusal);
    match refused.next() {
        None => Ok(()),
        Some(_) => Err(Error::Caches {
            unusable: 1 + refused.count(),
            all: rows.len(),
            purge: true,
        }),
    }
}

/// Returns the names and paths of all caches, in the order of their names.
fn caches(args: &args::Verify) -> Result<Vec<(String, PathBuf)>> {
    let mut caches = Vec::new();
    if let Some(state) = &args.worker_state {
        caches.extend(worker_caches(state)?);
    }
    for directory in &args.directories {
        for name in fs::Dir::open(directory)?.names()? {
            let path = directory.join(&name);
            if fs::is_directory(&path) {
                caches.push((name.display().to_string(), path));
            }
        }
    }
    caches.sort();
    Ok(caches)
}

/// Reads the list of generic-worker: an object whose keys are names.
fn worker_caches(state: &Path) -> Result<Vec<(String, PathBuf)>> {
    #[derive(Deserialize)]
    struct Cache {
        location: PathBuf,
    }
    let json = fs::read_to_string(state).map_err(|err| Error::usage(error::chain(&err)))?;
    let caches: BTreeMap<String, Cache> =
        serde_json::from_str(&json).map_err(|err| Error::Usage {
            what: format!("{} lists no caches: {err}", state.display()),
            hint: Some("expected generic-worker's directory-caches.json".into()),
        })?;
    let caches = caches.into_iter();
    Ok(caches.map(|(name, cache)| (name, cache.location)).collect())
}

impl Row {
    fn refusal(&self) -> Option<&Refusal> {
        match &self.finding {
            Finding::Refused(refusal) => Some(refusal),
            Finding::Empty | Finding::Usable(_) | Finding::Inheritable(_) => None,
        }
    }

    fn state(&self) -> &'static str {
        match &self.finding {
            Finding::Empty => "empty",
            Finding::Usable(_) => "usable",
            Finding::Inheritable(_) => "inheritable",
            Finding::Refused(Refusal::NotADirectory) => "no-directory",
            Finding::Refused(Refusal::Mismatch(_)) => "mismatch",
            Finding::Refused(Refusal::Missing) => "missing",
            Finding::Refused(Refusal::Tampered(_)) => "tampered",
        }
    }

    fn requirements(&self) -> Vec<String> {
        match &self.finding {
            Finding::Usable(found)
            | Finding::Inheritable(found)
            | Finding::Refused(Refusal::Mismatch(found)) => Requirements::lines(found),
            Finding::Empty
            | Finding::Refused(Refusal::NotADirectory | Refusal::Missing | Refusal::Tampered(_)) => {
                Vec::new()
            }
        }
    }

    fn line(&self, width: usize) -> String {
        let mut line = format!("{:width$} {:12}", self.name, self.state());
        for requirement in self.requirements() {
            line.push(' ');
            line.push_str(&requirement);
        }
        if let Some(last) = &self.last {
            line.push_str("  last: ");
            line.push_str(&last.to_string());
        }
        line.trim_end().to_owned()
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name,
            "path": self.path.display().to_string(),
            "state": self.state(),
            "requirements": self.requirements(),
            "last": self.last,
        })
    }
}
