//! The names of caches, and what payloads say of them, are those that taskgraph's own transforms make.

use std::env;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::support::sandbox::Sandbox;
use crate::support::skip::{python_with, skip};

/// Runs taskgraph's own payload builders on cases from standard input. What they would read of an image's Dockerfile
/// does not matter here.
const TRANSFORMS: &str = r#"
import json, sys, types
from taskgraph.transforms import task as transforms
transforms.dockerutil.parse_volumes = lambda *_: set()
for case in json.load(sys.stdin):
    config = types.SimpleNamespace(
        graph_config={"trust-domain": case["trust-domain"]}, params={"level": str(case["level"])}, kind="kind")
    worker = case["worker"]
    definition = {"scopes": [], "expires": "never"}
    builder = transforms.payload_builders[worker["implementation"]].builder
    builder(config, {"worker": worker}, definition)
    print(json.dumps(definition))
"#;

/// A task as the transforms take it, and the arguments that ask us for its payload.
struct Task {
    case: Value,
    args: Vec<String>,
}

impl Task {
    /// Task number so and so of many that are all different.
    fn generate(number: usize, script: &str) -> Self {
        let level = [1, 3, 2][number % 3];
        let (generic, runs) = (number % 5 == 4, number % 4 != 3);
        let caches: Vec<(String, String)> = (0..=number % 3)
            .map(|cache| {
                (
                    format!("cache-{cache}"),
                    format!("/z{}/mount {cache}", 9 - cache),
                )
            })
            .collect();
        let command = if runs {
            "/usr/local/bin/run-task-hg"
        } else {
            "/bin/sh"
        };
        let worker = json!({
            "os": "linux", "env": {}, "max-run-time": 1, "command": [command, "--", "true"],
        });
        let mut task = Self {
            case: json!({"trust-domain": "acme-é", "level": level, "worker": worker}),
            args: Vec::new(),
        };
        task.ask(&["name", "--json", "--trust-domain", "acme-é", "--level"]);
        task.ask(&[&level.to_string()]);
        for (name, path) in &caches {
            task.ask(&[&format!("{name}={path}")]);
        }
        if generic {
            task.on_generic_worker(&caches);
        } else {
            task.on_docker_worker(&caches, number);
            if runs {
                task.ask(&["--run-task", script]);
            }
            if runs && number.is_multiple_of(2) {
                task.ask(&["--image", &image(number)]);
            }
        }
        task
    }

    fn ask(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
    }

    fn on_generic_worker(&mut self, caches: &[(String, String)]) {
        let mounts = caches
            .iter()
            .map(|(name, path)| json!({"cache-name": name, "directory": path}));
        let worker = &mut self.case["worker"];
        worker["implementation"] = json!("generic-worker");
        worker["mounts"] = mounts.collect();
        self.ask(&["--generic-worker"]);
    }

    fn on_docker_worker(&mut self, caches: &[(String, String)], number: usize) {
        // Not all are skipped: taskgraph would then name no caches at all by an empty variable.
        let skips = |cache: usize| cache > 0 && number.is_multiple_of(2);
        let mut list = Vec::new();
        for (cache, (name, path)) in caches.iter().enumerate() {
            list.push(json!({"name": name, "mount-point": path, "skip-untrusted": skips(cache)}));
            if skips(cache) {
                self.ask(&["--skip-untrusted", name]);
            }
        }
        let worker = &mut self.case["worker"];
        worker["implementation"] = json!("docker-worker");
        worker["caches"] = json!(list);
        worker["docker-image"] = if number.is_multiple_of(2) {
            json!(image(number))
        } else {
            json!({"in-tree": "image"})
        };
        if number.is_multiple_of(3) {
            worker["volumes"] = json!(["/v2", "/v1"]);
            self.ask(&["--volume=/v2", "--volume=/v1"]);
        }
    }
}

/// The name of an image that no task builds.
fn image(number: usize) -> String {
    format!("registry.test/image:{number}")
}

/// What a task definition of taskgraph says of caches, in our form.
fn of_caches(definition: &Value) -> Value {
    let plain = |value: &Value| value.get("task-reference").unwrap_or(value).clone();
    let payload = &definition["payload"];
    let env = payload["env"].as_object().cloned().unwrap_or_default();
    let env = env
        .into_iter()
        .filter(|(name, _)| name.starts_with("TASKCLUSTER_"));
    let scopes = definition["scopes"]
        .as_array()
        .expect("scopes")
        .iter()
        .map(plain);
    let mut json = json!({
        "env": env.collect::<serde_json::Map<_, _>>(),
        "scopes": scopes.collect::<Vec<_>>(),
    });
    for key in ["cache", "mounts", "onExitStatus"] {
        let value = plain(&payload[key]);
        if value.as_object().is_some_and(|object| !object.is_empty()) || value.is_array() {
            json[key] = value;
        }
    }
    json
}

#[test]
fn names_and_payloads_are_those_of_the_real_transforms() {
    let test = "names_and_payloads_are_those_of_the_real_transforms";
    let Ok(fetch_content) = env::var("PYTHON_FETCH_CONTENT") else {
        skip(test, "PYTHON_FETCH_CONTENT does not name the Python script");
        return;
    };
    let script = fetch_content.replace("/fetch-content", "/run-task");
    let sandbox = Sandbox::new();
    let Some(interpreter) = python_with(test, "taskgraph.transforms.task") else {
        return;
    };
    let tasks: Vec<_> = (0..20)
        .map(|number| Task::generate(number, &script))
        .collect();
    let cases: Vec<_> = tasks.iter().map(|task| task.case.clone()).collect();
    let expected = sandbox
        .program(&interpreter)
        .args(["-c", TRANSFORMS])
        .stdin(json!(cases).to_string())
        .run();
    let expected: Vec<Value> = expected
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(expected.len(), tasks.len());
    let mut problems = String::new();
    for (Task { case, args }, expected) in tasks.iter().zip(&expected) {
        let outcome = sandbox.binary().args(["cache"]).args(args).run();
        assert!(outcome.status.success(), "{outcome:?}");
        let actual: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let expected = of_caches(expected);
        if actual != expected {
            let _ = writeln!(problems, "{case}\n- {expected}\n+ {actual}\n");
        }
    }
    assert!(problems.is_empty(), "taskgraph (-), ours (+):\n{problems}");
}
