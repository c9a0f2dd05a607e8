//! Zip archives that contradict themselves, hide something or are damaged: each is extracted as it should be, or refused
//! with nothing left of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::hostile_zips::Verdict::{Refused, Tree};
use crate::support::hostile_zips::classes;
use crate::support::sandbox::{Outcome, Sandbox, TASK_A};
use crate::support::server::{Reply, Server};
use crate::support::zips::{packed_entry, zip};

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hostile/zip")
}

/// What we make of an archive, in a sandbox with canaries beside the destination.
pub(crate) fn extracted(sandbox: &Sandbox, archive: &[u8]) -> Outcome {
    extracted_with(sandbox, archive, &[])
}

/// The same with limits, which are variables of the environment.
fn extracted_with(sandbox: &Sandbox, archive: &[u8], limits: &[(&str, &str)]) -> Outcome {
    sandbox.write("canary", "alive");
    sandbox.write(
        &format!("store/task/{TASK_A}/artifacts/public/a.zip"),
        archive,
    );
    let fetches = json!([{"task": TASK_A, "artifact": "public/a.zip"}]);
    let run = sandbox
        .binary()
        .args(["task-artifacts", "--store"])
        .args([sandbox.path("store")])
        .env("MOZ_FETCHES", fetches.to_string())
        .env("MOZ_FETCHES_DIR", sandbox.fetches())
        .env("TZ", "UTC");
    let run = limits
        .iter()
        .fold(run, |run, (name, value)| run.env(name, value));
    let outcome = run.run();
    assert_eq!(sandbox.read("canary"), b"alive", "{outcome:?}");
    outcome
}

#[test]
fn the_files_in_testdata_are_these() {
    let mut expected = BTreeSet::new();
    for class in classes() {
        let name = format!("{}.zip", class.name);
        let path = testdata().join(&name);
        if std::env::var_os("UPDATE_TESTDATA").is_some() {
            fs::create_dir_all(testdata()).expect("make the directory");
            fs::write(&path, &class.bytes).expect("write an archive");
        }
        let there = fs::read(&path).unwrap_or_default();
        assert!(
            there == class.bytes,
            "{name} is not what this test makes; UPDATE_TESTDATA=1 writes it"
        );
        assert!(expected.insert(name), "two are called {}", class.name);
    }
    let readme =
        fs::read_to_string(testdata().with_file_name("README-zip.md")).expect("the README");
    for entry in fs::read_dir(testdata()).expect("the directory") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("a name of ours").to_owned();
        assert!(expected.contains(&name), "{name} is made by nothing");
        let row = format!("| `{name}` |");
        assert!(readme.contains(&row), "{name} is not in README-zip.md");
    }
}

#[test]
fn every_class_is_extracted_or_refused_as_it_should_be() {
    let mut wrong = String::new();
    for class in classes() {
        let sandbox = Sandbox::new();
        let outcome = extracted(&sandbox, &class.bytes);
        let (code, tree) = (outcome.status.code(), sandbox.fetched());
        let right = match class.verdict {
            Tree(paths) => code == Some(0) && tree.paths() == paths,
            Refused(text) => code == Some(5) && outcome.stderr.contains(text) && tree.is_empty(),
        };
        if !right {
            let (name, stderr) = (class.name, outcome.stderr);
            let _ = writeln!(wrong, "{name}: exit code {code:?}\n{stderr}{tree}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_repack_refuses_what_an_extraction_refuses_but_for_names_and_types() {
    for class in classes() {
        let Refused(text) = class.verdict else {
            continue;
        };
        // What becomes of a name is for whoever extracts the new archive to decide.
        let by_name = [
            "component",
            "NUL",
            "no name",
            "destination",
            "not a directory",
            "bytes, and",
        ]
        .iter()
        .any(|about| text.contains(about))
            || ["name-long", "deep"].contains(&class.name);
        if by_name {
            continue;
        }
        let sandbox = Sandbox::new();
        let server = Server::start();
        server.serve("/a.zip", Reply::ok(&class.bytes));
        let url = server.url("/a.zip");
        let outcome = sandbox
            .static_url(&class.bytes, &url, "out/a.tar.zst")
            .run();
        assert_eq!(
            outcome.status.code(),
            Some(5),
            "{}: {outcome:?}",
            class.name
        );
        assert!(!sandbox.path("out/a.tar.zst").exists(), "{}", class.name);
    }
}

#[test]
fn limits_are_hit_to_the_last_byte() {
    let (size, factor) = (
        "FETCH_CONTENT_MAX_EXPANDED_SIZE",
        "FETCH_CONTENT_MAX_EXPANSION",
    );
    let (length, depth) = (
        "FETCH_CONTENT_MAX_PATH_LENGTH",
        "FETCH_CONTENT_MAX_PATH_DEPTH",
    );
    let (entries, window) = ("FETCH_CONTENT_MAX_ENTRIES", "FETCH_CONTENT_MAX_WINDOW");
    for (name, limits, code) in [
        ("bomb", &[(size, "2113536"), (factor, "1")][..], 5),
        ("bomb", &[(size, "2113537"), (factor, "1")], 0),
        ("bomb", &[(size, "1"), (factor, "1000")], 0),
        ("table-duplicate", &[(entries, "2")], 5),
        ("table-duplicate", &[(entries, "3")], 0),
        ("name-absolute", &[(length, "5")], 5),
        ("name-absolute", &[(length, "6")], 0),
        ("name-absolute", &[(depth, "1")], 5),
        ("name-absolute", &[(depth, "2")], 0),
        ("link-outside", &[(length, "11")], 5),
        ("link-outside", &[(length, "12")], 0),
        ("method-lzma", &[(window, "65535")], 5),
        ("method-lzma", &[(window, "65536")], 0),
    ] {
        let class = classes().into_iter().find(|class| class.name == name);
        let sandbox = Sandbox::new();
        let outcome = extracted_with(&sandbox, &class.expect("a class").bytes, limits);
        assert_eq!(
            outcome.status.code(),
            Some(code),
            "{name} {limits:?}: {outcome:?}"
        );
        if code == 5 {
            outcome.expect_stderr(&[limits[0].0]);
            assert!(sandbox.fetched().is_empty(), "{name} {limits:?}");
        }
    }
}

#[test]
fn dictionaries_of_members_have_a_limit() {
    let hostile = testdata().with_file_name("compressed");
    let xz = fs::read(hostile.join("dictionary-of-1536-mebibytes.tar.xz")).expect("read it");
    let sandbox = Sandbox::new();
    let archive = zip(&[packed_entry("f", 95, b"whatever", &xz)]);
    let outcome = extracted(&sandbox, &archive).expect_code(5);
    outcome.expect_stderr(&["cannot unpack `f`", "FETCH_CONTENT_MAX_WINDOW"]);
    assert!(sandbox.fetched().is_empty());
}
