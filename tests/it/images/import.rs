//! `--cache-from`: fetches out of layers, and what is not believed.

use super::*;
use crate::support::archives::{Member, zst};
use crate::support::docker_registry::{DockerRegistry, Door};
use crate::support::moto::Moto;
use crate::support::server::{Reply, Server};
use crate::support::tree::Tree;

/// The list with the digests of everything, without which nothing can be taken from an image.
fn pinned(sandbox: &Sandbox) -> Value {
    let mut list = fetches();
    for entry in list.as_array_mut().expect("a list") {
        let (task, artifact) = (entry["task"].as_str(), entry["artifact"].as_str());
        let name = artifact.expect("a name").trim_start_matches("public/");
        let content = stored(sandbox, task.expect("a task"), name);
        entry["sha256"] = sha256_hex(&content).into();
    }
    list
}

/// A sandbox with an image of all fetches, and the digest of that; nobody has the fetches any more.
fn dead() -> (Sandbox, String) {
    let sandbox = stocked();
    let words = [
        "--output",
        "image",
        "--cache-to",
        "cache",
        "--compression",
        "zstd",
    ];
    let digest = printed(export(&sandbox, &words)).trim().to_owned();
    assert_eq!(digest, top(&sandbox, "image"));
    let tar = printed(export(&sandbox, &["--output", "image.tar"]));
    assert_eq!(tar.trim(), digest);
    success(task_artifacts(&sandbox, "expected"));
    sandbox.write("fetches.json", pinned(&sandbox).to_string());
    fs::remove_dir_all(sandbox.path("store/task")).expect("remove the store");
    sandbox.write("store/task/none", "");
    (sandbox, digest)
}

/// Fetches from a queue that has nothing.
fn fetch<'a>(sandbox: &'a Sandbox, server: &Server, words: &[&str]) -> Invocation<'a> {
    let all = [
        "task-artifacts",
        "--fetches",
        "fetches.json",
        "--dest",
        "dest",
    ];
    let binary = sandbox.binary().args(all).args(words);
    binary
        .env("TASKCLUSTER_ROOT_URL", server.root())
        .env("FETCH_CONTENT_ATTEMPTS", "1")
}

pub(super) fn tree(sandbox: &Sandbox, directory: &str) -> Tree {
    let plain = ["plain.txt".to_owned()];
    Tree::of(sandbox.path(directory))
        .without_directory_mtimes()
        .without_mtimes_of(&plain)
}

#[test]
fn everything_comes_from_the_layers_of_a_trusted_image() {
    let ((sandbox, digest), server) = (dead(), Server::start());
    let cache = top(&sandbox, "cache");
    for (image, digest) in [
        ("image", &digest),
        ("image:latest", &digest),
        ("image.tar", &digest),
        ("cache", &cache),
    ] {
        let words = ["--cache-from", image, "--trust-cache", digest];
        let outcome = success(fetch(&sandbox, &server, &words));
        outcome.expect_stderr(&[
            "fetched 4 of 4",
            &format!("start `{}`", image.trim_end_matches(":latest")),
        ]);
        tree(&sandbox, "expected").assert_same(&tree(&sandbox, "dest"), image);
        fs::remove_dir_all(sandbox.path("dest")).expect("remove what was fetched");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn everything_comes_from_a_registry() {
    let test = "everything_comes_from_a_registry";
    let Some(registry) = DockerRegistry::start(test, &Door::Open) else {
        return;
    };
    let ((sandbox, digest), server) = (dead(), Server::start());
    let image = registry.image("ci/inputs:1");
    let push = ["image", "push", "image", &image];
    printed(
        sandbox
            .binary()
            .args(push)
            .env("HOME", sandbox.path("home")),
    );
    let from = format!("docker://{image}");
    let words = ["--cache-from", &from, "--trust-cache", &digest];
    let run = |words: &[&str]| fetch(&sandbox, &server, words).env("HOME", sandbox.path("home"));
    success(run(&words)).expect_stderr(&["fetched 4 of 4"]);
    tree(&sandbox, "expected").assert_same(&tree(&sandbox, "dest"), "a registry");
    assert_eq!(server.requests().len(), 0);
    // A name of nothing is a miss.
    let nothing = format!("docker://{}", registry.image("ci/nothing"));
    let outcome = run(&["--cache-from", &nothing]).run().expect_code(3);
    outcome.expect_stderr(&["warning: no cache is used from ", "404"]);
}

#[test]
fn an_image_has_what_a_store_has_lost() {
    let Some(moto) = Moto::start("an_image_has_what_a_store_has_lost") else {
        return;
    };
    moto.make_bucket("bucket");
    let (sandbox, digest) = dead();
    let fetch = |words: &[&str]| {
        let fetch = [
            "task-artifacts",
            "--fetches",
            "fetches.json",
            "--dest",
            "dest",
        ];
        let fetch = sandbox
            .binary()
            .args(fetch)
            .args(["--store", "s3://bucket/store"]);
        let environment = moto.environment().into_iter();
        environment.fold(fetch.args(words), |run, (name, value)| run.env(name, value))
    };
    let outcome = fetch(&[]).run().expect_code(3);
    outcome.expect_stderr(&["cannot find artifact ", "in s3://bucket/store"]);
    let words = ["--cache-from", "image", "--trust-cache", &digest];
    success(fetch(&words)).expect_stderr(&["fetched 4 of 4"]);
    tree(&sandbox, "expected").assert_same(&tree(&sandbox, "dest"), "an image");
}

#[test]
fn what_was_unpacked_is_not_believed_without_being_told_so() {
    let ((sandbox, digest), server) = (dead(), Server::start());
    let other = format!("sha256:{}", sha256_hex(b"other"));
    for words in [
        &["--cache-from", "image"][..],
        &["--cache-from", "image", "--trust-cache", &other],
    ] {
        fetch(&sandbox, &server, words)
            .run()
            .expect_code(3)
            .expect_stderr(&["answered 404"]);
        assert!(!sandbox.path("dest").exists());
    }
    // A file is proven by its digest.
    let mut list = pinned_after(&sandbox);
    list.as_array_mut()
        .expect("a list")
        .retain(|entry| entry["extract"] == false);
    sandbox.write("fetches.json", list.to_string());
    success(fetch(&sandbox, &server, &["--cache-from", "image"]))
        .expect_stderr(&["fetched 1 of 1"]);
    assert_eq!(sandbox.read("dest/plain.txt"), b"plain");
    // It is as it would have been if it had been fetched.
    assert_eq!(
        tree(&sandbox, "dest").at("plain.txt").mode,
        tree(&sandbox, "expected").at("plain.txt").mode
    );
    drop(digest);
}

fn pinned_after(sandbox: &Sandbox) -> Value {
    serde_json::from_slice(&sandbox.read("fetches.json")).expect("JSON")
}

#[test]
fn what_is_in_no_image_is_fetched_and_all_are_published_in_order() {
    let ((sandbox, digest), server) = (dead(), Server::start());
    let mut list = pinned_after(&sandbox);
    // Another version of the plain file, and something that was never in an image; neither is pinned.
    list[1]["sha256"] = sha256_hex(b"changed").into();
    let entry = json!({"task": TASK_A, "artifact": "public/plain.txt", "extract": false, "dest": "unpinned"});
    list.as_array_mut().expect("a list").push(entry);
    sandbox.write("fetches.json", list.to_string());
    let url = format!("/api/queue/v1/task/{TASK_A}/artifacts/public/plain.txt");
    server.serve(&url, Reply::ok(b"changed"));
    let words = ["--cache-from", "image", "--trust-cache", &digest];
    success(fetch(&sandbox, &server, &words)).expect_stderr(&["fetched 5 of 5"]);
    assert_eq!(sandbox.read("dest/plain.txt"), b"changed");
    assert_eq!(sandbox.read("dest/unpinned/plain.txt"), b"changed");
    assert_eq!(sandbox.read("dest/tool/run"), b"#!/bin/sh\n");
}

/// Changes a manifest, a configuration and records.
type Change = dyn Fn(&mut Value, &mut Value, &mut Value);

/// Changes the image, whose digests are made right again, and returns its new digest.
fn tampered(sandbox: &Sandbox, change: impl Fn(&mut Value, &mut Value, &mut Value)) -> String {
    let layout = sandbox.path("image");
    let mut image = Image::read(&layout, "latest");
    change(&mut image.manifest, &mut image.config, &mut image.records);
    let put = |media_type: &Value, content: &Value| {
        let bytes = content.to_string();
        let hex = sha256_hex(bytes.as_bytes());
        sandbox.write(&format!("image/blobs/sha256/{hex}"), &bytes);
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len()})
    };
    image.config["moby.buildkit.cache.v0"] = base64(image.records.to_string().as_bytes()).into();
    let media_type = image.manifest["config"]["mediaType"].clone();
    image.manifest["config"] = put(&media_type, &image.config);
    let mut entry = put(&image.manifest["mediaType"], &image.manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    sandbox.write("image/index.json", index.to_string());
    entry["digest"].as_str().expect("a digest").to_owned()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks(3).map(|group| {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        let digit = |n: usize| {
            let digit = DIGITS[(bits >> (18 - 6 * n) & 63) as usize] as char;
            if n > group.len() { '=' } else { digit }
        };
        (0..4).map(digit).collect::<String>()
    });
    groups.collect()
}

/// Puts a blob into the image.
fn blob_of(sandbox: &Sandbox, media_type: &str, content: &[u8]) -> Value {
    let hex = sha256_hex(content);
    sandbox.write(&format!("image/blobs/sha256/{hex}"), content);
    json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": content.len()})
}

/// Puts a layer in the place of another one, and makes all digests right again. Returns the manifest's.
pub(super) fn replace_layer(sandbox: &Sandbox, number: usize, members: &[Member]) -> String {
    let tar = tar_of(members);
    let layer = blob_of(sandbox, ZSTD, &zst(&tar));
    let id = format!("sha256:{}", sha256_hex(&tar));
    tampered(sandbox, |manifest, config, _| {
        manifest["layers"][number] = layer.clone();
        config["rootfs"]["diff_ids"][number] = id.clone().into();
    })
}

const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Runs a fetch of what the image should have, and expects a warning, a miss, and nothing outside of the destination.
fn expect_miss(sandbox: &Sandbox, digest: &str, warning: &str) {
    let server = Server::start();
    sandbox.write("outside/kept", "kept");
    let words = ["--cache-from", "image", "--trust-cache", digest];
    let outcome = fetch(sandbox, &server, &words).run().expect_code(3);
    outcome.expect_stderr(&["warning: ", warning, "answered 404"]);
    assert!(
        !sandbox.path("dest").exists(),
        "{warning}: {:?}",
        Tree::of(sandbox.path("dest"))
    );
    assert_eq!(Tree::of(sandbox.path("outside")).paths(), ["kept"]);
}

#[test]
fn caches_that_make_no_sense_are_a_warning_and_a_miss() {
    let (sandbox, _) = dead();
    let set = |path: &'static str, value: Value| {
        move |_: &mut Value, config: &mut Value, records: &mut Value| {
            let (of, path) = path.split_at(path.find('/').expect("a path"));
            let document = if of == "config" { config } else { records };
            *document.pointer_mut(path).expect("a place") = value.clone();
        }
    };
    let record = |fields: Value| set("records/0", fields);
    let x = format!("sha256:{}", sha256_hex(b"x"));
    let cases: [(&Change, &str); 7] = [
        (
            &record(json!({"digest": x, "inputs": [[{"link": 0}]]})),
            "record 0 is made from itself",
        ),
        (
            &record(json!({"digest": x, "inputs": [[{"link": 99}]]})),
            "there is no record 99",
        ),
        (
            &record(json!({"digest": x, "layers": [{"layer": 4}]})),
            "there is no layer 4",
        ),
        (
            &record(json!({"digest": x, "chains": [{"layers": [-1]}]})),
            "there is no layer -1",
        ),
        (
            &record(json!({"digest": 1})),
            "the inline cache cannot be read",
        ),
        (&set("config/history", json!([{}])), "a history of 1"),
        (&set("config/rootfs/diff_ids", json!([])), "but 0 diff ids"),
    ];
    let index = sandbox.read("image/index.json");
    for (change, warning) in cases {
        sandbox.write("image/index.json", &index);
        let digest = tampered(&sandbox, change);
        expect_miss(&sandbox, &digest, warning);
    }
}

#[test]
fn layers_that_are_not_what_was_said_are_a_warning_and_a_miss() {
    let (sandbox, digest) = dead();
    let index = sandbox.read("image/index.json");
    let image = Image::read(&sandbox.path("image"), "latest");
    let layer = image.layers()[0]["digest"]
        .as_str()
        .expect("a digest")
        .replace(':', "/");
    let path = format!("image/blobs/{layer}");
    let good = sandbox.read(&path);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    // A block of Zstandard that is skipped changes nothing but the blob.
    let padded = [&good[..], b"\x50\x2a\x4d\x18\0\0\0\0"].concat();
    for (content, warning) in [
        (&flipped, "tool.tar.gz is not taken from `image`: "),
        (&padded, "bytes, expected"),
        (&Vec::new(), "has 0 bytes, expected"),
    ] {
        sandbox.write(&path, content);
        expect_miss(&sandbox, &digest, warning);
    }
    sandbox.write(&path, &good);
    // Content that is not that of the diff id.
    let other = zst(&tar_of(&[file("fetches/tool/run", "other")]));
    let other = blob_of(&sandbox, ZSTD, &other);
    let digest = tampered(&sandbox, |manifest, _, _| {
        manifest["layers"][0] = other.clone();
    });
    expect_miss(&sandbox, &digest, "has the digest sha256:");
    sandbox.write("image/index.json", &index);
    // A type that is not known.
    let digest = tampered(&sandbox, |manifest, _, _| {
        manifest["layers"][0]["mediaType"] = "text/plain".into();
    });
    expect_miss(&sandbox, &digest, "is of the unknown type `text/plain`");
}

#[test]
fn hostile_layers_write_nothing_outside() {
    let (sandbox, _) = dead();
    let index = sandbox.read("image/index.json");
    for (members, warning) in [
        (vec![file("../outside/new", "x")], "`..` component"),
        (
            vec![symlink("fetches", "../outside"), file("fetches/new", "x")],
            "leads out of the tree",
        ),
        (
            vec![symlink("fetches", "../outside")],
            "is not taken from `image`",
        ),
        (
            vec![file("fetches/.wh...", "")],
            "marks nothing that can be removed",
        ),
        (vec![file("../outside/.wh.kept", "")], "`..` component"),
        (
            vec![hard_link("fetches/x", "../outside/kept")],
            "target of the hard link",
        ),
        (vec![dir("other/")], "cannot open"),
    ] {
        sandbox.write("image/index.json", &index);
        let digest = replace_layer(&sandbox, 0, &members);
        expect_miss(&sandbox, &digest, warning);
    }
}

#[test]
fn a_false_file_is_found_out_also_in_a_trusted_image() {
    let (sandbox, _) = dead();
    let other = [dir("fetches/"), file("fetches/plain.txt", "other")];
    let digest = replace_layer(&sandbox, 1, &other);
    expect_miss(
        &sandbox,
        &digest,
        "plain.txt in the layers has the digest sha256:",
    );
}

#[test]
fn results_are_tried_newest_first_until_one_is_right() {
    let (sandbox, _) = dead();
    let digest = tampered(&sandbox, |_, _, records| {
        for record in records.as_array_mut().expect("records") {
            let Some(right) = record.get("chains").or(record.get("layers")).cloned() else {
                continue;
            };
            // Newer, and not there: the layers of something else.
            let wrong = json!({"layers": [2], "createdAt": "2030-01-01T00:00:00Z"});
            let mut chains = vec![wrong];
            if right[0]["layers"].is_array() {
                chains.push(right[0].clone());
            } else {
                let layers = [&right[0]["layer"]];
                chains.push(json!({"layers": layers, "createdAt": "2020-01-01T00:00:00Z"}));
            }
            record.as_object_mut().expect("a record").remove("layers");
            record["chains"] = chains.into();
        }
    });
    let mut list = pinned_after(&sandbox);
    list.as_array_mut()
        .expect("a list")
        .retain(|entry| entry["extract"] == false);
    sandbox.write("fetches.json", list.to_string());
    let server = Server::start();
    let words = ["--cache-from", "image", "--trust-cache", &digest];
    let outcome = success(fetch(&sandbox, &server, &words));
    outcome.expect_stderr(&["plain.txt is not taken from `image`", "fetched 1 of 1"]);
    assert_eq!(sandbox.read("dest/plain.txt"), b"plain");
}

#[test]
fn images_that_are_not_there_are_a_warning() {
    let (sandbox, server) = (stocked(), Server::start());
    sandbox.write("text", "text");
    success(export(&sandbox, &["--output", "image", "--no-cache"]));
    drop(server);
    for (image, warning) in [
        (
            "nowhere",
            "warning: no cache is used: cannot open `nowhere`",
        ),
        ("text", "neither a directory nor an uncompressed tar"),
        (
            "image:other",
            "warning: no cache is used from `image`: `image` has nothing with the tag `other`",
        ),
    ] {
        let invocation = task_artifacts(&sandbox, "dest").args(["--cache-from", image]);
        success(invocation).expect_stderr(&[warning, "fetched 4 of 4"]);
    }
    let words = [
        "task-artifacts",
        "--cache-from",
        "image",
        "--trust-cache",
        "latest",
    ];
    let outcome = sandbox.binary().args(words).run().expect_code(2);
    outcome.expect_stderr(&["`latest` is not a digest"]);
}
