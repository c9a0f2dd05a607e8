//! `fetch-content cache`: what it says of caches, and that it changes nothing.

use std::fs;

use serde_json::{Value, json};

use crate::support::sandbox::{Outcome, Sandbox};

/// Requirements of the worker's user.
const WORKER: &str = "gid=1000\nuid=1000\nversion=1";

/// Makes a cache, without any owner in particular.
fn cache(sandbox: &Sandbox, name: &str, requires: Option<&str>) {
    sandbox.write(&format!("{name}/content"), "content");
    if let Some(requires) = requires {
        sandbox.write(&format!("{name}/.cacherequires"), requires);
        let log = "[2026-08-01T10:20:30.123456+00:00 FIRST] created; requirements: gid=1000, uid=1000, version=1\n\
                   [2026-08-02T10:20:30+00:00 SECOND] used\n";
        sandbox.write(&format!("{name}/.cachelog"), log);
    }
}

fn run(sandbox: &Sandbox, args: &[&str]) -> Outcome {
    sandbox.binary().args(["cache"]).args(args).run()
}

#[test]
fn check_says_what_run_task_would_and_changes_nothing() {
    let sandbox = Sandbox::new();
    cache(&sandbox, "ours", Some(WORKER));
    cache(&sandbox, "short", Some("uid=1000"));
    cache(&sandbox, "theirs", Some("gid=1000\nuid=500\nversion=1"));
    cache(&sandbox, "unknown", None);
    fs::create_dir(sandbox.path("empty")).expect("make a directory");
    let before = sandbox.tree();
    let cases: [(&[&str], i32, &str); 8] = [
        (
            &["ours"],
            0,
            "cache ours exists; requirements: gid=1000 uid=1000 version=1\n",
        ),
        (
            &["empty"],
            0,
            "cache empty is empty; writing requirements: gid=1000 uid=1000 version=1\n",
        ),
        (
            &["short"],
            0,
            "warning: cache short does not say gid=1000 version=1;",
        ),
        (
            &["ours", "unknown", "nowhere"],
            72,
            "error: cache unknown is not empty and is missing a",
        ),
        (
            &["nowhere", "unknown"],
            1,
            "error: cache nowhere is not a directory; this should",
        ),
        (
            &["theirs"],
            72,
            "our requirements:   gid=1000 uid=1000 version=1\n",
        ),
        (
            &["theirs", "--untrusted"],
            0,
            "cache theirs would be given to 1000:1000",
        ),
        (
            &["theirs", "--uid", "500"],
            0,
            "cache theirs exists; requirements: gid=1000 uid=500",
        ),
    ];
    for (args, code, said) in cases {
        let outcome = run(&sandbox, &[&["check"], args].concat());
        assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
        assert!(outcome.stdout.contains(said), "{said}: {outcome:?}");
        before.assert_same(&sandbox.tree(), "before (-), after (+)");
    }
    let outcome = run(&sandbox, &["check", "ours", "unknown", "nowhere"]);
    assert_eq!(outcome.stderr, "error: 2 of 3 caches cannot be used\n");
    let outcome = run(&sandbox, &["check", "theirs"]);
    let log = "audit log:\n[2026-08-01T10:20:30.123456+00:00 FIRST] created;";
    assert!(outcome.stdout.contains(log), "{outcome:?}");
}

#[test]
fn logs_are_read_by_people_and_programs() {
    let sandbox = Sandbox::new();
    cache(&sandbox, "c", Some(WORKER));
    let outcome = run(&sandbox, &["log", "c"]);
    let written = String::from_utf8(sandbox.read("c/.cachelog")).expect("text");
    assert_eq!(outcome.stdout, written, "{outcome:?}");
    let outcome = run(&sandbox, &["log", "--json", "c"]);
    let entries: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(entries[0]["task"], "FIRST");
    assert_eq!(entries[0]["event"], "created");
    assert_eq!(
        entries[0]["requirements"],
        json!(["gid=1000", "uid=1000", "version=1"])
    );
    assert_eq!(entries[1]["time"], "2026-08-02T10:20:30+00:00");
    assert_eq!(entries[1]["event"], "used");
    let outcome = run(&sandbox, &["log", "nowhere"]);
    assert_eq!(outcome.status.code(), Some(6), "{outcome:?}");
    assert!(outcome.stderr.contains("nowhere"), "{outcome:?}");
}

#[test]
fn a_worker_s_caches_are_told_apart() {
    let sandbox = Sandbox::new();
    cache(&sandbox, "caches/a-good", Some(WORKER));
    cache(
        &sandbox,
        "caches/b-theirs",
        Some("uid=1\ngid=1000\nversion=1"),
    );
    cache(&sandbox, "elsewhere/x", None);
    sandbox.write("caches/file", "no cache");
    sandbox.write("caches/a-good/evil", "");
    let state = json!({"acme-level-3-pip": {"location": sandbox.path("elsewhere/x"), "hits": 3, "key": "k"}});
    sandbox.write("directory-caches.json", state.to_string());
    let verify = |args: &[&str]| run(&sandbox, &[&["verify"], args].concat());
    let outcome = verify(&["caches", "--name", "good"]);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert_eq!(
        outcome.stdout,
        "a-good usable       gid=1000 uid=1000 version=1  last: [2026-08-02T10:20:30+00:00 SECOND] used\n"
    );
    let outcome = verify(&[
        "caches",
        "--worker-state",
        "directory-caches.json",
        "--json",
    ]);
    assert_eq!(outcome.status.code(), Some(72), "{outcome:?}");
    assert_eq!(outcome.stderr, "error: 2 of 3 caches cannot be used\n");
    let rows: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    let states: Vec<_> = rows
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("state"))
        })
        .collect();
    let expected = [
        ("a-good", "usable"),
        ("acme-level-3-pip", "missing"),
        ("b-theirs", "mismatch"),
    ];
    assert_eq!(
        states,
        expected.map(|(name, state)| (name.to_owned(), state.to_owned()))
    );
    assert_eq!(rows[0]["last"]["task"], "SECOND");
    let outcome = verify(&["caches", "--untrusted"]);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    assert!(
        outcome.stdout.contains("b-theirs inheritable"),
        "{outcome:?}"
    );
}

#[test]
fn what_is_no_list_of_a_worker_is_a_mistake() {
    let sandbox = Sandbox::new();
    sandbox.write("directory-caches.json", "[1]");
    let outcome = run(
        &sandbox,
        &["verify", "--worker-state", "directory-caches.json"],
    );
    assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
    assert!(
        outcome
            .stderr
            .contains("directory-caches.json lists no caches"),
        "{outcome:?}"
    );
}

#[test]
fn names_that_cannot_be_made_are_mistakes() {
    let sandbox = Sandbox::new();
    let name = |args: &[&str]| {
        run(
            &sandbox,
            &[&["name", "--trust-domain", "acme", "--level", "3"], args].concat(),
        )
    };
    for (args, said) in [
        (&["cargo", "--run-task", "nowhere"][..], "nowhere"),
        (&["other"], "nobody knows where the cache `other` is"),
        (&["cargo", "--image", "x"], "--run-task"),
        (
            &["cargo", "--skip-untrusted", "pip"],
            "--skip-untrusted pip: there is no such cache",
        ),
    ] {
        let outcome = name(args);
        assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(said), "{said}: {outcome:?}");
    }
    let several = ["--repository", "b=y", "--repository", "a=x", "checkout"];
    // Of "a\tx\nb\ty".
    let digest = "2cf7b1f48136513861c7926bd736e52606532bb2e6b2ad92da41c00903850afd";
    assert_eq!(
        name(&several).stdout,
        format!("acme-level-3-checkouts-repos-{digest}-v3\n")
    );
}
