//! `task-artifacts`: from `MOZ_FETCHES` to a tree, in the order of the list, whatever the network does.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::support::archives::{
    MTIME, bz2, dir, file, gz, hard_link, noise, sha256_hex, symlink, tar_of, xz, zip_of, zst,
};
use crate::support::sandbox::{
    Outcome, Sandbox, TASK_A, TASK_B, artifact, chain_of_trust, vouching_for,
};
use crate::support::server::{Reply, Server};
use crate::support::tree::{Kind, Tree};

/// A sandbox and a queue that has these artifacts of `TASK_A`, by encoded name.
fn queue(artifacts: &[(&str, &[u8])]) -> (Sandbox, Server) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for (name, content) in artifacts {
        server.serve(&artifact(TASK_A, name), Reply::ok(content));
    }
    (sandbox, server)
}

/// The JSON in the PERFHERDER line.
fn perfherder(outcome: &Outcome) -> Value {
    let lines = outcome.stderr.lines();
    let mut data = lines.filter_map(|line| line.strip_prefix("PERFHERDER_DATA: "));
    let line = data
        .next()
        .unwrap_or_else(|| panic!("no PERFHERDER_DATA: {outcome:?}"));
    assert_eq!(data.next(), None, "two PERFHERDER_DATA lines: {outcome:?}");
    serde_json::from_str(line).unwrap_or_else(|err| panic!("{err} in {line}"))
}

#[test]
fn an_archive_is_extracted_into_the_destination() {
    let tar = tar_of(&[
        dir("tool/").mode(0o750),
        file("tool/run", "#!/bin/sh\n").mode(0o755),
        file("tool/secret", "s").mode(0o600).mtime(MTIME + 5),
        symlink("tool/link", "run"),
        symlink("tool/dangling", "no/where"),
        hard_link("tool/again", "tool/run"),
        dir("tool/empty/").mode(0o700).mtime(MTIME + 7),
    ]);
    let archive = gz(&tar);
    let (sandbox, server) = queue(&[("public/tool.tar.gz", &archive)]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/tool.tar.gz", "extract": true}]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    let tree = sandbox.fetched();
    assert_eq!(
        tree.paths(),
        [
            "tool",
            "tool/again",
            "tool/dangling",
            "tool/empty",
            "tool/link",
            "tool/run",
            "tool/secret"
        ]
    );
    let seconds = i64::try_from(MTIME).expect("a time");
    assert_eq!(tree.at("tool").mode, Some(0o750));
    assert_eq!(tree.at("tool").mtime, Some((seconds, 0)));
    assert_eq!(tree.at("tool/run").mode, Some(0o755));
    assert_eq!(tree.at("tool/run").mtime, Some((seconds, 0)));
    assert_eq!(tree.at("tool/secret").mode, Some(0o600));
    assert_eq!(tree.at("tool/secret").mtime, Some((seconds + 5, 0)));
    assert_eq!(tree.at("tool/empty").mode, Some(0o700));
    assert_eq!(tree.at("tool/empty").mtime, Some((seconds + 7, 0)));
    assert_eq!(tree.at("tool/link").mtime, Some((seconds, 0)));
    let target = |target: &str| Kind::Symlink {
        target: target.to_owned(),
    };
    assert_eq!(tree.at("tool/link").kind, target("run"));
    assert_eq!(tree.at("tool/dangling").kind, target("no/where"));
    assert_eq!(tree.at("tool/run").same_as.as_deref(), Some("tool/again"));
}

#[test]
fn people_can_follow_what_happens() {
    let archive = gz(&tar_of(&[file("tool/run", "x")]));
    let (sandbox, server) = queue(&[("public/tool.tar.gz", &archive), ("public/b.bin", b"b")]);
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/tool.tar.gz", "extract": true},
        {"task": TASK_A, "artifact": "public/b.bin", "extract": false},
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0)
        .expect_stderr(&[
            "[tool.tar.gz] start http://127.0.0.1:[PORT]/api/queue/v1/task/",
            "[tool.tar.gz] done: ",
            &format!("sha256 {}", sha256_hex(&archive)),
            "[b.bin] start ",
            "[b.bin] done: ",
            "fetched 2 of 2: ",
        ])
        .expect_not_in_stderr(&["\u{1b}", "\r", "warning:", "retry"]);
    assert_eq!(outcome.lines("PERFHERDER_DATA: ").len(), 1, "{outcome:?}");
}

#[test]
fn names_are_encoded_exactly_once() {
    for (name, encoded, file_name) in [
        ("public/a b.txt", "public/a%20b.txt", "a b.txt"),
        ("public/a+b.txt", "public/a%2Bb.txt", "a+b.txt"),
        ("public/50%.txt", "public/50%25.txt", "50%.txt"),
        ("public/a%20b.txt", "public/a%2520b.txt", "a%20b.txt"),
        ("public/a#b.txt", "public/a%23b.txt", "a#b.txt"),
        (
            "public/a?b=c&d.txt",
            "public/a%3Fb%3Dc%26d.txt",
            "a?b=c&d.txt",
        ),
        (
            "public/na\u{ef}ve.txt",
            "public/na%C3%AFve.txt",
            "na\u{ef}ve.txt",
        ),
        (
            "public/d e/x_y.z~1-2",
            "public/d%20e/x_y.z~1-2",
            "x_y.z~1-2",
        ),
        (
            "public/a:b@c,d;e!$'()*",
            "public/a%3Ab%40c%2Cd%3Be%21%24%27%28%29%2A",
            "a:b@c,d;e!$'()*",
        ),
        ("public/back\\slash", "public/back%5Cslash", "back\\slash"),
    ] {
        let (sandbox, server) = queue(&[(encoded, b"content")]);
        let fetches = json!([{"task": TASK_A, "artifact": name, "extract": false}]);
        sandbox
            .task_artifacts(&server, &fetches)
            .run()
            .expect_code(0);
        assert_eq!(server.paths(), [artifact(TASK_A, encoded)], "{name}");
        let at = sandbox.fetches().join(file_name);
        assert!(at.is_file(), "{name}:\n{}", sandbox.fetched());
    }
}

#[test]
fn private_artifacts_come_through_the_proxy() {
    let (sandbox, public, proxy) = (Sandbox::new(), Server::start(), Server::start());
    public.serve(&artifact(TASK_A, "public/a"), Reply::ok("a"));
    proxy.serve(&artifact(TASK_A, "private/b%20b"), Reply::ok("b"));
    proxy.serve(&artifact(TASK_B, "publicity/c"), Reply::ok("c"));
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "extract": false},
        {"task": TASK_A, "artifact": "private/b b", "extract": false},
        {"task": TASK_B, "artifact": "publicity/c", "extract": false},
    ]);
    sandbox
        .task_artifacts(&public, &fetches)
        .env("TASKCLUSTER_PROXY_URL", proxy.root())
        .run()
        .expect_code(0);
    assert_eq!(public.paths(), [artifact(TASK_A, "public/a")]);
    assert_eq!(proxy.paths().len(), 2);
    assert_eq!(sandbox.fetched().paths(), ["a", "b b", "c"]);
}

#[test]
fn the_root_url_may_end_in_slashes() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    sandbox
        .task_artifacts(&server, &fetches)
        .env("TASKCLUSTER_ROOT_URL", format!("{}//", server.root()))
        .env_remove("TASKCLUSTER_PROXY_URL")
        .run()
        .expect_code(0);
    assert_eq!(server.paths(), [artifact(TASK_A, "public/a")]);
}

#[test]
fn the_queue_redirects_to_storage() {
    let (sandbox, server, storage) = (Sandbox::new(), Server::start(), Server::start());
    let path = artifact(TASK_A, "public/a.bin");
    let signed = storage.url("/7f/blob?X-Amz-Signature=s1gnature");
    server.serve(&path, Reply::redirect(303, signed));
    storage.serve("/7f/blob", Reply::ok("a"));
    let fetches = json!([{"task": TASK_A, "artifact": "public/a.bin", "extract": false}]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0)
        .expect_not_in_stderr(&["s1gnature"]);
    assert_eq!(
        sandbox.fetched().paths(),
        ["a.bin"],
        "named by the artifact"
    );
}

#[test]
fn dest_names_a_directory_below() {
    let archive = gz(&tar_of(&[file("run", "x")]));
    let (sandbox, server) = queue(&[("public/t.tar.gz", &archive), ("public/f", b"f")]);
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/t.tar.gz", "extract": true, "dest": "one/two"},
        {"task": TASK_A, "artifact": "public/f", "extract": false, "dest": "./one/three/"},
        {"task": TASK_A, "artifact": "public/f", "extract": false, "dest": ""},
        {"task": TASK_A, "artifact": "public/f", "extract": false, "dest": "x/../four"},
    ]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    let tree = sandbox.fetched();
    for path in ["one/two/run", "one/three/f", "f", "four/f"] {
        assert!(matches!(tree.at(path).kind, Kind::File { .. }), "{path}");
    }
}

#[test]
fn the_dest_option_wins_over_the_environment() {
    let (sandbox, server) = queue(&[("public/f", b"f")]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/f", "extract": false}]);
    for option in ["-d", "--dest"] {
        let other = sandbox.path(format!("other{option}"));
        sandbox
            .task_artifacts(&server, &fetches)
            .args([option.as_ref(), other.as_os_str()])
            .run()
            .expect_code(0);
        assert_eq!(Tree::of(other).paths(), ["f"]);
    }
    assert!(sandbox.fetched().is_empty());
}

#[test]
fn content_decides_whether_something_is_extracted() {
    let tar = tar_of(&[file("inside", "x")]);
    let zip = zip_of(&[file("inside", "x")]);
    let text = b"just text, whatever the name says";
    let (gzipped, bzipped) = (gz(&tar), bz2(&tar));
    let (of_xz, zstandard) = (xz(&tar), zst(&tar));
    let (xz_of_text, gzipped_text) = (xz(text), gz(text));
    let (plain_bz2, plain_zst) = (bz2(text), zst(text));
    let cases: [(&str, &[u8], &str); 19] = [
        ("a.tar", &tar, "inside"),
        ("a.tar.gz", &gzipped, "inside"),
        ("a.tar.bz2", &bzipped, "inside"),
        ("a.tar.xz", &of_xz, "inside"),
        ("a.tar.zst", &zstandard, "inside"),
        ("a.zip", &zip, "inside"),
        ("a-1.0-py3-none-any.whl", &zip, "inside"),
        ("a.bin", &gzipped, "inside"),
        ("a.zip", &of_xz, "inside"),
        ("a", &zstandard, "inside"),
        ("a.tar.gz", text, "a.tar.gz"),
        ("a.tar.zst", text, "a.tar.zst"),
        ("a.zip", text, "a.zip"),
        ("a.xz", &xz_of_text, "a.xz"),
        ("a.tar.gz", &gzipped_text, "a.tar.gz"),
        ("a.bz2", &plain_bz2, "a.bz2"),
        ("a.zst", &plain_zst, "a.zst"),
        ("empty.tar", b"", "empty.tar"),
        ("P", b"P", "P"),
    ];
    for (name, content, expected) in cases {
        let (sandbox, server) = queue(&[(&format!("public/{name}"), content)]);
        let fetches =
            json!([{"task": TASK_A, "artifact": format!("public/{name}"), "extract": true}]);
        let outcome = sandbox
            .task_artifacts(&server, &fetches)
            .run()
            .expect_code(0);
        assert_eq!(sandbox.fetched().paths(), [expected], "{name} {outcome:?}");
        if expected != "inside" {
            assert_eq!(sandbox.read(&format!("fetches/{name}")), content, "{name}");
        }
    }
}

#[test]
fn extract_false_keeps_the_archive() {
    let archive = gz(&tar_of(&[file("inside", "x")]));
    let (sandbox, server) = queue(&[("public/a.tar.gz", &archive)]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/a.tar.gz", "extract": false}]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(sandbox.fetched().paths(), ["a.tar.gz"]);
    assert_eq!(sandbox.read("fetches/a.tar.gz"), archive);
    assert_eq!(sandbox.fetched().at("a.tar.gz").mode, Some(0o644));
}

#[test]
fn extract_is_the_default_and_unknown_keys_are_mentioned() {
    let archive = gz(&tar_of(&[file("inside", "x")]));
    let (sandbox, server) = queue(&[("public/a.tar.gz", &archive)]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/a.tar.gz", "colour": "blue"}]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(sandbox.fetched().paths(), ["inside"]);
    let [warning] = outcome.lines("warning:")[..] else {
        panic!("not one warning: {outcome:?}");
    };
    assert!(warning.contains("colour"), "{warning}");
}

#[test]
fn the_chain_of_trust_is_fetched_once_per_task() {
    let (sandbox, server) = queue(&[("public/a", b"a"), ("public/b", b"b"), ("public/c", b"c")]);
    server.serve(&artifact(TASK_B, "public/a"), Reply::ok("other a"));
    let trust = vouching_for(&[("public/a", b"a"), ("public/b", b"b")]);
    server.serve(&chain_of_trust(TASK_A), Reply::ok(trust));
    let trust = vouching_for(&[("public/a", b"other a")]);
    server.serve(&chain_of_trust(TASK_B), Reply::gzipped(trust));
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": true},
        {"task": TASK_A, "artifact": "public/b", "extract": false, "verify-hash": true},
        {"task": TASK_A, "artifact": "public/c", "extract": false, "verify-hash": false},
        {"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": true, "dest": "again"},
        {"task": TASK_B, "artifact": "public/a", "extract": false, "verify-hash": true, "dest": "other"},
    ]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(server.count(&chain_of_trust(TASK_A)), 1);
    assert_eq!(server.count(&chain_of_trust(TASK_B)), 1);
    assert_eq!(sandbox.read("fetches/other/a"), b"other a");
}

#[test]
fn without_verify_hash_no_chain_of_trust_is_fetched() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": false}
    ]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(server.paths(), [artifact(TASK_A, "public/a")]);
}

#[test]
fn the_chain_of_trust_is_public_even_for_private_artifacts() {
    let (sandbox, public, proxy) = (Sandbox::new(), Server::start(), Server::start());
    proxy.serve(&artifact(TASK_A, "private/b"), Reply::ok("b"));
    let trust = vouching_for(&[("private/b", b"b")]);
    public.serve(&chain_of_trust(TASK_A), Reply::ok(trust));
    let fetches = json!([
        {"task": TASK_A, "artifact": "private/b", "extract": false, "verify-hash": true}
    ]);
    sandbox
        .task_artifacts(&public, &fetches)
        .env("TASKCLUSTER_PROXY_URL", proxy.root())
        .run()
        .expect_code(0);
    assert_eq!(public.paths(), [chain_of_trust(TASK_A)]);
    assert_eq!(proxy.paths(), [artifact(TASK_A, "private/b")]);
}

#[test]
fn what_the_chain_of_trust_does_not_vouch_for_is_refused() {
    let (sandbox, server) = queue(&[("public/a", b"a"), ("public/b", b"b")]);
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/b", "extract": false},
        {"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": true},
    ]);
    for trust in [
        vouching_for(&[("public/A", b"a")]),
        r#"{"artifacts":{"public/a":{"md5":"00"}}}"#.to_owned(),
        r#"{"artifacts":{"public/a":{"sha256":"beef"}}}"#.to_owned(),
        r#"{"artifacts":{}}"#.to_owned(),
        "{}".to_owned(),
        "<html>".to_owned(),
    ] {
        server.serve(&chain_of_trust(TASK_A), Reply::ok(&trust));
        let outcome = sandbox
            .task_artifacts(&server, &fetches)
            .run()
            .expect_code(4);
        assert_eq!(outcome.lines("error:").len(), 1, "{trust} {outcome:?}");
        assert!(outcome.error().contains("public/a"), "{trust} {outcome:?}");
        sandbox.assert_empty(&outcome);
    }
}

#[test]
fn a_chain_of_trust_that_is_not_there_fails_at_once() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": true}
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(3)
        .expect_stderr(&["chain-of-trust.json"]);
    assert_eq!(server.count(&chain_of_trust(TASK_A)), 1);
    sandbox.assert_empty(&outcome);
}

#[test]
fn a_flaky_chain_of_trust_is_retried() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let trust = vouching_for(&[("public/a", b"a")]);
    server.serve_in_turn(
        &chain_of_trust(TASK_A),
        [
            Reply::status(503),
            Reply::ok(&trust).cut_after(10),
            Reply::ok(&trust),
        ],
    );
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": true}
    ]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(server.count(&chain_of_trust(TASK_A)), 3);
}

#[test]
fn the_digest_is_that_of_the_decoded_body() {
    let log = "log line\n".repeat(5000);
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve(&artifact(TASK_A, "public/live.log"), Reply::gzipped(&log));
    let trust = vouching_for(&[("public/live.log", log.as_bytes())]);
    server.serve(&chain_of_trust(TASK_A), Reply::ok(trust));
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/live.log", "extract": true, "verify-hash": true,
         "size": log.len(), "sha256": sha256_hex(log.as_bytes())}
    ]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert!(sandbox.read("fetches/live.log") == log.as_bytes());
}

#[test]
fn sha256_and_size_of_an_entry_are_checked() {
    let archive = gz(&tar_of(&[file("inside", "x")]));
    let (sandbox, server) = queue(&[("public/a.tar.gz", &archive)]);
    let url = server.url(&artifact(TASK_A, "public/a.tar.gz"));
    let entry = |key: &str, value: Value| {
        let mut entry = json!({"task": TASK_A, "artifact": "public/a.tar.gz", "extract": true});
        entry[key] = value;
        json!([entry])
    };
    let (wrong, right) = (sha256_hex(b"wrong"), sha256_hex(&archive));
    let outcome = sandbox
        .task_artifacts(&server, &entry("sha256", json!(wrong)))
        .run()
        .expect_code(4)
        .expect_stderr(&[&format!(
            "sha256 mismatch on {url}: wanted {wrong}; got {right}"
        )]);
    sandbox.assert_empty(&outcome);
    let outcome = sandbox
        .task_artifacts(&server, &entry("size", json!(archive.len() + 1)))
        .run()
        .expect_code(4)
        .expect_stderr(&[&format!(
            "size mismatch on {url}: wanted {}; content-length is {}, x-cache-status is: None",
            archive.len() + 1,
            archive.len()
        )]);
    sandbox.assert_empty(&outcome);
    for (key, value) in [("sha256", json!(right)), ("size", json!(archive.len()))] {
        let run = sandbox.task_artifacts(&server, &entry(key, value)).run();
        run.expect_code(0);
    }
}

#[test]
fn an_entry_and_a_chain_of_trust_that_disagree_are_refused() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let trust = vouching_for(&[("public/a", b"b")]);
    server.serve(&chain_of_trust(TASK_A), Reply::ok(trust));
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "extract": false, "verify-hash": true,
         "sha256": sha256_hex(b"a")}
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(4);
    sandbox.assert_empty(&outcome);
}

/// Two archives that share paths; the reply of one waits for the other to be served.
fn overlap(first_is_late: bool) -> (Tree, Outcome) {
    let one = gz(&tar_of(&[
        dir("d/").mode(0o700),
        file("d/common", "from one"),
        file("d/one", "1"),
        file("thing", "a file"),
        symlink("link", "d/one"),
    ]));
    let two = zst(&tar_of(&[
        dir("d/").mode(0o755),
        file("d/common", "from two"),
        file("d/two", "2"),
        dir("thing/"),
        file("thing/in", "a directory"),
        file("link", "no link"),
    ]));
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let path_one = artifact(TASK_A, "public/one.tar.gz");
    let path_two = artifact(TASK_A, "public/two.tar.zst");
    if first_is_late {
        server.serve(&path_one, Reply::ok(one).once_served(&path_two));
        server.serve(&path_two, Reply::ok(two));
    } else {
        server.serve(&path_one, Reply::ok(one));
        server.serve(&path_two, Reply::ok(two).once_served(&path_one));
    }
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/one.tar.gz", "extract": true},
        {"task": TASK_A, "artifact": "public/two.tar.zst", "extract": true},
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("fetches/d/common"), b"from two");
    assert_eq!(sandbox.read("fetches/thing/in"), b"a directory");
    assert_eq!(sandbox.read("fetches/link"), b"no link");
    (sandbox.fetched(), outcome)
}

#[test]
fn the_later_entry_wins_whoever_is_faster() {
    let (tree, outcome) = overlap(false);
    let (other_tree, other_outcome) = overlap(true);
    // Whether a merged directory has the time of its archive or of the merge is not the point here.
    tree.without_mtimes()
        .assert_same(&other_tree.clone().without_mtimes(), "delays changed it");
    assert_eq!(
        other_tree.paths(),
        [
            "d", "d/common", "d/one", "d/two", "link", "thing", "thing/in"
        ]
    );
    assert_eq!(other_tree.at("d").mode, Some(0o755), "of the later one");
    for outcome in [outcome, other_outcome] {
        let warnings = outcome.lines("warning: ");
        assert_eq!(warnings.len(), 3, "{outcome:?}");
        for path in ["d/common", "thing", "link"] {
            let found = warnings.iter().any(|warning| {
                warning.contains(&format!(
                    "fetches/{path}` is provided by more than one fetch, "
                )) && warning.contains("one.tar.gz")
                    && warning.contains("two.tar.zst")
            });
            assert!(found, "no warning about {path}: {outcome:?}");
        }
    }
}

#[test]
fn the_same_name_from_two_tasks_is_an_overlap() {
    let (sandbox, server) = queue(&[("public/a", b"from A")]);
    let slow = Reply::ok("from B").once_served(&artifact(TASK_A, "public/a"));
    server.serve(&artifact(TASK_B, "public/a"), slow);
    let fetches = json!([
        {"task": TASK_B, "artifact": "public/a", "extract": false},
        {"task": TASK_A, "artifact": "public/a", "extract": false},
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(sandbox.fetched().paths(), ["a"]);
    assert_eq!(sandbox.read("fetches/a"), b"from A");
    assert_eq!(outcome.lines("warning: ").len(), 1, "{outcome:?}");
}

#[test]
fn the_same_name_from_two_tasks_in_two_places_is_none() {
    let (sandbox, server) = queue(&[("public/a", b"from A")]);
    server.serve(&artifact(TASK_B, "public/a"), Reply::ok("from B"));
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "extract": false, "dest": "a"},
        {"task": TASK_B, "artifact": "public/a", "extract": false, "dest": "b"},
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("fetches/a/a"), b"from A");
    assert_eq!(sandbox.read("fetches/b/a"), b"from B");
    assert!(outcome.lines("warning: ").is_empty(), "{outcome:?}");
}

#[test]
fn what_was_in_the_destination_stays() {
    let archive = gz(&tar_of(&[
        dir("d/"),
        file("d/new", "n"),
        file("d/old", "n"),
    ]));
    let (sandbox, server) = queue(&[("public/a.tar.gz", &archive)]);
    sandbox.write("fetches/d/kept", "k");
    sandbox.write("fetches/d/old", "o");
    sandbox.write("fetches/also", "k");
    let fetches = json!([{"task": TASK_A, "artifact": "public/a.tar.gz", "extract": true}]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(
        sandbox.fetched().paths(),
        ["also", "d", "d/kept", "d/new", "d/old"]
    );
    assert_eq!(sandbox.read("fetches/d/old"), b"n");
}

#[test]
fn all_transfers_are_under_way_together() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let paths: Vec<_> = (0..6)
        .map(|n| artifact(TASK_A, &format!("public/{n}")))
        .collect();
    for (n, path) in paths.iter().enumerate() {
        // Nobody is answered before the last one has been asked for.
        let next = &paths[(n + 1) % paths.len()];
        server.serve(path, Reply::ok("x").once_requested(next));
    }
    let fetches: Vec<_> = (0..6)
        .map(|n| json!({"task": TASK_A, "artifact": format!("public/{n}"), "extract": false}))
        .collect();
    sandbox
        .task_artifacts(&server, &json!(fetches))
        .run()
        .expect_code(0);
    assert_eq!(sandbox.fetched().paths().len(), 6);
}

#[test]
fn concurrency_can_be_limited() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let pace = std::time::Duration::from_millis(5);
    let fetches: Vec<_> = (0..6)
        .map(|n| {
            let name = format!("public/{n}");
            server.serve(&artifact(TASK_A, &name), Reply::ok("xxxx").slowly(1, pace));
            json!({"task": TASK_A, "artifact": name, "extract": false})
        })
        .collect();
    sandbox
        .task_artifacts(&server, &json!(fetches))
        .env("FETCH_CONTENT_CONCURRENCY", "2")
        .run()
        .expect_code(0);
    // One more: the server notices the end of an answer after the client does.
    assert!(server.most_at_once() <= 3, "{}", server.most_at_once());
}

#[test]
fn perfherder_data_is_printed_and_written() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    let report = sandbox.path("artifacts/perf/perfherder.json");
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .env("MOZ_AUTOMATION", "1")
        .env("PERFHERDER_FETCH_CONTENT_JSON_PATH", &report)
        .run()
        .expect_code(0);
    let mut data = perfherder(&outcome);
    let written = fs::read(&report).expect("the report");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(written, data);
    let seconds = data["suites"][0]["value"].take();
    let seconds = seconds.as_f64().expect("a number of seconds");
    assert!((0.0..30.0).contains(&seconds), "{seconds}");
    assert_eq!(
        data,
        json!({
            "framework": {"name": "build_metrics"},
            "suites": [{
                "name": "fetch_content", "value": null, "lowerIsBetter": true,
                "shouldAlert": false, "subtests": [],
            }],
        })
    );
}

#[test]
fn outside_of_automation_no_perfherder_file_is_written() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    let report = sandbox.path("perfherder.json");
    let run = || {
        sandbox
            .task_artifacts(&server, &fetches)
            .env("PERFHERDER_FETCH_CONTENT_JSON_PATH", &report)
    };
    perfherder(&run().run().expect_code(0));
    run().env("MOZ_AUTOMATION", "0").run().expect_code(0);
    assert!(!report.exists());
}

/// Fills `store/` with these artifacts of `TASK_A`.
fn store(sandbox: &Sandbox, artifacts: &[(&str, &[u8])]) {
    for (name, content) in artifacts {
        sandbox.write(&format!("store/task/{TASK_A}/artifacts/{name}"), content);
    }
}

#[test]
fn a_store_takes_the_place_of_a_queue() {
    let sandbox = Sandbox::new();
    let archive = xz(&tar_of(&[file("inside", "x")]));
    let trust = vouching_for(&[("public/a.tar.xz", &archive)]);
    store(
        &sandbox,
        &[
            ("public/a.tar.xz", &archive),
            ("public/chain-of-trust.json", trust.as_bytes()),
            ("private/b b.bin", b"b"),
        ],
    );
    let before = Tree::of(sandbox.path("store"));
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a.tar.xz", "extract": true, "verify-hash": true},
        {"task": TASK_A, "artifact": "private/b b.bin", "extract": false, "sha256": sha256_hex(b"b")},
    ]);
    sandbox
        .binary()
        .args(["task-artifacts", "--store", "store", "-d", "fetches"])
        .env("MOZ_FETCHES", fetches.to_string())
        .run()
        .expect_code(0)
        .expect_stderr(&["[a.tar.xz] done: ", "fetched 2 of 2: "]);
    assert_eq!(sandbox.fetched().paths(), ["b b.bin", "inside"]);
    assert_eq!(
        sandbox.fetched().at("b b.bin").mode,
        Some(0o644),
        "a copy, not a link"
    );
    let meta = fs::metadata(sandbox.path("fetches/b b.bin")).expect("the copy");
    assert_eq!(meta.nlink(), 1);
    before.assert_same(&Tree::of(sandbox.path("store")), "the store");
}

#[test]
fn a_store_is_verified_like_a_queue() {
    let sandbox = Sandbox::new();
    let trust = vouching_for(&[("public/a", b"other")]);
    store(
        &sandbox,
        &[
            ("public/a", b"wrong"),
            ("public/chain-of-trust.json", trust.as_bytes()),
        ],
    );
    for (artifact, codes) in [("public/a", &[4][..]), ("public/missing", &[3, 4, 6])] {
        let fetches =
            json!([{"task": TASK_A, "artifact": artifact, "extract": false, "verify-hash": true}]);
        let outcome = sandbox
            .binary()
            .args(["task-artifacts", "--store", "store", "-d", "fetches"])
            .env("MOZ_FETCHES", fetches.to_string())
            .run()
            .expect_one_of(codes)
            .expect_stderr(&[artifact]);
        assert!(!sandbox.fetches().exists(), "{outcome:?}");
    }
}

#[test]
fn a_store_without_the_artifact_says_which() {
    let sandbox = Sandbox::new();
    store(&sandbox, &[("public/a", b"a")]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/b", "extract": false}]);
    let outcome = sandbox
        .binary()
        .args(["task-artifacts", "--store", "store", "-d", "fetches"])
        .env("MOZ_FETCHES", fetches.to_string())
        .run()
        .expect_one_of(&[3, 6])
        .expect_stderr(&["public/b"]);
    assert!(!sandbox.fetches().exists(), "{outcome:?}");
}

#[test]
fn fetches_come_from_a_file_or_stdin() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    sandbox.write("fetches.json", fetches.to_string());
    for source in ["fetches.json", "-"] {
        sandbox
            .task_artifacts(&server, &json!("not looked at"))
            .env_remove("MOZ_FETCHES")
            .args(["--fetches", source])
            .stdin(fetches.to_string())
            .run()
            .expect_code(0);
        assert_eq!(sandbox.fetched().paths(), ["a"], "{source}");
        fs::remove_dir_all(sandbox.fetches()).expect("clean up");
    }
}

#[test]
fn the_fetches_option_wins_over_the_environment() {
    let (sandbox, server) = queue(&[("public/a", b"a"), ("public/b", b"b")]);
    let of_the_environment = json!([{"task": TASK_A, "artifact": "public/b", "extract": false}]);
    let given = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    sandbox
        .task_artifacts(&server, &of_the_environment)
        .args(["--fetches", "-"])
        .stdin(given.to_string())
        .run()
        .expect_code(0);
    assert_eq!(sandbox.fetched().paths(), ["a"]);
}

#[test]
fn an_empty_list_is_a_success() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let outcome = sandbox
        .task_artifacts(&server, &json!([]))
        .env_remove("TASKCLUSTER_ROOT_URL")
        .env_remove("TASKCLUSTER_PROXY_URL")
        .run()
        .expect_code(0);
    perfherder(&outcome);
    assert!(sandbox.fetched().is_empty(), "{outcome:?}");
    assert!(server.requests().is_empty());
}

#[test]
fn relative_destinations_are_relative_to_the_working_directory() {
    let (sandbox, server) = queue(&[("public/a", b"a")]);
    let fetches = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    fs::create_dir(sandbox.path("work")).expect("a directory");
    sandbox
        .task_artifacts(&server, &fetches)
        .env("MOZ_FETCHES_DIR", "here/there")
        .current_dir(sandbox.path("work"))
        .run()
        .expect_code(0);
    assert_eq!(sandbox.read("work/here/there/a"), b"a");
}

#[test]
fn a_destination_behind_a_symlink_is_the_users_choice() {
    let archive = gz(&tar_of(&[file("d/a", "a")]));
    let (sandbox, server) = queue(&[("public/a.tar.gz", &archive)]);
    fs::create_dir(sandbox.path("real")).expect("a directory");
    std::os::unix::fs::symlink("real", sandbox.fetches()).expect("a symlink");
    let fetches = json!([{"task": TASK_A, "artifact": "public/a.tar.gz", "extract": true}]);
    sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(Tree::of(sandbox.path("real")).paths(), ["d", "d/a"]);
}

#[test]
fn concatenated_streams_are_read_to_their_end() {
    let tar = tar_of(&[
        file("first", vec![b'1'; 3000]),
        file("second", vec![b'2'; 3000]),
    ]);
    let (head, tail) = tar.split_at(2000);
    for (name, compress) in [
        ("a.tar.gz", gz as fn(&[u8]) -> Vec<u8>),
        ("a.tar.bz2", bz2),
        ("a.tar.xz", xz),
        ("a.tar.zst", zst),
    ] {
        let mut archive = compress(head);
        archive.extend(compress(tail));
        let (sandbox, server) = queue(&[(&format!("public/{name}"), &archive)]);
        let fetches =
            json!([{"task": TASK_A, "artifact": format!("public/{name}"), "extract": true}]);
        sandbox
            .task_artifacts(&server, &fetches)
            .run()
            .expect_code(0);
        assert_eq!(sandbox.fetched().paths(), ["first", "second"], "{name}");
        assert_eq!(sandbox.read("fetches/second"), vec![b'2'; 3000], "{name}");
    }
}

#[test]
fn connections_are_reused() {
    let (sandbox, server) = queue(&[("public/a", b"a"), ("public/b", b"b"), ("public/c", b"c")]);
    let fetches: Vec<_> = ["public/a", "public/b", "public/c"]
        .map(|name| json!({"task": TASK_A, "artifact": name, "extract": false}))
        .into();
    sandbox
        .task_artifacts(&server, &json!(fetches))
        .env("FETCH_CONTENT_CONCURRENCY", "1")
        .run()
        .expect_code(0);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    // Not one for all: a request may start before the connection of the last is back in the pool.
    assert!(
        requests.iter().any(|seen| seen.connection == 0) && requests[2].connection < 2,
        "{requests:?}"
    );
}

#[test]
fn an_artifact_listed_twice_is_downloaded_once() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let archive = gz(&tar_of(&[file("x", b"in the archive")]));
    let path = artifact(TASK_A, "public/a.tar.gz");
    server.serve(&path, Reply::ok(&archive));
    let entry = |dest: &str, extract: bool| json!({"task": TASK_A, "artifact": "public/a.tar.gz", "dest": dest, "extract": extract});
    let fetches = json!([
        entry("one", true),
        entry("two", true),
        entry("three", false),
        entry("", true)
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(0);
    assert_eq!(server.count(&path), 1, "{outcome:?}");
    for place in ["one/x", "two/x", "x"] {
        assert_eq!(
            sandbox.read(&format!("fetches/{place}")),
            b"in the archive",
            "{outcome:?}"
        );
    }
    assert!(sandbox.read("fetches/three/a.tar.gz") == archive);
}

#[test]
fn an_archive_for_several_places_is_the_same_in_each() {
    let archive = gz(&tar_of(&[
        dir("d").mode(0o755).mtime(MTIME + 1),
        file("d/program", noise(300_000, 3)).mode(0o755),
        hard_link("same", "d/program"),
        symlink("d/link", "/no/such/place"),
        file("locked/f", b"secret").mode(0o400),
        dir("locked").mode(0o555),
        file("empty", b""),
    ]));
    let path = artifact(TASK_A, "public/a.tar.gz");
    let fetch = |places: &[&str]| {
        let (sandbox, server) = (Sandbox::new(), Server::start());
        server.serve(&path, Reply::ok(&archive));
        let entry =
            |dest: &&str| json!({"task": TASK_A, "artifact": "public/a.tar.gz", "dest": dest});
        let fetches = json!(places.iter().map(entry).collect::<Vec<_>>());
        let outcome = sandbox
            .task_artifacts(&server, &fetches)
            .run()
            .expect_code(0);
        assert_eq!(server.count(&path), 1, "{outcome:?}");
        sandbox
    };
    let alone = fetch(&["alone"]);
    let expected = Tree::of(alone.path("fetches/alone"));
    for places in [&["one", "two"][..], &["one", "two", "two/three"]] {
        let sandbox = fetch(places);
        let mut inodes = HashSet::new();
        for place in places {
            let place = sandbox.path(format!("fetches/{place}"));
            assert!(inodes.insert(fs::metadata(place.join("same")).unwrap().ino()));
            if place.join("three").exists() {
                continue;
            }
            expected.assert_same(&Tree::of(place), "the copy");
        }
    }
}

#[test]
fn an_artifact_listed_twice_is_verified_for_each_entry() {
    // Only one of the two entries pins a digest, and a wrong one.
    let (sandbox, server) = (Sandbox::new(), Server::start());
    server.serve(&artifact(TASK_A, "public/a"), Reply::ok("content"));
    let fetches = json!([
        {"task": TASK_A, "artifact": "public/a", "dest": "one"},
        {"task": TASK_A, "artifact": "public/a", "dest": "two", "sha256": "0".repeat(64)},
    ]);
    let outcome = sandbox
        .task_artifacts(&server, &fetches)
        .run()
        .expect_code(4);
    sandbox.assert_empty(&outcome);
}

#[test]
fn what_is_known_to_be_large_begins_first() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let large = noise(1_000_000, 5);
    server.serve(&artifact(TASK_A, "public/large"), Reply::ok(&large));
    let mut fetches: Vec<Value> = Vec::new();
    for number in 0..5 {
        let name = format!("public/small{number}");
        server.serve(&artifact(TASK_A, &name), Reply::ok("x"));
        fetches.push(json!({"task": TASK_A, "artifact": name}));
    }
    fetches.push(json!({"task": TASK_A, "artifact": "public/large", "size": large.len()}));
    sandbox
        .task_artifacts(&server, &Value::Array(fetches))
        .args(["--concurrency", "1"])
        .run()
        .expect_code(0);
    assert_eq!(server.paths()[0], artifact(TASK_A, "public/large"));
}
