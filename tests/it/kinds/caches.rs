//! Definitions with caches, compared with what taskgraph makes of the same graph when the test runs: its own run-task is in
//! their names.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::{assert_same_lines, graph, kind, parameters, success};
use crate::support::git::have_git;
use crate::support::sandbox::Sandbox;
use crate::support::skip::{python_with, skip};

/// Copies a directory, but for what taskgraph is to write into it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("make a directory");
    for entry in fs::read_dir(from).expect("list a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if path.extension().is_none_or(|extension| extension != "json") {
            fs::copy(&path, to.join(name)).expect("copy a file");
        }
    }
}

/// The graph of a project that gives its tasks these caches.
pub(super) fn graph_with(sandbox: &Sandbox, name: &str, use_caches: &str) -> PathBuf {
    let root = sandbox.path(name);
    copy(&graph("acme"), &root);
    let config = root.join("taskcluster/config.yml");
    let text = fs::read_to_string(&config).expect("read the configuration");
    let changed = text.replace(
        "taskgraph:\n",
        &format!("taskgraph:\n    run: {{use-caches: {use_caches}}}\n"),
    );
    assert_ne!(changed, text);
    fs::write(config, changed).expect("write the configuration");
    root
}

#[test]
fn caches_are_those_of_the_real_transforms() {
    let test = "caches_are_those_of_the_real_transforms";
    let Ok(fetch_content) = env::var("PYTHON_FETCH_CONTENT") else {
        skip(test, "PYTHON_FETCH_CONTENT does not name the Python script");
        return;
    };
    if !have_git(test) {
        return;
    }
    let run_task = fetch_content.replace("/fetch-content", "/run-task");
    let Some(interpreter) = python_with(test, "taskgraph.transforms.task") else {
        return;
    };
    let sandbox = Sandbox::new();
    let make = graph("make.py");
    for (number, use_caches) in ["true", "[uv, checkout, cargo]", "[checkout]", "false"]
        .iter()
        .enumerate()
    {
        let root = graph_with(&sandbox, &number.to_string(), use_caches);
        let taskgraph = sandbox.program(&interpreter);
        success(taskgraph.args([make.as_path(), &root]));
        for (level, event) in [("1", "github-push"), ("3", "hg-push")] {
            let file = sandbox.write("parameters.yml", parameters(level, event));
            let tasks = kind(&sandbox, &root).args(["tasks", "--full", "--run-task", &run_task]);
            let outcome = success(tasks.args(["--parameters"]).args([file]));
            let name = format!("full.level-{level}.{event}.json");
            let expected = fs::read_to_string(root.join(&name)).expect("read what taskgraph made");
            let has_caches = expected.contains("TASKCLUSTER_CACHES");
            assert_eq!(has_caches, number < 2, "{use_caches}: {expected}");
            assert_same_lines(&outcome.stdout, &expected, &format!("{use_caches}, {name}"));
        }
    }
}

#[test]
fn caches_need_taskgraph_s_run_task() {
    let sandbox = Sandbox::new();
    for (number, (use_caches, said)) in [
        ("[pip]", "name that file by --run-task"),
        ("[pip, ccache]", "there are checkout, cargo, npm, pip, uv"),
        ("often", "use-caches"),
    ]
    .into_iter()
    .enumerate()
    {
        let root = graph_with(&sandbox, &number.to_string(), use_caches);
        let file = sandbox.write("parameters.yml", parameters("3", "hg-push"));
        let tasks = kind(&sandbox, &root).args(["tasks", "--full", "--parameters"]);
        tasks
            .args([file])
            .run()
            .expect_code(2)
            .expect_stderr(&["config.yml:", said]);
    }
}
