//! `image`: fetches as layers of images, and what builds and other tools make of them.

mod desk;
mod export;
mod import;
mod inspect;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::archives::{
    dir, file, gz, hard_link, noise, sha256_hex, symlink, tar_of, xz, zip_of,
};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A, TASK_B};

/// A sandbox with a store in which there are an archive, a file, a zip and an archive that goes elsewhere.
fn stocked() -> Sandbox {
    let sandbox = Sandbox::new();
    let tool = tar_of(&[
        dir("tool/"),
        file("tool/run", "#!/bin/sh\n").mode(0o755),
        file("tool/secret", "s").mode(0o600),
        file("tool/data", noise(300_000, 1)),
        symlink("tool/link", "run"),
        hard_link("tool/again", "tool/run"),
        dir("tool/empty/").mode(0o700),
    ]);
    let library = tar_of(&[file("lib/a.h", "a"), file("lib/b.h", noise(2_000_000, 2))]);
    let script = zip_of(&[file("bin/script", "true\n").mode(0o755)]);
    for (task, name, content) in [
        (TASK_A, "public/tool.tar.gz", gz(&tool)),
        (TASK_A, "public/plain.txt", b"plain".to_vec()),
        (TASK_B, "public/script.zip", script),
        (TASK_B, "public/library.tar.xz", xz(&library)),
    ] {
        sandbox.write(&format!("store/task/{task}/artifacts/{name}"), content);
    }
    sandbox.write("fetches.json", fetches().to_string());
    sandbox
}

fn fetches() -> Value {
    json!([
        {"task": TASK_A, "artifact": "public/tool.tar.gz"},
        {"task": TASK_A, "artifact": "public/plain.txt", "extract": false},
        {"task": TASK_B, "artifact": "public/script.zip", "dest": "scripts"},
        {"task": TASK_B, "artifact": "public/library.tar.xz", "dest": "deps/library"},
    ])
}

fn stored(sandbox: &Sandbox, task: &str, name: &str) -> Vec<u8> {
    sandbox.read(&format!("store/task/{task}/artifacts/public/{name}"))
}

/// The list and the store are those of the sandbox.
const EXPORT: [&str; 6] = [
    "image",
    "export",
    "--fetches",
    "fetches.json",
    "--store",
    "store",
];

pub(crate) fn export<'a>(sandbox: &'a Sandbox, words: &[&str]) -> Invocation<'a> {
    sandbox.binary().args(EXPORT).args(words)
}

/// Fetches the same list from the same store.
fn task_artifacts<'a>(sandbox: &'a Sandbox, dest: &str) -> Invocation<'a> {
    let words = [
        "task-artifacts",
        "--fetches",
        "fetches.json",
        "--store",
        "store",
        "--dest",
        dest,
    ];
    sandbox.binary().args(words)
}

/// Panics unless a run succeeds. Nothing but the digest of what it made may be on standard output.
fn success(invocation: Invocation) -> Outcome {
    let outcome = invocation.run();
    assert!(outcome.status.success(), "{outcome:?}");
    let stdout = outcome.stdout.trim_end();
    let is_digest = stdout.starts_with("sha256:") && stdout.len() == 71;
    assert!(stdout.is_empty() || is_digest, "{outcome:?}");
    outcome
}

/// Returns what a successful run writes to standard output.
fn printed(invocation: Invocation) -> String {
    let outcome = invocation.run();
    assert!(outcome.status.success(), "{outcome:?}");
    outcome.stdout
}

/// What the only tag of a layout leads to.
fn top(sandbox: &Sandbox, layout: &str) -> String {
    let index: Value =
        serde_json::from_slice(&sandbox.read(&format!("{layout}/index.json"))).expect("JSON");
    index["manifests"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned()
}

/// An image in a layout, as JSON.
struct Image {
    manifest: Value,
    config: Value,
    /// The records of its cache.
    records: Value,
}

fn blob(layout: &Path, descriptor: &Value) -> Vec<u8> {
    let digest = descriptor["digest"].as_str().expect("a digest");
    let hex = digest.strip_prefix("sha256:").expect("SHA-256");
    let content = fs::read(layout.join("blobs/sha256").join(hex)).expect("a blob");
    assert_eq!(sha256_hex(&content), hex);
    assert_eq!(descriptor["size"], content.len());
    content
}

impl Image {
    fn read(layout: &Path, tag: &str) -> Self {
        let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).expect("JSON") };
        let index = json(&fs::read(layout.join("index.json")).expect("an index"));
        let tagged =
            |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == tag;
        let entries = index["manifests"].as_array().expect("manifests");
        let manifest = json(&blob(layout, entries.iter().find(tagged).expect("the tag")));
        let config = json(&blob(layout, &manifest["config"]));
        let records = match config["moby.buildkit.cache.v0"].as_str() {
            Some(base64) => json(&unbase64(base64)),
            None => Value::Null,
        };
        Self {
            manifest,
            config,
            records,
        }
    }

    fn layers(&self) -> &[Value] {
        self.manifest["layers"].as_array().expect("layers")
    }
}

fn unbase64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => panic!("`{}` is not base64", byte.escape_ascii()),
    };
    let mut bytes = Vec::new();
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = group
            .iter()
            .fold(0u32, |bits, &byte| bits << 6 | u32::from(value(byte)));
        let bits = bits << (6 * (4 - group.len()));
        bytes.extend(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}
