//! `kind`: what it makes of task graphs, compared with what taskgraph makes of them; `testdata/kinds` has both.

mod caches;
mod findings;
mod submit;
mod update;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::sandbox::{Invocation, Outcome, Sandbox};
use crate::support::skip::have_programs;

/// A task graph of `testdata/kinds`.
fn graph(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/kinds")
        .join(name)
}

fn kind<'a>(sandbox: &'a Sandbox, root: &Path) -> Invocation<'a> {
    sandbox.binary().args(["kind", "--root"]).args([root])
}

/// Runs what is to succeed. Other than that of transfers, its standard output is data.
fn success(invocation: Invocation) -> Outcome {
    let outcome = invocation.run();
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    outcome
}

fn expected(project: &str, file: &str) -> String {
    let path = graph(project).join(file);
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("cannot read {}: {err}", path.display()))
}

fn expected_json(project: &str, file: &str) -> Value {
    serde_json::from_str(&expected(project, file)).expect("JSON")
}

/// Compares long texts line by line, so that a failure can be read.
fn assert_same_lines(found: &str, expected: &str, what: &str) {
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "{what}, line {}", number + 1);
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

const BUILD_DATE: [&str; 2] = ["--build-date", "1700000000"];

#[test]
fn tasks_of_real_projects_are_what_taskgraph_makes_of_them() {
    let sandbox = Sandbox::new();
    let mut compared = 0;
    for project in ["gecko-gcc", "vpn", "taskgraph", "translations"] {
        for (level, event) in [
            ("1", "github-push"),
            ("1", "github-pull-request"),
            ("3", "hg-push"),
        ] {
            let tasks = kind(&sandbox, &graph(project))
                .args(["tasks", "--json", "--level", level, "--tasks-for", event])
                .args(BUILD_DATE);
            let outcome = success(tasks);
            let file = format!("expected.level-{level}.{event}.json");
            assert_same_lines(&outcome.stdout, &expected(project, &file), project);
            compared += 1;
        }
    }
    assert_eq!(compared, 12);
}

/// What `testdata/kinds/make.py` tells taskgraph.
pub(crate) fn parameters(level: &str, event: &str) -> String {
    format!(
        "{{level: '{level}', tasks_for: {event}, build_date: 1700000000, project: acme, owner: dev@acme.example, \
         base_repository: https://github.com/acme/acme.git, head_repository: https://github.com/acme/acme, \
         head_rev: {}, pushlog_id: '7', repository_type: git}}",
        "f".repeat(40)
    )
}

#[test]
fn definitions_are_what_taskgraph_makes_of_them() {
    let sandbox = Sandbox::new();
    for (level, event) in [
        ("1", "github-push"),
        ("1", "github-pull-request"),
        ("1", "github-pull-request-untrusted"),
        ("2", "github-issue-comment"),
        ("3", "hg-push"),
    ] {
        let parameters = sandbox.write("parameters.yml", parameters(level, event));
        let tasks = kind(&sandbox, &graph("acme")).args(["tasks", "--full", "--parameters"]);
        let outcome = success(tasks.args([parameters]));
        let file = format!("full.level-{level}.{event}.json");
        assert_same_lines(&outcome.stdout, &expected("acme", &file), &file);
    }
}

#[test]
fn what_is_typed_goes_before_parameters() {
    let sandbox = Sandbox::new();
    let parameters = sandbox.write("parameters.yml", parameters("1", "github-push"));
    let tasks = kind(&sandbox, &graph("taskgraph"))
        .args(["tasks", "--json", "--parameters"])
        .args([parameters])
        .args(["--level", "3", "--tasks-for", "hg-push"]);
    assert_eq!(
        success(tasks).stdout,
        expected("taskgraph", "expected.level-3.hg-push.json")
    );
}

/// The values are written out, so that nobody can change them along with the files.
#[test]
fn the_worked_examples_come_out() {
    let sandbox = Sandbox::new();
    let tasks = kind(&sandbox, &graph("acme"))
        .args([
            "tasks",
            "widget-src",
            "widget",
            "fetch-lib-git",
            "--json",
            "--level",
            "1",
        ])
        .args(["--tasks-for", "github-pull-request"])
        .args(BUILD_DATE);
    let outcome = success(tasks);
    let tasks: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let a = "5ccf9529486f9e6c35bb3ae2528d0091f7f65eb3ddf97d927f5b0dabb8e3f704";
    let search = ["level-3", "level-2", "level-1", "pr"]
        .map(|realm| format!("acme.cache.{realm}.content.v1.widget-src.hash.{a}"));
    assert_eq!(tasks["widget-src"]["digest"], a);
    assert_eq!(
        tasks["widget-src"]["artifact"],
        "public/widget-2.4.1.tar.xz"
    );
    assert_eq!(tasks["widget-src"]["index_search"], json!(search));
    assert_eq!(
        tasks["widget-src"]["routes"],
        json!([format!("index.{}", search[3])])
    );
    let b = &tasks["widget-repacked"];
    assert_eq!(
        b["digest"],
        "9f1e39ec2d90639380fc96624a13042dbbc8158f16a45f239d9dfef5746efd49"
    );
    let command: Vec<_> = b["command"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    assert_eq!(
        command.join(" "),
        "fetch-content static-url --sha256 11c0e1ba0a2c7d0f8b2f3d6f1f5d1b9fe735f4f2820b5746018760a73037797d \
         --size 2048 --strip-components 1 --add-prefix widget/ --gpg-sig-url \
         https://downloads.example.org/widget-2.4.1.zip.asc --gpg-key-env FETCH_GPG_KEY -H User-Agent:acme \
         https://downloads.example.org/widget-2.4.1.zip /builds/worker/artifacts/widget.tar.zst"
    );
    assert_eq!(b["env_names"], json!(["FETCH_GPG_KEY", "UPLOAD_DIR"]));
    assert_eq!(b["alias"], "widget");
    let c = &tasks["lib-git"];
    assert_eq!(
        c["digest"],
        "9176a6a0878ef66eff4883ec3cdfb0b479376f087864e0f30a973bf26190511c"
    );
    assert_eq!(c["scopes"], json!(["secrets:get:project/acme/deploy-key"]));
    assert_eq!(tasks.as_object().expect("an object").len(), 3);
}

#[test]
fn moz_fetches_are_what_taskgraph_makes_of_them() {
    let sandbox = Sandbox::new();
    let expected = expected_json("acme", "fetches.json");
    let expected = expected.as_object().expect("an object");
    assert_eq!(expected.len(), 4);
    for (label, expected) in expected {
        let of = label.split('-').next().expect("a kind");
        let fetches = kind(&sandbox, &graph("acme")).args(["fetches", of, label, "--json"]);
        let outcome = success(fetches);
        let found: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        assert_eq!(
            found["env"]["MOZ_FETCHES"], expected["MOZ_FETCHES"],
            "{label}"
        );
        assert_eq!(found["env"]["MOZ_FETCHES_DIR"], "fetches");
        for key in ["scopes", "dependencies"] {
            assert_eq!(found[key], expected[key], "{label} {key}");
        }
        for (name, value) in expected["env"].as_object().expect("an object") {
            assert_eq!(found["env"][name], *value, "{label} {name}");
        }
        let plain = kind(&sandbox, &graph("acme")).args(["fetches", of, label]);
        let outcome = success(plain);
        assert_eq!(
            Value::from(outcome.stdout.trim_end()),
            expected["MOZ_FETCHES"]
        );
        let scopes = expected["scopes"].as_array().expect("a list").len();
        assert_eq!(
            outcome.lines("needs the scope ").len(),
            scopes,
            "{outcome:?}"
        );
    }
}

#[test]
fn a_task_without_fetches_gets_nothing() {
    let sandbox = Sandbox::new();
    let fetches = kind(&sandbox, &graph("acme")).args(["fetches", "build", "nothing", "--json"]);
    let found: Value = serde_json::from_str(&success(fetches).stdout).expect("JSON");
    assert_eq!(
        found,
        json!({"label": "build-nothing", "env": {}, "scopes": [], "dependencies": {}})
    );
}

fn shown<'a>(outcome: &'a Outcome, name: &str) -> Vec<&'a str> {
    let lines = outcome
        .stdout
        .lines()
        .filter_map(|line| line.split_once(' '));
    lines
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.trim_start())
        .collect()
}

/// Digests of toolchains with each other, files by pattern, an image by default, arguments and aliases.
#[test]
fn digests_of_toolchains_are_what_taskgraph_makes_of_them() {
    let sandbox = Sandbox::new();
    let expected = expected_json("acme", "toolchains.json");
    let expected = expected.as_object().expect("an object");
    assert_eq!(expected.len(), 2);
    for (label, expected) in expected {
        let outcome = success(kind(&sandbox, &graph("acme")).args(["show", label, "--level", "3"]));
        assert_eq!(
            json!(shown(&outcome, "digest")),
            json!([expected["cached_task"]["digest"]]),
            "{label}"
        );
        assert_eq!(
            json!(shown(&outcome, "index")),
            expected["index_search"],
            "{label}"
        );
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("make a directory");
    for entry in fs::read_dir(from).expect("list a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copy a file");
        }
    }
}

#[test]
fn only_what_git_tracks_counts_for_a_toolchain() {
    if !have_programs("only_what_git_tracks_counts_for_a_toolchain", &["git"]) {
        return;
    }
    let sandbox = Sandbox::new();
    let root = sandbox.path("graph");
    copy(&graph("acme"), &root);
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
        success(
            sandbox
                .program("git")
                .args(["-C", "graph"])
                .args(identity)
                .args(arguments),
        );
    };
    git(&["init", "-q"]);
    let without_commit = success(kind(&sandbox, &root).args(["show", "bar"]));
    without_commit.expect_stderr(&[
        "its digest is not known",
        "cannot list the files that git tracks",
    ]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "all"]);
    let expected = expected_json("acme", "toolchains.json");
    let digest = &expected["toolchain-linux64-bar"]["cached_task"]["digest"];
    // Both match `**/*.txt`, which is among the resources.
    sandbox.write("graph/untracked.txt", "untracked");
    let outcome = success(kind(&sandbox, &root).args(["show", "bar"]));
    assert_eq!(json!(shown(&outcome, "digest")), json!([digest]));
    git(&["add", "-A"]);
    git(&["commit", "-qm", "more"]);
    let outcome = success(kind(&sandbox, &root).args(["show", "bar"]));
    assert_ne!(json!(shown(&outcome, "digest")), json!([digest]));
}

#[test]
fn one_name_can_be_that_of_two_tasks() {
    let sandbox = Sandbox::new();
    let outcome = success(kind(&sandbox, &graph("translations")).args(["show", "marian"]));
    assert_eq!(
        shown(&outcome, "label"),
        ["fetch-marian", "toolchain-marian"]
    );
    assert_eq!(
        shown(&outcome, "input"),
        [
            "fetch-marian public/marian-source.tar.zst",
            "toolchain-cuda-toolkit public/build/cuda-toolkit.tar.zst"
        ]
    );
    // Its script is not among the test data, and the project has transforms of its own.
    outcome.expect_stderr(&[
        "build-marian.sh did not match anything",
        "translations_taskgraph.transforms.continuation may",
    ]);
}

#[test]
fn the_list_has_all_tasks() {
    let sandbox = Sandbox::new();
    let outcome = success(kind(&sandbox, &graph("acme")).args(["list"]));
    let rows: Vec<Vec<&str>> = outcome
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(rows.len(), 9, "{outcome:?}");
    assert_eq!(
        rows[1],
        [
            "fetch-widget-repacked",
            "widget",
            "acme/private/widget.tar.zst",
            "https://downloads.example.org/widget-2.4.1.zip"
        ]
    );
    assert_eq!(
        rows[8],
        ["toolchain-linux64-bar", "bar", "public/build/bar.tar.zst"]
    );
    let here = sandbox
        .binary()
        .args(["kind", "list"])
        .current_dir(graph("acme"));
    assert_eq!(success(here).stdout, outcome.stdout);
}
