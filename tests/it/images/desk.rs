//! `kind run` and `inputs` with `--cache-from`: files and trees out of layers, where upstreams have nothing any more.

use super::import::{ZSTD, blob_of, tampered};
use super::*;
use crate::desk::{Upstream, run, serve_well, write_graph};
use crate::support::archives::{Member, zst};
use crate::support::server::Server;
use crate::support::tree::Tree;

/// An archive and a file that is none.
fn upstreams() -> Vec<Upstream> {
    let archive = tar_of(&[
        dir("one/"),
        file("one/run", "#!/bin/sh\n").mode(0o755),
        file("one/secret", "s").mode(0o600),
        symlink("one/link", "run"),
        file("one/data", noise(40_000, 1)),
    ]);
    vec![
        ("one".to_owned(), "one.tar.gz".to_owned(), gz(&archive)),
        ("two".to_owned(), "two.bin".to_owned(), noise(30_000, 2)),
    ]
}

/// Makes an image of the upstreams, each in the place where the toolchain wants it. Returns its digest.
fn image_of(sandbox: &Sandbox, upstreams: &[Upstream], extract: bool) -> String {
    let entries = upstreams.iter().zip(["", "second"]);
    let entries = entries.map(|((_, name, content), dest)| {
        let artifact = format!("public/{name}");
        sandbox.write(&format!("old/task/{TASK_A}/artifacts/{artifact}"), content);
        json!({"task": TASK_A, "artifact": artifact, "extract": extract, "dest": dest})
    });
    let entries: Vec<Value> = entries.collect();
    sandbox.write("fetches.json", json!(entries).to_string());
    let words = [
        "image",
        "export",
        "--fetches",
        "fetches.json",
        "--store",
        "old",
        "--output",
        "image",
    ];
    printed(sandbox.binary().args(words)).trim().to_owned()
}

/// A sandbox with a graph whose upstreams a server has, or had.
fn graph(upstreams: &[Upstream]) -> (Sandbox, Server) {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    write_graph(&sandbox, &server.root(), upstreams);
    (sandbox, server)
}

const KIND_RUN: [&str; 6] = ["kind", "run", "one", "two", "--attempts", "1"];

/// What a store has, without the times.
fn listed(sandbox: &Sandbox, store: &str) -> Vec<String> {
    let listed = printed(run(sandbox, &["store", "ls", "--store", store]));
    let lines = listed.lines().map(|line| {
        let columns: Vec<&str> = line.split('\t').take(4).collect();
        columns.join(" ")
    });
    lines
        .filter(|line| !line.contains("chain-of-trust"))
        .collect()
}

#[test]
fn fetch_tasks_are_performed_with_files_out_of_an_image() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    // One is packed anew, for which its file is enough.
    let kind = String::from_utf8(sandbox.read("taskcluster/kinds/fetch/kind.yml")).expect("text");
    let repacked =
        "      artifact-name: uno.tar.zst\n      strip-components: 1\n      add-prefix: uno/\n";
    let kind = kind.replacen("  two:\n", &format!("{repacked}  two:\n"), 1);
    sandbox.write("taskcluster/kinds/fetch/kind.yml", &kind);
    serve_well(&server, &upstreams);
    success(run(&sandbox, &KIND_RUN).args(["--store", "expected"]));
    let asked = server.requests().len();

    image_of(&sandbox, &upstreams[..1], false);
    let words = ["--store", "store", "--cache-from", "image"];
    let outcome = success(run(&sandbox, &KIND_RUN).args(words));
    outcome.expect_stderr(&["[fetch-one] start `image`", "fetched 2 of 2"]);
    assert_eq!(server.paths()[asked..], ["/two.bin"]);
    assert_eq!(listed(&sandbox, "store"), listed(&sandbox, "expected"));
    assert_eq!(listed(&sandbox, "store").len(), 2);
}

#[test]
fn a_file_that_was_to_be_unpacked_is_proven_as_well() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    let digest = image_of(&sandbox, &upstreams, true);
    let mut list: Value = serde_json::from_slice(&sandbox.read("fetches.json")).expect("JSON");
    // The archive cannot be made again of what it was unpacked to, whoever is trusted.
    let words = [
        "--store",
        "store",
        "--cache-from",
        "image",
        "--trust-cache",
        &digest,
    ];
    let directory = ["--cache-directory", "/fetches/second"];
    run(&sandbox, &KIND_RUN)
        .args(words)
        .args(directory)
        .run()
        .expect_code(3)
        .expect_stderr(&[
            "warning: --trust-cache has no effect",
            "fetch-two: task",
            "cannot fetch fetch-one",
        ]);
    assert_eq!(server.paths(), ["/one.tar.gz"]);
    // The same for those who list entries, which extract what they can unless told otherwise.
    list[1]["sha256"] = sha256_hex(&upstreams[1].2).into();
    sandbox.write("fetches.json", json!([list[1]]).to_string());
    let words = [
        "task-artifacts",
        "--fetches",
        "fetches.json",
        "--dest",
        "dest",
    ];
    let fetch = sandbox.binary().args(words).args(["--cache-from", "image"]);
    success(fetch.env("TASKCLUSTER_ROOT_URL", server.root()));
    assert_eq!(sandbox.read("dest/second/two.bin"), upstreams[1].2);
    assert_eq!(server.requests().len(), 1);
}

/// Layers in the place of that with the first file: what is in them, and how they are warned of.
fn hostile() -> Vec<(Vec<Member>, &'static str)> {
    vec![
        (vec![file("../outside/new", "x")], "`..` component"),
        (
            vec![symlink("fetches", "../outside"), file("fetches/new", "x")],
            "leads out of the tree",
        ),
        (
            vec![symlink("fetches", "../outside")],
            "is not taken from `image`",
        ),
        (vec![file("../outside/.wh.kept", "")], "`..` component"),
        (
            vec![file("fetches/one.tar.gz", "other")],
            "has the digest sha256:",
        ),
        (
            vec![symlink("fetches/one.tar.gz", "../../outside/kept")],
            "is no file",
        ),
        (vec![dir("fetches/one.tar.gz/")], "is no file"),
    ]
}

/// Puts a layer in the place of the first one, and makes all digests right again.
fn replace_layer(sandbox: &Sandbox, members: &[Member]) -> String {
    let tar = tar_of(members);
    let layer = blob_of(sandbox, ZSTD, &zst(&tar));
    let id = format!("sha256:{}", sha256_hex(&tar));
    tampered(sandbox, |manifest, config, _| {
        manifest["layers"][0] = layer.clone();
        config["rootfs"]["diff_ids"][0] = id.clone().into();
    })
}

#[test]
fn fetch_tasks_do_without_a_bad_image_and_write_nothing_outside() {
    let upstreams = upstreams();
    let (sandbox, server) = graph(&upstreams);
    serve_well(&server, &upstreams);
    image_of(&sandbox, &upstreams, false);
    sandbox.write("outside/kept", "kept");
    for (number, (members, warning)) in hostile().into_iter().enumerate() {
        replace_layer(&sandbox, &members);
        let store = format!("store{number}");
        let words = ["--store", &store, "--cache-from", "image"];
        let outcome = success(run(&sandbox, &KIND_RUN).args(words));
        outcome.expect_stderr(&["warning: ", warning, "fetched 2 of 2"]);
        assert_eq!(Tree::of(sandbox.path("outside")).paths(), ["kept"]);
        success(run(&sandbox, &["store", "verify", "--store", &store]));
    }
    let asked = server
        .paths()
        .iter()
        .filter(|path| *path == "/one.tar.gz")
        .count();
    assert_eq!(asked, hostile().len());
}
