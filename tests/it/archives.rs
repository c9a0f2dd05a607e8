//! Archives of every kind that programs make: one small tree, checked in as `testdata/archives/*`, comes out of all of
//! them alike.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::json;

use crate::support::archives::{bz2, file, gz, noise, tar_of, xz};
use crate::support::sandbox::{Outcome, Sandbox, TASK_A};
use crate::support::skip::have_programs;
use crate::support::tree::{Kind, Tree};
use crate::support::zips::{entry, zip64_with};

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
    let files = (0..100_000).map(|n| (format!("d{:03}/f{n}", n % 1000), n.to_string()));
    let members: Vec<_> = files.clone().map(|(name, text)| file(name, text)).collect();
    let entries: Vec<_> = files.map(|(name, text)| entry(name, text)).collect();
    let zip = zip64_with(&entries, |_, _, _| {});
    for archive in [gz(&tar_of(&members)), zip] {
        let sandbox = Sandbox::new();
        let tree = extract(&sandbox, &archive);
        assert_eq!(tree.paths().len(), 101_000);
        assert_eq!(sandbox.read("fetches/d999/f99999"), b"99999");
    }
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
        let (first, second) = (pack(&tar), pack(&noise(6_000_000, 1)));
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

/// What a random tree is made of.
#[derive(Clone, Debug)]
enum Node {
    File { length: usize, mode: u32 },
    Sparse,
    Dir { mode: u32 },
    Symlink(String),
    HardLink,
}

fn random_tree() -> impl Strategy<Value = Vec<(Vec<u8>, Node, i64)>> {
    let name = prop_oneof![
        "[a-z. ]{0,3}[a-z]",
        "[a-z\u{e4}\n\\\\'*]{1,60}",
        "[xy]{90,255}",
    ]
    .prop_map(String::into_bytes);
    let name = prop_oneof![4 => name, 1 => proptest::collection::vec(0x80..=0xff_u8, 1..20)];
    let path = proptest::collection::vec(name, 1..5).prop_map(|names| names.join(&b'/'));
    let mode = || proptest::sample::select(vec![0o644, 0o600, 0o755, 0o444, 0o700]);
    let length = prop_oneof![Just(0), 1..2000_usize, Just(512), Just(200_000)];
    let target = prop_oneof!["[a-z./]{1,20}", "/[a-z]{1,300}", "(\\.\\./){1,60}[a-z]"];
    let node = prop_oneof![
        4 => (length, mode()).prop_map(|(length, mode)| Node::File { length, mode }),
        1 => Just(Node::Sparse),
        2 => proptest::sample::select(vec![0o755, 0o700, 0o555]).prop_map(|mode| Node::Dir { mode }),
        2 => target.prop_map(Node::Symlink),
        1 => Just(Node::HardLink),
    ];
    // bsdtar writes fractions of times before the epoch as nobody else reads them.
    proptest::collection::vec((path, node, 0..4_000_000_000_i64), 1..25)
}

/// Makes what can be made of a random tree: names may be taken.
fn make_tree(root: &Path, nodes: &[(Vec<u8>, Node, i64)]) {
    let mut dirs = Vec::new();
    let mut files: Vec<PathBuf> = Vec::new();
    for (n, (path, node, seconds)) in nodes.iter().enumerate() {
        let path = root.join(OsStr::from_bytes(path));
        if path
            .parent()
            .is_none_or(|parent| fs::create_dir_all(parent).is_err())
        {
            continue;
        }
        let made = match node {
            Node::File { length, mode } => fs::write(&path, noise(*length, n as u64))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(*mode))),
            Node::Sparse => File::create_new(&path).and_then(|file| {
                file.write_all_at(b"data", 100_000)?;
                file.set_len(300_000)
            }),
            Node::Dir { mode } => fs::create_dir(&path).map(|()| dirs.push((path.clone(), *mode))),
            Node::Symlink(target) => symlink(target, &path),
            Node::HardLink => files
                .last()
                .map_or(Ok(()), |file| fs::hard_link(file, &path)),
        };
        if made.is_ok() && path.symlink_metadata().is_ok_and(|meta| !meta.is_dir()) {
            let nanos = i64::try_from(n * 12_345_678).expect("nanoseconds");
            set_time(&path, *seconds, nanos);
            if matches!(node, Node::File { .. }) {
                files.push(path);
            }
        }
    }
    for (path, mode) in dirs {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("set a mode");
    }
}

fn set_time(path: &Path, seconds: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("set a time");
}

#[test]
fn random_trees_come_out_as_they_were_packed() {
    if !have_programs(
        "random_trees_come_out_as_they_were_packed",
        &["tar", "bsdtar"],
    ) {
        return;
    }
    // The same trees in every run.
    let mut runner = TestRunner::deterministic();
    let packers: [&[&str]; 4] = [
        &["tar", "--format=pax", "-cf"],
        &["tar", "--format=pax", "-S", "--sparse-version=0.1", "-cf"],
        &["tar", "--format=gnu", "-S", "-cf"],
        // It loses directories of sparse files whose names are not UTF-8.
        &["bsdtar", "--format=pax", "--no-read-sparse", "-cf"],
    ];
    for case in 0..24 {
        let packer = packers[case % packers.len()];
        let sandbox = Sandbox::new();
        let tree = random_tree().new_tree(&mut runner).expect("a tree");
        let [expected, extracted] =
            packed_and_extracted(&sandbox, &tree.current(), packer, "a.tar")
                .map(Tree::without_directory_mtimes);
        let expected = if packer.contains(&"--format=gnu") {
            expected.without_nanoseconds()
        } else {
            expected
        };
        expected.assert_same(&extracted, &format!("case {case}, {packer:?}"));
    }
}

/// Makes a tree, packs it into an archive and extracts that. Returns what was made, and what came out.
fn packed_and_extracted(
    sandbox: &Sandbox,
    nodes: &[(Vec<u8>, Node, i64)],
    packer: &[&str],
    archive: &str,
) -> [Tree; 2] {
    fs::create_dir(sandbox.path("tree")).expect("make a directory");
    make_tree(&sandbox.path("tree"), nodes);
    let run = sandbox
        .program(packer[0])
        .args(&packer[1..])
        .args([archive, "tree"]);
    let run = run.env("LC_ALL", "C.UTF-8").run();
    assert!(run.status.success(), "{run:?}");
    extract(sandbox, &sandbox.read(archive));
    ["tree", "fetches/tree"].map(|tree| Tree::of(sandbox.path(tree)))
}

#[test]
fn random_trees_come_out_of_zips_as_they_were_packed() {
    let packers: [&[&str]; 3] = [
        &["zip", "-qry"],
        &["bsdtar", "--format=zip", "-cf"],
        &["bsdtar", "--format=zip", "--options=zip:zip64", "-cf"],
    ];
    let name = "random_trees_come_out_of_zips_as_they_were_packed";
    if !have_programs(name, &["zip", "bsdtar"]) {
        return;
    }
    let mut runner = TestRunner::deterministic();
    for case in 0..18 {
        let packer = packers[case % packers.len()];
        let sandbox = Sandbox::new();
        let mut nodes = random_tree()
            .new_tree(&mut runner)
            .expect("a tree")
            .current();
        // A zip has no hard links, and seconds of 32 bits.
        nodes.retain(|(_, node, _)| !matches!(node, Node::HardLink));
        for (_, _, seconds) in &mut nodes {
            *seconds %= 1 << 31;
        }
        let trees = packed_and_extracted(&sandbox, &nodes, packer, "a.zip");
        let comparable = |tree: Tree| tree.without_directory_mtimes().without_symlink_mtimes();
        let [expected, extracted] = trees.map(|tree| comparable(tree).without_nanoseconds());
        assert!(!expected.is_empty());
        expected.assert_same(&extracted, &format!("case {case}, {packer:?}"));
    }
}
