//! Input that makes no sense: exit code 2, one line that names the thing, no request, nothing created.

use serde_json::{Value, json};

use crate::support::archives::sha256_hex;
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A};
use crate::support::server::Server;

/// Runs and expects the refusal; `named` must be in the line that begins with `error:`.
fn expect_refused(
    sandbox: &Sandbox,
    server: &Server,
    run: Invocation<'_>,
    named: &[&str],
) -> Outcome {
    let before = sandbox.tree();
    let outcome = run.run().expect_code(2);
    let errors = outcome.lines("error:");
    assert_eq!(errors.len(), 1, "not one error: {outcome:?}");
    let line = outcome
        .stderr
        .lines()
        .find(|line| line.starts_with("error:"));
    let line = line.expect("was counted");
    for part in named {
        assert!(line.contains(part), "{line:?} lacks {part:?}: {outcome:?}");
    }
    before.assert_same(&sandbox.tree(), "the sandbox");
    assert!(server.requests().is_empty(), "{:?}", server.paths());
    outcome
}

/// The refusal of a list of fetches.
fn expect_list_refused(text: &str, named: &[&str]) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let run = sandbox.task_artifacts(&server, &Value::Null);
    expect_refused(&sandbox, &server, run.env("MOZ_FETCHES", text), named);
    // The same from elsewhere.
    let run = sandbox.task_artifacts(&server, &json!([]));
    let run = run.args(["--fetches", "-"]).stdin(text);
    expect_refused(&sandbox, &server, run, &[]);
}

/// The refusal of an entry, after a good one.
fn expect_entry_refused(bad: &Value, named: &[&str]) {
    let good = json!({"task": TASK_A, "artifact": "public/good", "extract": true});
    expect_list_refused(&json!([good, bad]).to_string(), named);
}

#[test]
fn a_missing_moz_fetches() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let run = sandbox.task_artifacts(&server, &json!([]));
    let run = run.env_remove("MOZ_FETCHES");
    expect_refused(&sandbox, &server, run, &["MOZ_FETCHES"]);
}

#[test]
fn a_malformed_moz_fetches() {
    for text in [
        "", "[", "not json", "[{]", "{}", "null", "\"x\"", "7", "[] []",
    ] {
        expect_list_refused(text, &["MOZ_FETCHES"]);
    }
}

#[test]
fn entries_of_the_wrong_shape() {
    for text in ["[7]", "[null]", "[[]]", "[\"public/a\"]"] {
        expect_list_refused(text, &["MOZ_FETCHES"]);
    }
    expect_entry_refused(&json!({"artifact": "public/a"}), &["task"]);
    expect_entry_refused(&json!({"task": TASK_A}), &["artifact"]);
    let with = |key: &str, value: Value| {
        let mut entry = json!({"task": TASK_A, "artifact": "public/a", "extract": true});
        entry[key] = value;
        entry
    };
    for (key, value) in [
        ("task", json!(7)),
        ("artifact", json!(["public/a"])),
        ("extract", json!("yes")),
        ("dest", json!(7)),
        ("verify-hash", json!("sure")),
        ("size", json!("big")),
        ("size", json!(-1)),
        ("size", json!(1.5)),
        ("sha256", json!(7)),
    ] {
        expect_entry_refused(&with(key, value), &[]);
    }
}

#[test]
fn task_ids_that_are_none() {
    for id in [
        "",
        "..",
        "a/b",
        "aaaaaaaaQ0CabcdefghijA/..",
        "aaaaaaaa Q0Cabcdefghij",
    ] {
        let entry = json!({"task": id, "artifact": "public/a", "extract": true});
        expect_entry_refused(&entry, &["task"]);
    }
}

#[test]
fn artifact_names_that_are_none() {
    for name in [
        "",
        ".",
        "..",
        "public/..",
        "public/.",
        "public/",
        "/",
        "public/a\0b",
    ] {
        let entry = json!({"task": TASK_A, "artifact": name, "extract": false});
        expect_entry_refused(&entry, &["artifact"]);
    }
    let long = format!("public/{}", "n".repeat(256));
    let entry = json!({"task": TASK_A, "artifact": long, "extract": false});
    expect_entry_refused(&entry, &["artifact", "255"]);
}

#[test]
fn names_with_dots_inside_are_refused_or_harmless() {
    // `..` in the middle of a name would be another artifact to a server that normalises paths.
    for name in ["../a", "public/../a", "public/./a"] {
        let entry = json!({"task": TASK_A, "artifact": name, "extract": false});
        expect_entry_refused(&entry, &["artifact"]);
    }
}

#[test]
fn dest_outside_of_the_destination() {
    for dest in [
        "..",
        "../x",
        "a/../../x",
        "/tmp",
        "/",
        "a/b/../../..",
        "a\0b",
    ] {
        let entry = json!({"task": TASK_A, "artifact": "public/a", "extract": true, "dest": dest});
        expect_entry_refused(&entry, &["dest"]);
    }
}

#[test]
fn checksums_that_are_none() {
    let almost = "a".repeat(63);
    let long = "a".repeat(65);
    let letters = "g".repeat(64);
    let signed = format!("+{}", "a".repeat(63));
    for digest in ["", "beef", &almost, &long, &letters, &signed] {
        let entry =
            json!({"task": TASK_A, "artifact": "public/a", "extract": true, "sha256": digest});
        expect_entry_refused(&entry, &["sha256"]);

        let (sandbox, server) = (Sandbox::new(), Server::start());
        let run = sandbox
            .binary()
            .args(["static-url", "--sha256", digest, "--size", "1"])
            .args([&server.url("/a"), "out/a"]);
        expect_refused(&sandbox, &server, run, &["sha256"]);
    }
}

#[test]
fn a_missing_or_senseless_root_url() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": true}]);
    let run = sandbox.task_artifacts(&server, &fetches);
    let run = run.env_remove("TASKCLUSTER_ROOT_URL");
    expect_refused(&sandbox, &server, run, &["TASKCLUSTER_ROOT_URL"]);
    for url in [
        "",
        "example.com",
        "/relative",
        "ftp://example.com",
        "http://",
    ] {
        let run = sandbox.task_artifacts(&server, &fetches);
        let run = run.env("TASKCLUSTER_ROOT_URL", url);
        expect_refused(&sandbox, &server, run, &["TASKCLUSTER_ROOT_URL"]);
    }
}

#[test]
fn a_missing_or_senseless_proxy_url() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let fetches = json!([{"task": TASK_A, "artifact": "private/a", "extract": true}]);
    let run = sandbox.task_artifacts(&server, &fetches);
    let run = run.env_remove("TASKCLUSTER_PROXY_URL");
    expect_refused(&sandbox, &server, run, &["TASKCLUSTER_PROXY_URL"]);
    for url in ["", "taskcluster", "file:///etc"] {
        let run = sandbox.task_artifacts(&server, &fetches);
        let run = run.env("TASKCLUSTER_PROXY_URL", url);
        expect_refused(&sandbox, &server, run, &["TASKCLUSTER_PROXY_URL"]);
    }
}

#[test]
fn no_destination() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": true}]);
    let run = sandbox.task_artifacts(&server, &fetches);
    let run = run.env_remove("MOZ_FETCHES_DIR");
    let outcome = expect_refused(&sandbox, &server, run, &["destination"]);
    outcome.expect_stderr(&["--dest", "MOZ_FETCHES_DIR"]);
    let run = sandbox.task_artifacts(&server, &fetches);
    let run = run.env("MOZ_FETCHES_DIR", "");
    expect_refused(&sandbox, &server, run, &["destination"]);
}

#[test]
fn a_fetches_file_that_cannot_be_read() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let run = sandbox.task_artifacts(&server, &json!([]));
    let run = run.args(["--fetches", "not-there.json"]);
    let before = sandbox.tree();
    run.run()
        .expect_one_of(&[2, 6])
        .expect_stderr(&["not-there.json"]);
    before.assert_same(&sandbox.tree(), "the sandbox");
}

#[test]
fn a_store_that_is_not_there() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": true}]);
    let run = sandbox.task_artifacts(&server, &fetches);
    run.args(["--store", "no/such/store"])
        .run()
        .expect_one_of(&[2, 3, 6])
        .expect_stderr(&["no/such/store"]);
    assert!(server.requests().is_empty());
    assert!(sandbox.tree().is_empty());
}

#[test]
fn headers_that_are_none() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for header in [
        "Authorization",
        "",
        ": value",
        "Na me: value",
        "Name: a\nb",
        "N\u{e4}me: x",
    ] {
        let run = sandbox
            .static_url("x", &server.url("/a"), "out/a")
            .args(["-H", header]);
        let outcome = expect_refused(&sandbox, &server, run, &["header"]);
        outcome.expect_not_in_stderr(&["caused by"]);
    }
}

#[test]
fn a_header_with_a_secret_is_not_shown_when_it_is_refused() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let run = sandbox
        .static_url("x", &server.url("/a"), "out/a")
        .args(["-H", "Authorization: hunter2\nX: y"]);
    let outcome = expect_refused(&sandbox, &server, run, &["header"]);
    outcome.expect_not_in_stderr(&["hunter2"]);
}

#[test]
fn urls_that_are_none() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for url in [
        "",
        "example.com/a",
        "gopher://127.0.0.1/a",
        "http://",
        "http://[::1/a",
    ] {
        let run = sandbox.static_url("x", url, "out/a");
        expect_refused(&sandbox, &server, run, &[]);
    }
}

#[test]
fn options_of_signatures_need_each_other() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (signature, url) = (server.url("/a.sig"), server.url("/a"));
    let pin = "0".repeat(40);
    for options in [
        &["--gpg-sig-url", &*signature][..],
        &["--gpg-key-env", "KEY"],
        &["--gpg-fingerprint", &pin],
        &["--gpg-sig-url", "a.sig", "--gpg-key-env", "KEY"],
    ] {
        let run = sandbox.static_url("x", &url, "out/a").args(options);
        expect_refused(&sandbox, &server, run, &[]);
    }
}

#[test]
fn arguments_that_make_no_sense() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (digest, url) = (sha256_hex(b"x"), server.url("/a"));
    let cases: [(&[&str], &str); 10] = [
        (&[], "static-url"),
        (&["no-such-command"], "no-such-command"),
        (&["static-url"], "--sha256"),
        (&["static-url", "--sha256", &digest, &url, "a"], "--size"),
        (&["static-url", "--size", "1", &url, "a"], "--sha256"),
        (
            &["static-url", "--sha256", &digest, "--size", "1", &url],
            "DEST",
        ),
        (
            &["static-url", "--sha256", &digest, "--size", "-1", &url, "a"],
            "-1",
        ),
        (
            &["static-url", "--sha256", &digest, "--size", "1k", &url, "a"],
            "1k",
        ),
        (
            &[
                "static-url",
                "--strip-components",
                "x",
                "--sha256",
                &digest,
                "--size",
                "1",
                &url,
                "a",
            ],
            "strip-components",
        ),
        (&["task-artifacts", "--no-such-option"], "--no-such-option"),
    ];
    for (arguments, named) in cases {
        sandbox
            .binary()
            .args(arguments)
            .run()
            .expect_code(2)
            .expect_stderr(&[named]);
        assert!(sandbox.tree().is_empty(), "{arguments:?}");
    }
    assert!(server.requests().is_empty());
}

#[test]
fn an_empty_dest_for_a_static_url() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let (digest, url) = (sha256_hex(b"x"), server.url("/a"));
    for dest in ["", "/", "..", "out/.."] {
        let run =
            sandbox
                .binary()
                .args(["static-url", "--sha256", &digest, "--size", "1", &url, dest]);
        let before = sandbox.tree();
        run.run().expect_one_of(&[2, 6]);
        before.assert_same(&sandbox.tree(), "the sandbox");
    }
    assert!(server.requests().is_empty(), "{:?}", server.paths());
}

#[test]
fn tunables_that_are_no_numbers() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for name in [
        "FETCH_CONTENT_RETRY_BASE_MS",
        "FETCH_CONTENT_RETRY_MAX_MS",
        "FETCH_CONTENT_RETRY_AFTER_MAX_MS",
        "FETCH_CONTENT_STALL_TIMEOUT_MS",
        "FETCH_CONTENT_CONNECT_TIMEOUT_MS",
        "FETCH_CONTENT_ATTEMPTS",
        "FETCH_CONTENT_TOTAL_TIMEOUT_MS",
        "FETCH_CONTENT_CONCURRENCY",
    ] {
        let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": true}]);
        let run = sandbox.task_artifacts(&server, &fetches).env(name, "soon");
        expect_refused(&sandbox, &server, run, &[name, "soon"]);
    }
}

#[test]
fn help_and_version_are_for_people() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["--help"][..],
        &["static-url", "--help"],
        &["task-artifacts", "--help"],
        &["--version"],
    ] {
        let outcome = sandbox.binary().args(arguments).run();
        assert!(outcome.status.success(), "{outcome:?}");
        assert!(outcome.stdout.contains("fetch-content"), "{outcome:?}");
        assert!(outcome.stderr.is_empty(), "{outcome:?}");
    }
}
