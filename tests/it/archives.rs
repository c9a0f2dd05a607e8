//! Archives of every kind that programs make: one small tree, checked in as `testdata/archives/*`, comes out of all of
//! them alike.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::archives::{bz2, file, gz, noise, tar_of, xz};
use crate::support::sandbox::{Outcome, Sandbox, TASK_A};
use crate::support::skip::have_programs;
use crate::support::tree::{Kind, Tree};

/// The archives in a directory.
fn archives(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("list the archives");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.to_string_lossy().contains(".tar."))
        .collect();
    paths.sort();
    paths
}

/// Extracts an archive into `fetches`.
fn extract(sandbox: &Sandbox, archive: &[u8]) -> Tree {
    if sandbox.fetches().exists() {
        fs::remove_dir_all(sandbox.fetches()).expect("clean up");
    }
    try_to_extract(sandbox, archive).expect_code(0);
    sandbox.fetched()
}

fn try_to_extract(sandbox: &Sandbox, archive: &[u8]) -> Outcome {
    sandbox.write(
        &format!("store/task/{TASK_A}/artifacts/public/a.tar"),
        archive,
    );
    let list = json!([{"task": TASK_A, "artifact": "public/a.tar"}]).to_string();
    let run = sandbox
        .binary()
        .args(["task-artifacts", "--store", "store", "--dest", "fetches"]);
    run.env("MOZ_FETCHES", list).run()
}

fn expect_all_alike(directory: &Path) {
    let sandbox = Sandbox::new();
    let archives = archives(directory);
    assert!(archives.len() >= 28, "{archives:?}");
    let expected = extract(&sandbox, &fs::read(&archives[0]).expect("read an archive"));
    assert_eq!(
        expected.at("tree/bin/hello").mode,
        Some(0o755),
        "{expected}"
    );
    assert_eq!(
        expected.at("tree/read-only").mode,
        Some(0o444),
        "{expected}"
    );
    assert_eq!(
        expected.at("tree/zz-same").same_as.as_deref(),
        Some("tree/bin/hello")
    );
    assert_eq!(expected.at("tree/empty").kind, Kind::Dir);
    let target = "bin/hello".to_owned();
    assert_eq!(expected.at("tree/link").kind, Kind::Symlink { target });
    for path in expected.paths() {
        assert_eq!(expected.at(path).mtime, Some((1_704_164_646, 0)), "{path}");
    }
    for archive in archives {
        let name = archive.file_name().expect("a name").to_string_lossy();
        let tree = extract(&sandbox, &fs::read(&archive).expect("read an archive"));
        expected.assert_same(&tree, &name);
        let sparse = fs::metadata(sandbox.path("fetches/tree/sparse")).expect("the sparse file");
        let is_sparse = sparse.blocks() * 512 < 100_000;
        assert!(
            is_sparse || !name.contains("sparse"),
            "{name}: {} blocks",
            sparse.blocks()
        );
    }
}

#[test]
fn archives_of_all_programs_hold_the_same_tree() {
    expect_all_alike(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archives"));
}

#[test]
fn the_archives_are_what_their_script_makes() {
    let tools = [
        "bash", "tar", "bsdtar", "gzip", "bzip2", "xz", "zstd", "pzstd",
    ];
    if !have_programs("the_archives_are_what_their_script_makes", &tools) {
        return;
    }
    let sandbox = Sandbox::new();
    let made = sandbox.path("made");
    fs::create_dir(&made).expect("make a directory");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archives/make.sh");
    let run = sandbox.program(script).args([&made]).run();
    assert!(run.status.success(), "{run:?}");
    // Other versions of the programs make other bytes.
    expect_all_alike(&made);
    let names = |directory: &Path| -> Vec<_> {
        archives(directory)
            .iter()
            .map(|path| path.file_name().map(ToOwned::to_owned))
            .collect()
    };
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archives");
    assert_eq!(names(&made), names(&here));
}

#[test]
fn a_hundred_thousand_tiny_files_are_extracted() {
    let members: Vec<_> = (0..100_000)
        .map(|n| file(format!("d{:03}/f{n}", n % 1000), n.to_string()))
        .collect();
    let sandbox = Sandbox::new();
    let tree = extract(&sandbox, &gz(&tar_of(&members)));
    assert_eq!(tree.paths().len(), 101_000);
    assert_eq!(sandbox.read("fetches/d999/f99999"), b"99999");
}

#[test]
fn damage_behind_the_end_of_the_tar_is_found() {
    let tar = tar_of(&[file("f", "x")]);
    for (name, pack) in [
        ("gzip", gz as fn(&[u8]) -> Vec<u8>),
        ("bzip2", bz2),
        ("xz", xz),
        ("zstd", checked_zst),
    ] {
        let (first, second) = (pack(&tar), pack(&noise(50_000, 1)));
        let whole = [first, second].concat();
        let sandbox = Sandbox::new();
        assert_eq!(extract(&sandbox, &whole).paths(), ["f"], "{name}");
        let mut flipped = whole.clone();
        let middle = whole.len() - 25_000;
        flipped[middle] ^= 1;
        for (what, damaged) in [
            ("flipped", &flipped[..]),
            ("cut", &whole[..whole.len() - 1]),
        ] {
            let sandbox = Sandbox::new();
            let outcome = try_to_extract(&sandbox, damaged).expect_code(5);
            assert!(sandbox.fetched().is_empty(), "{name} {what}: {outcome:?}");
        }
    }
}

fn checked_zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a zstd encoder");
    encoder.include_checksum(true).expect("a checksum");
    std::io::Write::write_all(&mut encoder, bytes).expect("zstd into memory");
    encoder.finish().expect("zstd into memory")
}
