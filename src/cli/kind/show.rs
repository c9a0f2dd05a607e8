//! `kind show`: all that is known of the tasks with a name.

use crate::{
    cli::{args, kind::parameters, ui::Ui},
    error::Result,
    kind::{Cached, FetchTask, Graph, Parameters, Toolchain, Upstream},
};

/// Runs the verb. A name that a fetch and a toolchain share shows both.
pub(super) fn run(graph: &Graph, name: &str, push: &args::Push, ui: &Ui) -> Result<()> {
    let (parameters, _) = parameters(push)?;
    let sheets = match (graph.fetch(name), graph.toolchain(name)) {
        (Ok(fetch), Ok(toolchain)) => {
            vec![
                fetch_sheet(fetch, &parameters),
                toolchain_sheet(graph, toolchain, &parameters, ui),
            ]
        }
        (Ok(fetch), Err(_)) => vec![fetch_sheet(fetch, &parameters)],
        (Err(_), Ok(toolchain)) => vec![toolchain_sheet(graph, toolchain, &parameters, ui)],
        (Err(err), Err(_)) => return Err(err),
    };
    for sheet in sheets {
        sheet.print()?;
    }
    Ok(())
}

/// Lines of a name and what it stands for.
struct Sheet(Vec<(&'static str, String)>);

impl Sheet {
    fn cached(&mut self, cached: &Cached, parameters: &Parameters) {
        self.0.push(("digest", cached.digest.clone()));
        self.all("index", cached.index_search(parameters));
        self.all("route", cached.routes(parameters));
    }

    fn all(&mut self, name: &'static str, values: impl IntoIterator<Item = String>) {
        self.0.extend(values.into_iter().map(|value| (name, value)));
    }

    fn print(&self) -> Result<()> {
        for (name, value) in &self.0 {
            Ui::data(&format!("{name:11} {value}"))?;
        }
        Ok(())
    }
}

fn fetch_sheet(task: &FetchTask, parameters: &Parameters) -> Sheet {
    let mut sheet = Sheet(vec![
        ("label", task.label.clone()),
        ("defined", task.place.to_string()),
        ("description", task.description.trim().to_owned()),
    ]);
    sheet.all("alias", task.alias.clone());
    match &task.upstream {
        Upstream::StaticUrl(file) => {
            sheet.all("url", [file.url.clone()]);
            sheet.all("sha256", [file.sha256.clone()]);
            sheet.all("size", [file.size.to_string()]);
        }
        Upstream::Git(git) => {
            sheet.all("repo", [git.repo.clone()]);
            sheet.all("revision", [git.revision.clone()]);
        }
    }
    sheet.all("artifact", [task.artifact()]);
    sheet.all("command", [task.command().join(" ")]);
    sheet.all("scope", task.scopes());
    sheet.all("expires", [task.expires_after(parameters).to_owned()]);
    sheet.cached(&task.cached, parameters);
    sheet
}

fn toolchain_sheet(graph: &Graph, task: &Toolchain, parameters: &Parameters, ui: &Ui) -> Sheet {
    let mut sheet = Sheet(vec![
        ("label", task.label.clone()),
        ("defined", task.place.to_string()),
    ]);
    sheet.all("alias", task.aliases.clone());
    sheet.all("artifact", [task.artifact.clone()]);
    match graph.inputs(&task.kind, &task.label) {
        Ok(inputs) => {
            let inputs = inputs.entries.iter();
            sheet.all(
                "input",
                inputs.map(|input| format!("{} {}", input.label, input.artifact)),
            );
        }
        Err(err) => ui.warning(&format!("its inputs are not known: {err}")),
    }
    match graph.toolchain_cached(task) {
        Ok(cached) => sheet.cached(&cached, parameters),
        Err(err) => ui.warning(&format!("its digest is not known: {err}")),
    }
    if let Some(module) = graph.unknown_transform(&task.kind) {
        ui.warning(&format!(
            "{module} may make something else of this task, which only taskgraph can tell"
        ));
    }
    sheet
}
