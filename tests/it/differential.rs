//! Archives made by real tools from one rich sample tree: what we extract equals what GNU tar and unzip extract.
//!
//! Both sides run as the current user, with the umask.
//! Set-id bits, the one thing we drop, are not in the sample.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::json;

use crate::support::archives::{noise, zst};
use crate::support::sandbox::{Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server};
use crate::support::skip::have_programs;
use crate::support::tree::Tree;

/// Which names the sample may have.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Names {
    /// UTF-8 and spaces, no path over 99 bytes.
    Unicode,
    /// Bytes that are no UTF-8 and newlines, no path over 99 bytes.
    Bytes,
    /// The same, and paths that ustar can still split.
    Long,
    /// The same, and paths and link targets over 255 bytes.
    VeryLong,
}

/// A time with nanoseconds, different for each seed.
fn time(seed: u64) -> Duration {
    Duration::new(1_500_000_000 + seed * 1001, 123_456_789)
}

fn write(path: &Path, content: &[u8], mode: u32, seed: u64) {
    fs::create_dir_all(path.parent().expect("a path in the sample")).expect("make a directory");
    fs::write(path, content).expect("write a sample file");
    let file = File::open(path).expect("open a sample file");
    let when = SystemTime::UNIX_EPOCH + time(seed);
    file.set_times(FileTimes::new().set_modified(when))
        .expect("set the time of a sample file");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("set a mode");
}

fn link(target: impl AsRef<OsStr>, path: &Path, seed: u64) {
    symlink(target.as_ref(), path).expect("make a symlink");
    set_time(path, seed);
}

/// Sets the time of anything, a symlink itself included.
fn set_time(path: &Path, seed: u64) {
    let when = Timespec {
        tv_sec: i64::try_from(time(seed).as_secs()).expect("a time"),
        tv_nsec: i64::from(time(seed).subsec_nanos()),
    };
    let times = Timestamps {
        last_access: when,
        last_modification: when,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("set a time");
}

/// Makes the sample tree at `root`.
fn make_sample(root: &Path, names: Names) {
    fs::create_dir(root).expect("make the sample");
    let at = |path: &str| root.join(path);
    write(&at("bin/run"), b"#!/bin/sh\necho hello\n", 0o755, 1);
    write(&at("bin/group"), b"#!/bin/sh\n", 0o775, 2);
    write(&at("etc/secret"), b"secret", 0o600, 3);
    write(&at("etc/read-only"), b"read me", 0o444, 4);
    write(&at("etc/world"), b"write me", 0o666, 5);
    write(&at("etc/empty"), b"", 0o644, 6);
    write(&at("share/with space.txt"), b"space", 0o644, 7);
    let big: Vec<u8> = b"lots of text that compresses well. "
        .repeat(70_000)
        .into_iter()
        .chain(noise(600_000, 8))
        .collect();
    write(&at("share/big"), &big, 0o644, 8);
    fs::create_dir_all(at("var/empty/nested")).expect("make a directory");
    fs::set_permissions(at("var/empty"), Permissions::from_mode(0o750)).expect("set a mode");
    fs::create_dir_all(at("var/closed")).expect("make a directory");
    write(&at("var/closed/in"), b"in", 0o400, 9);
    link("run", &at("bin/relative"), 10);
    link("../etc/secret", &at("bin/up"), 11);
    link("/no/such/absolute", &at("bin/absolute"), 12);
    link("no/such", &at("bin/dangling"), 13);
    link("../share", &at("var/dir-link"), 14);
    fs::hard_link(at("bin/run"), at("bin/run-again")).expect("make a hard link");
    fs::hard_link(at("bin/run"), at("share/run-there")).expect("make a hard link");
    make_sparse(&at("share/sparse"));
    write(&at("share/na\u{ef}ve \u{96ea}.txt"), b"utf-8", 0o644, 15);
    if names >= Names::Bytes {
        let latin1 = root.join("share").join(OsStr::from_bytes(b"caf\xe9"));
        write(&latin1, b"latin-1", 0o644, 16);
        write(&at("share/new\nline"), b"newline", 0o644, 17);
        link(OsStr::from_bytes(b"caf\xe9"), &at("share/to-latin1"), 18);
    }
    if names >= Names::Long {
        let deep = ["d".repeat(60), "e".repeat(60), "f".repeat(60)].join("/");
        write(&at(&deep), b"long", 0o644, 19);
    }
    if names >= Names::VeryLong {
        let deep = ["g".repeat(120), "h".repeat(120), "i".repeat(200)].join("/");
        write(&at(&deep), b"very long", 0o640, 20);
        fs::hard_link(at(&deep), at("z-hard")).expect("make a hard link");
        link(&deep, &at("z-soft"), 21);
        write(&at(&"j".repeat(255)), b"longest name", 0o644, 22);
    }
    set_directory_times(root, 100);
    fs::set_permissions(at("var/closed"), Permissions::from_mode(0o555)).expect("set a mode");
}

/// A file with holes, which `tar -S` stores as such.
fn make_sparse(path: &Path) {
    let mut file = File::create(path).expect("make the sparse file");
    for position in [0, 300_000, 900_000] {
        file.seek(SeekFrom::Start(position)).expect("seek");
        file.write_all(&noise(5000, position)).expect("write");
    }
    file.set_len(1_200_000).expect("end with a hole");
    drop(file);
    set_time(path, 30);
}

fn set_directory_times(dir: &Path, seed: u64) {
    let entries = fs::read_dir(dir).expect("list the sample");
    for (n, entry) in (1..).zip(entries.filter_map(Result::ok)) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            set_directory_times(&entry.path(), seed * 7 % 1009 + n);
        }
    }
    set_time(dir, seed);
}

/// Where a test works: a sandbox with the sample at `sample`.
struct Bench {
    sandbox: Sandbox,
    server: Server,
}

impl Bench {
    fn new(names: Names) -> Self {
        let sandbox = Sandbox::new();
        make_sample(&sandbox.path("sample"), names);
        Self {
            sandbox,
            server: Server::start(),
        }
    }

    /// Runs a tool in a directory of the sandbox; panics unless it exits with one of the codes.
    fn tool(&self, dir: &str, words: &[&str], codes: &[i32]) {
        let run = self.sandbox.program(words[0]).args(&words[1..]);
        let outcome = run.env("TZ", "UTC").env("LC_ALL", "C.UTF-8");
        let outcome = outcome.current_dir(self.sandbox.path(dir)).run();
        let expected = outcome
            .status
            .code()
            .is_some_and(|code| codes.contains(&code));
        assert!(expected, "{outcome:?}");
    }

    /// What a tool makes of an archive in an empty directory.
    fn reference(&self, words: &[&str]) -> Tree {
        let dir = self.sandbox.path("reference");
        remove_tree(&dir);
        fs::create_dir(&dir).expect("make a directory");
        self.tool("reference", words, &[0]);
        Tree::of(dir)
    }

    /// What we make of an archive.
    fn ours(&self, archive: &Path) -> Tree {
        remove_tree(&self.sandbox.fetches());
        let bytes = fs::read(archive).expect("read an archive");
        self.server
            .serve(&artifact(TASK_A, "public/archive"), Reply::ok(bytes));
        let fetches = json!([{"task": TASK_A, "artifact": "public/archive", "extract": true}]);
        self.sandbox
            .task_artifacts(&self.server, &fetches)
            .env("TZ", "UTC")
            .run()
            .expect_code(0);
        self.sandbox.fetched()
    }

    /// Expects the same tree from GNU tar and from us, for a tar file in every compression.
    fn expect_same_as_gnu_tar(&self, tar: &str, options: &[&str]) {
        let thorough = matches!(tar, "gnu.tar" | "pax.tar");
        let archive = self.sandbox.path(tar);
        let name = archive.display().to_string();
        let expected = self.reference(&[&["tar", "-xf", &name], options].concat());
        assert!(expected.paths().len() > 15, "{expected}");
        let all = self.compressed(&archive);
        // What a decoder makes of its input does not depend on the format inside: every one of them for two formats.
        let step = if thorough { 1 } else { 5 };
        for (compression, path) in all.into_iter().step_by(step) {
            let what = format!("{tar} {compression}");
            expected.assert_same(&self.ours(&path), &what);
        }
    }

    /// The archive itself and compressed in all ways.
    fn compressed(&self, archive: &Path) -> Vec<(&'static str, PathBuf)> {
        let bytes = fs::read(archive).expect("read an archive");
        let write = |name: &str, content: &[u8]| self.sandbox.write(name, content);
        let shell = |script: &str| self.tool(".", &["sh", "-ec", script], &[0]);
        let (head, tail) = bytes.split_at(bytes.len() / 3);
        write("whole", &bytes);
        write("head", head);
        write("tail", tail);
        shell("gzip -1 <whole >one.gz; { gzip -1 <head; gzip -1 <tail; } >two.gz");
        shell("bzip2 -1 <whole >one.bz2; { bzip2 -1 <head; bzip2 -1 <tail; } >two.bz2");
        shell("xz -0 --block-size=65536 <whole >blocks.xz; xz -0 -T1 <whole >one.xz");
        shell("{ xz -0 <head; xz -0 <tail; } >two.xz; xz -0 --check=none <whole >unchecked.xz");
        shell("zstd -q -1 <whole >one.zst; zstd -q -1 --long=27 <whole >long.zst");
        let mut frames: Vec<u8> = bytes.chunks(100_000).flat_map(zst).collect();
        write("frames.zst", &frames);
        let mut skippable = b"\x50\x2a\x4d\x18\x05\x00\x00\x00extra".to_vec();
        skippable.append(&mut frames);
        write("skippable.zst", &skippable);
        let path = |name: &str| self.sandbox.path(name);
        vec![
            ("plain", path("whole")),
            ("gz", path("one.gz")),
            ("gz, two members", path("two.gz")),
            ("bz2", path("one.bz2")),
            ("bz2, two streams", path("two.bz2")),
            ("xz", path("one.xz")),
            ("xz, many blocks", path("blocks.xz")),
            ("xz, two streams", path("two.xz")),
            ("xz, no check", path("unchecked.xz")),
            ("zst", path("one.zst")),
            ("zst, long window", path("long.zst")),
            ("zst, many frames", path("frames.zst")),
            ("zst, skippable frame in front", path("skippable.zst")),
        ]
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Directories without write permission would stop the sandbox from vanishing.
        for dir in ["sample", "reference", "fetches"] {
            remove_tree(&self.sandbox.path(dir));
        }
    }
}

/// Removes a tree whatever its modes.
pub(crate) fn remove_tree(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    let _ = fs::set_permissions(dir, Permissions::from_mode(0o755));
    for entry in entries.filter_map(Result::ok) {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir_all(dir);
}

const TOOLS: [&str; 7] = ["tar", "sh", "gzip", "bzip2", "xz", "zstd", "unzip"];

/// A tar file by GNU tar in one of its formats.
fn gnu_tar_case(test: &str, names: Names, options: &[&str]) {
    if !have_programs(test, &TOOLS) {
        return;
    }
    let bench = Bench::new(names);
    let tar = match options {
        ["--format=gnu"] => "gnu.tar",
        ["--format=pax"] => "pax.tar",
        _ => "a.tar",
    };
    let words = [&["tar"], options, &["-cf", tar, "sample"]].concat();
    bench.tool(".", &words, &[0]);
    bench.expect_same_as_gnu_tar(tar, &[]);
}

#[test]
fn gnu_tar_format_v7() {
    gnu_tar_case("gnu_tar_format_v7", Names::Bytes, &["--format=v7"]);
}

#[test]
fn gnu_tar_format_ustar() {
    gnu_tar_case("gnu_tar_format_ustar", Names::Long, &["--format=ustar"]);
}

#[test]
fn gnu_tar_format_gnu() {
    gnu_tar_case("gnu_tar_format_gnu", Names::VeryLong, &["--format=gnu"]);
}

#[test]
fn gnu_tar_format_oldgnu_sparse() {
    let options = ["--format=oldgnu", "-S"];
    gnu_tar_case("gnu_tar_format_oldgnu_sparse", Names::VeryLong, &options);
}

#[test]
fn gnu_tar_format_gnu_sparse() {
    let options = ["--format=gnu", "--sparse"];
    gnu_tar_case("gnu_tar_format_gnu_sparse", Names::VeryLong, &options);
}

#[test]
fn gnu_tar_format_pax() {
    gnu_tar_case("gnu_tar_format_pax", Names::VeryLong, &["--format=pax"]);
}

/// Sparse members in pax format come out right or are refused cleanly; never as files full of block maps.
#[test]
fn gnu_tar_format_pax_sparse() {
    let test = "gnu_tar_format_pax_sparse";
    if !have_programs(test, &TOOLS) {
        return;
    }
    let bench = Bench::new(Names::VeryLong);
    for version in ["0.0", "0.1", "1.0"] {
        let version = format!("--sparse-version={version}");
        let words = [
            "tar",
            "--format=pax",
            "-S",
            &version,
            "-cf",
            "a.tar",
            "sample",
        ];
        bench.tool(".", &words, &[0]);
        let expected = bench.reference(&["tar", "-xf", "../a.tar"]);
        remove_tree(&bench.sandbox.fetches());
        let archive = Reply::ok(bench.sandbox.read("a.tar"));
        bench
            .server
            .serve(&artifact(TASK_A, "public/archive"), archive);
        let fetches = json!([{"task": TASK_A, "artifact": "public/archive", "extract": true}]);
        let outcome = bench.sandbox.task_artifacts(&bench.server, &fetches).run();
        let outcome = outcome.expect_one_of(&[0, 5]);
        if outcome.status.success() {
            expected.assert_same(&bench.sandbox.fetched(), &version);
        } else {
            outcome.expect_stderr(&["sparse"]);
            assert!(bench.sandbox.fetched().is_empty(), "{version}");
        }
    }
}

#[test]
fn gnu_tar_with_leading_dots_and_sorted_backwards() {
    let test = "gnu_tar_with_leading_dots_and_sorted_backwards";
    if !have_programs(test, &TOOLS) {
        return;
    }
    let bench = Bench::new(Names::VeryLong);
    // Without directory members, and files before the directories that hold them.
    let script = "cd sample; tar --format=gnu -cf ../a.tar .; \
                  find . -depth -print0 | LC_ALL=C sort -rz \
                  | tar --null --no-recursion -T- -cf ../b.tar; \
                  find . ! -type d -print0 | tar --null -T- -cf ../c.tar";
    bench.tool(".", &["sh", "-ec", script], &[0]);
    for tar in ["a.tar", "b.tar"] {
        bench.expect_same_as_gnu_tar(tar, &[]);
    }
    // Directories that only come into being for their files have the time of the extraction.
    let archive = bench.sandbox.path("c.tar");
    let expected = bench.reference(&["tar", "-xf", &archive.display().to_string()]);
    let ours = bench.ours(&archive).without_mtimes();
    expected
        .without_mtimes()
        .assert_same(&ours, "without directories");
}

#[test]
fn bsdtar_formats() {
    for (format, names) in [
        ("v7", Names::Bytes),
        ("ustar", Names::Long),
        ("gnutar", Names::VeryLong),
        ("pax", Names::VeryLong),
    ] {
        if !have_programs("bsdtar_formats", &["bsdtar"]) || !have_programs("bsdtar_formats", &TOOLS)
        {
            return;
        }
        let bench = Bench::new(names);
        // It finds holes by itself and writes them as pax does, which has a test of its own.
        fs::remove_file(bench.sandbox.path("sample/share/sparse")).expect("remove a file");
        let format = format!("--format={format}");
        let words = ["bsdtar", &format, "-cf", "a.tar", "sample"];
        bench.tool(".", &words, &[0]);
        // bsdtar writes directories long before their files; without the option GNU tar loses their times.
        bench.expect_same_as_gnu_tar("a.tar", &["--delay-directory-restore"]);
    }
}

#[test]
fn seven_zip_tar() {
    if !have_programs("seven_zip_tar", &["7z"]) || !have_programs("seven_zip_tar", &TOOLS) {
        return;
    }
    let bench = Bench::new(Names::Unicode);
    let words = ["7z", "a", "-ttar", "-snl", "-snh", "a.tar", "sample"];
    bench.tool(".", &words, &[0]);
    bench.expect_same_as_gnu_tar("a.tar", &[]);
}

/// A zip file, compared with unzip. Times of symlinks and identity of hard links are not zip's business.
fn zip_case(test: &str, tool: &str, words: &[&str]) {
    if !have_programs(test, &[tool]) || !have_programs(test, &TOOLS) {
        return;
    }
    let bench = Bench::new(Names::Unicode);
    bench.tool(".", words, &[0]);
    let archive = bench.sandbox.path("a.zip");
    let zip = archive.display().to_string();
    let expected = bench.reference(&["unzip", "-q", "-o", &zip]);
    assert!(expected.paths().len() > 15, "{expected}");
    let ours = bench.ours(&archive).without_symlink_mtimes();
    expected.without_symlink_mtimes().assert_same(&ours, test);
}

#[test]
fn info_zip_with_symlinks() {
    let words = ["zip", "-q", "-r", "--symlinks", "a.zip", "sample"];
    zip_case("info_zip_with_symlinks", "zip", &words);
}

#[test]
fn info_zip_stored_without_extra_fields() {
    let words = [
        "zip",
        "-q",
        "-r",
        "-0",
        "-X",
        "--symlinks",
        "a.zip",
        "sample",
    ];
    zip_case("info_zip_stored_without_extra_fields", "zip", &words);
}

#[test]
fn info_zip_with_bzip2_members() {
    let words = [
        "zip",
        "-q",
        "-r",
        "-Z",
        "bzip2",
        "--symlinks",
        "a.zip",
        "sample",
    ];
    zip_case("info_zip_with_bzip2_members", "zip", &words);
}

#[test]
fn seven_zip_zip() {
    let words = ["7z", "a", "-tzip", "-snl", "a.zip", "sample"];
    zip_case("seven_zip_zip", "7z", &words);
}

#[test]
fn bsdtar_zip() {
    let words = ["bsdtar", "--format=zip", "-cf", "a.zip", "sample"];
    zip_case("bsdtar_zip", "bsdtar", &words);
}
