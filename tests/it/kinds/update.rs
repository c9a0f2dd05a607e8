//! `kind update`: new pins for what a URL has now, and all else in the file kept to the byte.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use crate::support::archives::sha256_hex;
use crate::support::gpg::{Gpg, have_gpg};
use crate::support::sandbox::{Outcome, Sandbox};
use crate::support::server::{Reply, Server};

const OLD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const CONTENT: &str = "what the URL has now";
const KIND: &str = "taskcluster/kinds/fetch/kind.yml";

fn graph(kind: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write(
        "taskcluster/config.yml",
        "trust-domain: acme\ntaskgraph: {}\n",
    );
    sandbox.write(KIND, kind);
    sandbox
}

fn server() -> Server {
    let server = Server::start();
    server.serve("/x.bin", Reply::ok(CONTENT));
    server
}

fn update(sandbox: &Sandbox, name: &str, code: i32) -> Outcome {
    sandbox
        .binary()
        .args(["kind", "update", name])
        .run()
        .expect_code(code)
}

/// A kind whose tasks are those of the text, with the URL, the digest and the size filled in.
fn text(tasks: &str, server: &Server, sha256: &str, size: &str) -> String {
    let text = format!(
        "# Fetches\n---\ntransforms:\n    - taskgraph.transforms.fetch  # the one\n\n{tasks}"
    );
    text.replace("URL", &server.url("/x.bin"))
        .replace("SHA", sha256)
        .replace("SIZE", size)
}

/// Layouts that people use. Nothing but the two values may change in any of them.
#[test]
fn all_but_the_pins_is_kept() {
    let (new, size) = (sha256_hex(CONTENT.as_bytes()), CONTENT.len().to_string());
    let head = "tasks:\n    other:\n        description: Other\n        fetch: {type: git, repo: 'https://h/r', revision: 0123456789abcdef0123456789abcdef01234567}\n";
    for body in [
        // Block style with comments in odd places.
        "    x:   # this one\n        description: >-\n            Long\n            text\n        fetch:\n            # digest of the release\n            sha256:    SHA   # pinned\n            type: static-url\n            size: SIZE#not a comment\n            url: URL\n",
        "    x:\n        description: \"X: é\"\n        fetch:\n            type: static-url\n            url: URL  \n            sha256: 'SHA'  # single\n            size: SIZE  # bytes\n\n\n    z: {description: Z, fetch: {type: git, repo: r, revision: 0123456789abcdef0123456789abcdef01234567}}",
        "    x:\n        description: X\n        fetch:\n            size: SIZE\n            sha256: \"SHA\"\n            type: static-url\n            url: URL\n# the end\n",
        "    x: {description: X, fetch: {type: static-url, url: 'URL', sha256: SHA, size: SIZE}}  # flow\n",
        "    x: {\"description\": \"X\", \"fetch\": {\"size\":SIZE,\"sha256\":\"SHA\",\"type\":\"static-url\",\"url\":\"URL\"}}\n",
        "    x:\n        description: X\n        fetch:\n            type: static-url\n            url: URL\n            ? sha256\n            : SHA\n            ? size\n            : SIZE\n",
    ] {
        let body = body.replace("SIZE#not a comment", "SIZE");
        for newline in ["\n", "\r\n"] {
            let (sandbox, server) = (graph(""), server());
            let tasks = format!("{head}{body}").replace('\n', newline);
            sandbox.write(KIND, text(&tasks, &server, OLD, "0x10"));
            let outcome = update(&sandbox, "x", 0);
            let told = format!("updated fetch-x in {KIND}: sha256 {new}, size {size}");
            outcome.expect_stderr(&[&told, "is not https: anybody on the way can decide"]);
            let after = String::from_utf8(sandbox.read(KIND)).expect("text");
            assert_eq!(after, text(&tasks, &server, &new, &size), "{body}");
            // And once more changes nothing.
            let outcome = update(&sandbox, "x", 0);
            outcome.expect_stderr(&["is up to date"]);
            assert_eq!(sandbox.read(KIND), after.as_bytes());
            sandbox
                .binary()
                .args(["kind", "check", "--strict"])
                .run()
                .expect_code(0);
        }
    }
}

#[test]
fn a_task_of_another_file_is_updated_there() {
    let (sandbox, server) = (graph(""), server());
    let kind = "transforms: [taskgraph.transforms.fetch]\ntask-defaults: {fetch: {type: static-url}}\ntasks-from: [more.yml]\n";
    sandbox.write(KIND, kind);
    let more = "taskcluster/kinds/fetch/more.yml";
    let tasks = "task-defaults:\n  description: X\nx:\n  fetch-alias: y\n  fetch: {url: 'URL', size: SIZE, sha256: 'SHA'}\n";
    sandbox.write(
        more,
        text(tasks, &server, OLD, "1").replace(
            "transforms:\n    - taskgraph.transforms.fetch  # the one\n",
            "",
        ),
    );
    let path = sandbox.path(more);
    let target = sandbox.path("elsewhere.yml");
    fs::rename(&path, &target).expect("move the file");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("set permissions");
    symlink(&target, &path).expect("link to it");
    update(&sandbox, "y", 0);
    let new = sha256_hex(CONTENT.as_bytes());
    let after = String::from_utf8(sandbox.read(more)).expect("text");
    assert!(
        after.contains(&format!("size: {}, sha256: '{new}'}}", CONTENT.len())),
        "{after}"
    );
    assert_eq!(sandbox.read(KIND), kind.as_bytes());
    assert!(path.is_symlink());
    assert_eq!(
        fs::metadata(&target)
            .expect("the file")
            .permissions()
            .mode()
            & 0o777,
        0o640
    );
    let names: Vec<_> = fs::read_dir(sandbox.path("."))
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert_eq!(names.len(), 2, "something is left: {names:?}");
}

/// What cannot be changed alone is left to people, before anything is downloaded.
#[test]
fn what_others_share_is_not_touched() {
    for tasks in [
        // From defaults.
        "task-defaults: {fetch: {sha256: SHA}}\ntasks:\n    x: {description: X, fetch: {type: static-url, url: URL, size: SIZE}}\n",
        // With an anchor, by an alias, by a merge key.
        "tasks:\n    x: {description: X, fetch: {type: static-url, url: URL, size: SIZE, sha256: &sum SHA}}\n",
        "tasks:\n    y: {description: *d, fetch: &f {type: static-url, url: URL, size: SIZE, sha256: SHA}}\n    x: {description: X, fetch: *f}\n",
        "tasks:\n    y: {description: Y, fetch: &f {type: static-url, url: URL, size: SIZE, sha256: SHA}}\n    x: {description: X, fetch: {<<: *f, add-prefix: ''}}\n",
        // On lines of its own.
        "tasks:\n    x:\n        description: X\n        fetch:\n            type: static-url\n            url: URL\n            size: SIZE\n            sha256: >-\n                SHA\n",
    ] {
        let tasks = tasks.replace("*d", "Y");
        let (sandbox, server) = (graph(""), server());
        let before = text(&tasks, &server, OLD, "1");
        sandbox.write(KIND, &before);
        let outcome = update(&sandbox, "x", 2);
        let outcome = outcome.expect_stderr(&["fetch-x: `", "hint: write them by hand"]);
        assert_eq!(sandbox.read(KIND), before.as_bytes());
        assert_eq!(server.requests().len(), 0, "{outcome:?}");
    }
    let sandbox = graph(
        "transforms: [taskgraph.transforms.fetch]\ntasks:\n  x:\n    description: X\n    fetch: {type: git, repo: 'https://h/r', revision: 0123456789abcdef0123456789abcdef01234567}\n",
    );
    update(&sandbox, "x", 2).expect_stderr(&["fetch-x is a git fetch, which a commit pins"]);
}

const BLOCK: &str = "tasks:\n    x:\n        description: X\n        fetch:\n            type: static-url\n            url: URL\n            sha256: SHA\n            size: SIZE\n            headers: {X-Key: abc}\n";

#[test]
fn downloads_are_retried_and_headers_sent() {
    let (sandbox, server) = (graph(""), Server::start());
    server.serve_in_turn(
        "/x.bin",
        [
            Reply::status(503),
            Reply::ok(CONTENT).cut_after(5),
            Reply::ok(CONTENT),
        ],
    );
    sandbox.write(KIND, text(BLOCK, &server, OLD, "1"));
    update(&sandbox, "x", 0);
    assert_eq!(server.count("/x.bin"), 3);
    assert!(
        server
            .requests()
            .iter()
            .all(|seen| seen.header("x-key") == Some("abc"))
    );
    let after = String::from_utf8(sandbox.read(KIND)).expect("text");
    assert_eq!(
        after,
        text(
            BLOCK,
            &server,
            &sha256_hex(CONTENT.as_bytes()),
            &CONTENT.len().to_string()
        )
    );
}

#[test]
fn a_failed_download_changes_nothing() {
    let (sandbox, server) = (graph(""), Server::start());
    let before = text(BLOCK, &server, OLD, "1");
    sandbox.write(KIND, &before);
    update(&sandbox, "x", 3).expect_stderr(&["answered 404"]);
    assert_eq!(sandbox.read(KIND), before.as_bytes());
}

/// Placeholders are what a new task begins with.
#[test]
fn placeholders_are_filled_in() {
    let (sandbox, server) = (graph(""), server());
    sandbox.write(KIND, text(BLOCK, &server, "\"\"", "0"));
    update(&sandbox, "x", 0);
    let new = format!("\"{}\"", sha256_hex(CONTENT.as_bytes()));
    let after = String::from_utf8(sandbox.read(KIND)).expect("text");
    assert_eq!(
        after,
        text(BLOCK, &server, &new, &CONTENT.len().to_string())
    );
}

#[test]
fn a_signature_must_fit() {
    if !have_gpg("a_signature_must_fit") {
        return;
    }
    let (sandbox, server, gpg) = (graph(""), server(), Gpg::new());
    let key = gpg.key(None, "Release <release@x>", "ed25519", "never");
    sandbox.write("keys/release.key", gpg.export(&key));
    let signature =
        "            gpg-signature: {sig-url: '{url}.asc', key-path: keys/release.key}\n";
    let before = text(&format!("{BLOCK}{signature}"), &server, OLD, "1");
    sandbox.write(KIND, &before);
    let other = gpg.sign(None, &key, b"something else", &[]);
    server.serve("/x.bin.asc", Reply::ok(other));
    update(&sandbox, "x", 4).expect_stderr(&["signature "]);
    assert_eq!(sandbox.read(KIND), before.as_bytes());
    server.serve(
        "/x.bin.asc",
        Reply::ok(gpg.sign(None, &key, CONTENT.as_bytes(), &[])),
    );
    update(&sandbox, "x", 0).expect_stderr(&["signed by "]);
    assert_ne!(sandbox.read(KIND), before.as_bytes());
}
