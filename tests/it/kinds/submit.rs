//! `kind submit`: tasks on a deployment, for which `serve --write` stands; taskgraph says what their definitions should be.

use std::path::Path;

use serde_json::{Value, json};

use super::caches::graph_with;
use super::{graph, kind, parameters, success};
use crate::support::hawk::secrets_of;
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, TASK_B};
use crate::support::server::{Reply, Server};
use crate::support::serving::Serving;
use crate::support::skip::python_with;

/// Creates tasks of `acme` at `root`.
fn submit<'a>(sandbox: &'a Sandbox, root: &str, names: &[&str]) -> Invocation<'a> {
    submit_of(sandbox, &graph("acme"), root, names)
}

/// Creates tasks of a graph at `root`.
fn submit_of<'a>(sandbox: &'a Sandbox, graph: &Path, root: &str, names: &[&str]) -> Invocation<'a> {
    let parameters = sandbox.write("parameters.yml", parameters("1", "github-push"));
    kind(sandbox, graph)
        .args(["submit", "--parameters"])
        .args([parameters])
        .args(names)
        .env("TASKCLUSTER_ROOT_URL", root)
        .env("TASKCLUSTER_PROXY_URL", root)
}

/// The ids of created tasks by their labels.
fn created(outcome: &Outcome) -> Vec<(String, String)> {
    let lines = outcome.stderr.lines();
    let pairs = lines.filter_map(|line| line.split_once(": created task "));
    pairs
        .map(|(label, id)| (label.to_owned(), id.to_owned()))
        .collect()
}

fn definition(server: &Serving, task: &str) -> Value {
    let answer = server.get(&format!("/api/queue/v1/task/{task}"), &[]);
    serde_json::from_slice(&answer.expect(200).body).expect("JSON")
}

/// Does what `taskgraph.create` does with a task of a full task graph, and what `taskgraph.optimize` has done before.
const TASKGRAPH: &str = r#"
import datetime, json, sys
from taskgraph.util.parameterization import resolve_task_references, resolve_timestamps
case = json.load(sys.stdin)
now = datetime.datetime.fromisoformat(case["now"].replace("Z", "+00:00"))
task = case["task"]
definition = resolve_task_references(task["label"], task["task"], case["id"], case["group"], case["dependencies"])
definition = resolve_timestamps(now, definition)
definition["dependencies"] = sorted(case["dependencies"].values())
definition["taskGroupId"] = case["group"]
definition["schedulerId"] = "acme-level-1"
print(json.dumps(definition))
"#;

#[test]
fn definitions_are_what_taskgraph_would_create() {
    let test = "definitions_are_what_taskgraph_would_create";
    let Some(interpreter) = python_with(test, "taskgraph.util.parameterization") else {
        return;
    };
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    // Names of caches refer to tasks, too.
    let graph = graph_with(&sandbox, "graph", "[uv, cargo]");
    let run_task = sandbox.write("run-task", "print('hello')\n");
    let images = ["fetch", "slim"].map(|name| format!("--task=docker-image-{name}={TASK_A}"));
    let outcome = submit_of(&sandbox, &graph, server.root(), &["--all", "--run-task"])
        .args([&run_task])
        .args(&images)
        .run();
    let full = kind(&sandbox, &graph)
        .args(["tasks", "--full", "--run-task"])
        .args([&run_task])
        .args(["--parameters"])
        .args([sandbox.path("parameters.yml")]);
    let full: Value = serde_json::from_str(&success(full).stdout).expect("JSON");
    let full = full.as_object().expect("an object");
    let created = created(&outcome.expect_code(0));
    assert_eq!(created.len(), full.len());
    let mut groups = Vec::new();
    for (label, id) in created {
        let actual = definition(&server, &id);
        let task = full.values().find(|task| task["label"] == *label);
        let task = task.expect("a task of the graph");
        let names = task["dependencies"].as_object().expect("dependencies");
        let dependencies: serde_json::Map<_, _> = names
            .keys()
            .map(|name| (name.clone(), json!(TASK_A)))
            .collect();
        let case = json!({
            "task": task, "id": id, "now": actual["created"], "group": actual["taskGroupId"],
            "dependencies": dependencies,
        });
        let resolved = sandbox.program(&interpreter).args(["-c", TASKGRAPH]);
        let resolved = success(resolved.stdin(case.to_string()));
        let expected: Value = serde_json::from_str(&resolved.stdout).expect("JSON");
        assert_eq!(actual, expected, "{label}");
        let caches = &actual["payload"]["cache"];
        assert!(!caches.to_string().contains('<'), "{caches}");
        groups.push(actual["taskGroupId"].clone());
    }
    groups.dedup();
    assert_eq!(groups.len(), 1);
}

#[test]
fn what_the_index_has_is_not_created_again() {
    let sandbox = Sandbox::new();
    let server = Serving::writing(sandbox.path("store"));
    // The newest image, and one that is trusted less.
    for (realm, task) in [("level-1", TASK_B), ("level-2", TASK_A)] {
        let namespace = format!("acme.cache.{realm}.docker-images.v2.fetch.latest");
        server.index(&namespace, task, 0).expect(200);
        server
            .put(task, "public/image.tar.zst", b"image")
            .expect(200);
    }
    let both = ["widget-src", "lib-git", "fetch-widget-src"];
    let first = submit(&sandbox, server.root(), &both).run().expect_code(0);
    let first = created(&first);
    assert_eq!(first.len(), 2, "{first:?}");
    for (label, id) in &first {
        let definition = definition(&server, id);
        assert_eq!(definition["dependencies"], json!([TASK_A]), "{label}");
        let image = &definition["payload"]["image"]["taskId"];
        assert_eq!(image, TASK_A, "{label}");
        // What the queue does when the task has ended.
        let route = definition["routes"][0].as_str().expect("a route");
        let namespace = route.strip_prefix("index.").expect("a route of the index");
        server.index(namespace, id, 0).expect(200);
    }
    let again = submit(&sandbox, server.root(), &both).run().expect_code(0);
    assert!(created(&again).is_empty());
    for (label, id) in &first {
        let again = &again.stderr;
        assert!(
            again.contains(&format!("{label}: task {id} has it already")),
            "{again}"
        );
    }
}

/// The index leads to a task that has failed, to one that is forgotten and to one that is about to be.
#[test]
fn tasks_that_are_of_no_use_are_created_again() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve_by("/api/index/v1/tasks/indexes", |seen| {
        let asked: Value = serde_json::from_slice(&seen.body).expect("JSON");
        let asked = asked["indexes"].as_array().expect("a list");
        let found = asked.iter().enumerate().map(|(number, namespace)| {
            json!({
                "namespace": namespace, "taskId": format!("task-{number}"), "rank": 0, "data": {},
                "expires": "3000-01-01T00:00:00.000Z",
            })
        });
        Reply::ok(json!({"tasks": found.collect::<Vec<_>>()}).to_string())
    });
    for (task, state, expires) in [
        ("task-0", "failed", "3000-01-01T00:00:00.000Z"),
        ("task-2", "completed", "2020-01-01T00:00:00.000Z"),
    ] {
        let status = json!({"status": {"taskId": task, "state": state, "expires": expires}});
        let path = format!("/api/queue/v1/task/{task}/status");
        server.serve(&path, Reply::ok(status.to_string()));
    }
    let image = format!("docker-image-fetch={TASK_A}");
    let outcome = submit(
        &sandbox,
        &server.root(),
        &["widget-src", "lib-git", "--task", &image],
    );
    // Nothing answers to that here.
    outcome.run().expect_code(3).expect_stderr(&[
        "error: cannot submit fetch-widget-src\n  caused by: cannot create task ",
        "error: cannot submit fetch-lib-git",
        "error: 2 of 2 tasks failed",
    ]);
    let put = server
        .requests()
        .into_iter()
        .filter(|seen| seen.method == "PUT");
    assert_eq!(put.count(), 2);
}

#[test]
fn a_desk_signs_what_it_creates() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/api/index/v1/tasks/indexes", Reply::ok(r#"{"tasks": []}"#));
    let image = format!("docker-image-fetch={TASK_A}");
    let outcome = submit(&sandbox, &server.root(), &["widget-src", "--task", &image])
        .env_remove("TASKCLUSTER_PROXY_URL")
        .env("TASKCLUSTER_CLIENT_ID", "me")
        .env("TASKCLUSTER_ACCESS_TOKEN", "not-to-be-told")
        .run()
        .expect_code(3);
    let put: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|seen| seen.method == "PUT")
        .collect();
    let secrets = secrets_of(&put);
    assert_eq!(put.len(), 1);
    assert!(!secrets.is_empty());
    let secrets: Vec<_> = secrets
        .iter()
        .map(String::as_str)
        .chain(["not-to-be-told"])
        .filter(|secret| !secret.is_empty())
        .collect();
    outcome.expect_not_in_stderr(&secrets);
}

#[test]
fn what_is_missing_is_told_before_anything_is_created() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve("/api/index/v1/tasks/indexes", Reply::ok(r#"{"tasks": []}"#));
    let root = server.root();
    let run = |names: &[&str]| submit(&sandbox, &root, names);
    for (run, said) in [
        (
            run(&["widget-src"]),
            "the index of the deployment has no docker-image-fetch for the tasks to run in",
        ),
        (run(&["wigdet-src"]), "did you mean `widget-src`?"),
        (
            run(&["widget-src", "--task", "docker-image-fetch"]),
            "it is not LABEL=TASK_ID",
        ),
        (
            run(&["widget-src", "--task", &format!("fetch={TASK_A}")]),
            "is it docker-image-fetch?",
        ),
        (
            run(&["widget-src"]).env_remove("TASKCLUSTER_ROOT_URL"),
            "TASKCLUSTER_ROOT_URL is not set",
        ),
        (
            run(&["widget-src"]).env_remove("TASKCLUSTER_PROXY_URL"),
            "neither TASKCLUSTER_PROXY_URL nor TASKCLUSTER_CLIENT_ID is set",
        ),
        (run(&["widget-src"]).env("TASK_ID", "no/id"), "TASK_ID: "),
        (
            kind(&sandbox, &graph("acme"))
                .args(["submit", "widget-src"])
                .env("TASKCLUSTER_ROOT_URL", &root),
            "pass taskgraph's parameters.yml",
        ),
    ] {
        run.run().expect_code(2).expect_stderr(&[said]);
    }
    assert!(server.requests().iter().all(|seen| seen.method != "PUT"));
}
