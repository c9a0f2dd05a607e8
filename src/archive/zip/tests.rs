//! The room as a whole. What archives look like that contradict themselves is in `testdata/hostile`.

#![expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]

use super::{Archive, Early, MemberKind};
use crate::{
    archive::{Job, Limits, Placing, zip},
    error::Result,
    fs,
};
use ::zip::{ZipWriter, write::SimpleFileOptions};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{Cursor, Read, Seek, Write},
    os::unix::{
        ffi::OsStringExt,
        fs::{FileExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

const PLAIN: &[u8] = include_bytes!("../../../testdata/hostile/zip/end-comment.zip");
const ZIP64: &[u8] = include_bytes!("../../../testdata/hostile/zip/zip64.zip");
const STREAMED: &[u8] = include_bytes!("../../../testdata/hostile/zip/descriptor.zip");

fn open(bytes: &[u8]) -> Result<Archive> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Archive::open(file, &Limits::default())
}

fn made(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut zip);
    zip.finish().unwrap().into_inner()
}

fn job(directory: &Path) -> Job {
    Job {
        directory: directory.to_owned(),
        file_name: "archive".into(),
        placing: Placing::Extract,
        limits: Limits::default(),
    }
}

/// An archive on its way to a file.
struct Way<'a> {
    early: Early,
    file: Arc<File>,
    bytes: &'a [u8],
    sent: usize,
}

impl Way<'_> {
    /// Lets the archive arrive up to a byte.
    fn send(&mut self, end: usize) {
        (&*self.file)
            .write_all(&self.bytes[self.sent..end])
            .unwrap();
        self.early.arrived(end - self.sent);
        self.sent = end;
    }

    fn send_all(&mut self) {
        self.send(self.bytes.len());
    }
}

/// Begins to decode early what will arrive as `arrive` wants it to.
fn on_its_way<T>(
    bytes: &[u8],
    directory: &Path,
    limits: &Limits,
    arrive: impl FnOnce(Way<'_>) -> T,
) -> T {
    let file = Arc::new(tempfile::tempfile().unwrap());
    std::thread::scope(|scope| {
        let early = Early::start(scope, Arc::clone(&file), directory, limits);
        arrive(Way {
            early,
            file,
            bytes,
            sent: 0,
        })
    })
}

/// Extracts an archive that has arrived.
fn extract_from(way: Way<'_>, directory: &Path, threads: usize) -> Result<Vec<String>> {
    assert_eq!(way.sent, way.bytes.len());
    let archive = Archive::open(way.file, &Limits::default())?;
    zip::extract(&archive, way.early, &job(directory), threads)
}

/// Extracts an archive of which everything is decoded early that can be, and again one of which nothing is.
fn extract(bytes: &[u8], directory: &Path, threads: usize) -> Result<Vec<String>> {
    let [early, late] = [true, false].map(|early| {
        let directory = directory.join(if early { "early" } else { "late" });
        std::fs::create_dir(&directory).unwrap();
        on_its_way(bytes, &directory, &Limits::default(), |mut way| {
            way.send_all();
            if early {
                way.early = way.early.exhaust();
            } else {
                way.early.close();
            }
            extract_from(way, &directory, threads)
        })
    });
    assert_eq!(format!("{early:?}"), format!("{late:?}"));
    early
}

/// Says so loudly where members cannot be decoded early.
fn have_unnamed_files(test: &str, directory: &Path) -> bool {
    let have = fs::create_unnamed(directory).is_some();
    if !have {
        let line = format!("SKIPPED: {test}: the file system has no files without names\n");
        // Past the capture of the test harness.
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        if let Some(log) = std::env::var_os("FETCH_CONTENT_SKIP_LOG") {
            let log = File::options().append(true).create(true).open(log);
            log.unwrap().write_all(line.as_bytes()).unwrap();
        }
    }
    have
}

/// Returns where in an archive something is.
fn places_of(wanted: &[u8], bytes: &[u8]) -> Vec<usize> {
    let places = bytes.windows(wanted.len()).enumerate();
    let places = places.filter_map(|(at, window)| (window == wanted).then_some(at));
    places.collect()
}

#[test]
fn what_stands_before_an_archive_is_skipped() {
    for archive in [PLAIN, ZIP64, STREAMED] {
        let alone = open(archive).unwrap();
        let behind = open(&[b"#!/bin/sh\nexec unzip \"$0\"\n", archive].concat()).unwrap();
        for archive in [alone, behind] {
            let [member] = &archive.members[..] else {
                panic!("one member")
            };
            let mut content = String::new();
            let mut reader = archive.reader();
            let mut opened = reader.open(member).unwrap().content;
            opened.read_to_string(&mut content).unwrap();
            assert!(["a", "content"].contains(&&*content), "{content}");
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    for archive in [PLAIN, ZIP64, STREAMED] {
        for length in 0..archive.len() {
            assert!(open(&archive[..length]).is_err(), "{length} bytes");
        }
    }
}

#[test]
fn more_members_than_fit_in_sixteen_bits_are_found() {
    const MEMBERS: usize = 70_000;
    let mut bytes = made(|zip| {
        for n in 0..MEMBERS {
            zip.start_file(n.to_string(), SimpleFileOptions::default())
                .unwrap();
        }
    });
    let archive = open(&bytes).unwrap();
    assert_eq!(archive.members.len(), MEMBERS);
    // Without the Zip64 records, as some writers leave them out.
    let end = bytes.split_off(bytes.len() - 22);
    bytes.truncate(bytes.len() - 20 - 56);
    let start = u32::try_from(
        bytes
            .windows(4)
            .position(|window| window == b"PK\x01\x02")
            .unwrap(),
    )
    .unwrap();
    let count = u16::try_from(MEMBERS & 0xffff).unwrap();
    let mut narrow = end[..8].to_vec();
    narrow.extend(count.to_le_bytes());
    narrow.extend(count.to_le_bytes());
    narrow.extend((u32::try_from(bytes.len()).unwrap() - start).to_le_bytes());
    narrow.extend(start.to_le_bytes());
    narrow.extend([0, 0]);
    bytes.extend(narrow);
    assert_eq!(open(&bytes).unwrap().members.len(), MEMBERS);
}

#[test]
fn names_of_four_thousand_bytes_are_extracted() {
    let name = vec!["n".repeat(249); 16].join("/");
    assert_eq!(name.len(), 3999);
    let bytes = made(|zip| {
        zip.start_file(&name, SimpleFileOptions::default()).unwrap();
        zip.write_all(b"content").unwrap();
    });
    let temp = tempfile::tempdir().unwrap();
    extract(&bytes, temp.path(), 2).unwrap();
    for directory in ["early", "late"] {
        let content = std::fs::read(temp.path().join(directory).join(&name)).unwrap();
        assert_eq!(content, b"content");
    }
}

#[test]
fn the_error_told_is_that_of_the_first_member() {
    let mut bytes = made(|zip| {
        for n in 0..50 {
            zip.start_file(format!("{n:02}"), SimpleFileOptions::default())
                .unwrap();
            zip.write_all(&[b'x'; 100]).unwrap();
        }
    });
    // The CRC-32 of all is wrong, in both headers.
    for signature in [(&b"PK\x03\x04"[..], 14), (b"PK\x01\x02", 16)] {
        let places = places_of(signature.0, &bytes);
        assert_eq!(places.len(), 50);
        for at in places {
            bytes[at + signature.1] ^= 1;
        }
    }
    let archive = open(&bytes).unwrap();
    assert!(
        archive
            .members
            .iter()
            .all(|member| member.kind == MemberKind::File)
    );
    let temp = tempfile::tempdir().unwrap();
    let err = extract(&bytes, temp.path(), 1).unwrap_err();
    assert!(err.to_string().starts_with("cannot unpack `00`"), "{err}");
}

/// Content that takes up more than its half when it is packed.
fn noise(seed: u32) -> Vec<u8> {
    let numbers = (0..5_000_000_u32).map(|n| n.wrapping_mul(0x9E37_79B9) ^ seed);
    numbers.flat_map(u32::to_be_bytes).step_by(4).collect()
}

fn with_members(members: &[(&str, &[u8])]) -> Vec<u8> {
    made(|zip| {
        for (name, content) in members {
            let options = SimpleFileOptions::default().unix_permissions(0o640);
            zip.start_file(*name, options).unwrap();
            zip.write_all(content).unwrap();
        }
    })
}

/// Returns where members begin.
fn starts(bytes: &[u8]) -> Vec<u64> {
    let members = open(bytes).unwrap().members;
    members.iter().map(|member| member.start).collect()
}

fn content_of(mut file: &File) -> Vec<u8> {
    let mut content = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut content).unwrap();
    content
}

#[test]
fn large_members_are_extracted_and_checked_to_their_end() {
    let content = noise(0);
    let mut bytes = with_members(&[("one", &content), ("other", &content)]);
    let temp = tempfile::tempdir().unwrap();
    extract(&bytes, temp.path(), 2).unwrap();
    for path in ["early/one", "early/other", "late/one", "late/other"] {
        let path = temp.path().join(path);
        assert!(std::fs::read(&path).unwrap() == content, "{path:?}");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{path:?}");
    }
    // In the middle of the first.
    let at = bytes.len() / 4;
    bytes[at] ^= 1;
    let temp = tempfile::tempdir().unwrap();
    let err = extract(&bytes, temp.path(), 2).unwrap_err();
    assert!(err.to_string().starts_with("cannot unpack `one`"), "{err}");
}

#[test]
fn members_are_decoded_while_the_archive_arrives() {
    let temp = tempfile::tempdir().unwrap();
    if !have_unnamed_files("members_are_decoded_while_the_archive_arrives", temp.path()) {
        return;
    }
    let (one, other) = (noise(1), noise(2));
    let bytes = with_members(&[("small", b"content"), ("one", &one), ("other", &other)]);
    let starts = starts(&bytes);
    let third = usize::try_from(starts[2]).unwrap();
    let before_the_table = bytes.len() - 300;
    for (there, begun) in [(20, 0), (1000, 2), (third, 2), (before_the_table, 3)] {
        on_its_way(&bytes, temp.path(), &Limits::default(), |mut way| {
            way.send(there);
            way.early.wait_until_begun(begun);
            assert_eq!(way.early.close(), starts[..begun].iter().copied().collect());
            way.send_all();
            let decoded = way.early.finish();
            let contents = [&b"content"[..], &one, &other];
            for (start, content) in starts.iter().zip(contents).take(begun) {
                assert!(content_of(&decoded[start]) == content, "{there}: {start}");
            }
            assert_eq!(decoded.len(), begun);
        });
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn what_is_decoded_early_is_not_decoded_again() {
    let temp = tempfile::tempdir().unwrap();
    if !have_unnamed_files("what_is_decoded_early_is_not_decoded_again", temp.path()) {
        return;
    }
    let content = noise(3);
    let bytes = with_members(&[("d/one", &content)]);
    on_its_way(&bytes, temp.path(), &Limits::default(), |mut way| {
        way.send_all();
        way.early = way.early.exhaust();
        // Nobody could decode that.
        let middle = bytes.len() as u64 / 2;
        way.file.write_all_at(&[0; 1000], middle).unwrap();
        extract_from(way, temp.path(), 2).unwrap();
    });
    assert!(std::fs::read(temp.path().join("d/one")).unwrap() == content);
}

#[test]
fn nothing_is_decoded_early_beyond_the_limits_or_where_no_file_can_be_without_a_name() {
    let content = noise(5);
    let bytes = with_members(&[("one", &content)]);
    let temp = tempfile::tempdir().unwrap();
    let tight = Limits {
        expanded_size: content.len() as u64 - 1,
        ..Limits::default()
    };
    for (directory, limits) in [
        (Path::new("/proc"), Limits::default()),
        (temp.path(), tight),
    ] {
        on_its_way(&bytes, directory, &limits, |mut way| {
            way.send_all();
            way.early = way.early.exhaust();
            assert!(way.early.close().is_empty(), "{directory:?}");
            extract_from(way, temp.path(), 2).unwrap();
        });
        let path = temp.path().join("one");
        assert!(std::fs::read(&path).unwrap() == content);
        std::fs::remove_file(path).unwrap();
    }
}

#[test]
fn an_archive_that_does_not_come_is_not_waited_for() {
    let temp = tempfile::tempdir().unwrap();
    if !have_unnamed_files(
        "an_archive_that_does_not_come_is_not_waited_for",
        temp.path(),
    ) {
        return;
    }
    let bytes = with_members(&[("one", &noise(6))]);
    on_its_way(&bytes, temp.path(), &Limits::default(), |mut way| {
        way.send(1000);
        way.early.wait_until_begun(1);
        drop(way);
    });
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

/// The content of all files below a directory, and the targets of all links.
fn listing(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::files_below(root).unwrap().into_iter();
    let files = files.map(|path| {
        let target = std::fs::read_link(&path).map(|target| target.into_os_string().into_vec());
        let content = target.unwrap_or_else(|_no_link| std::fs::read(&path).unwrap());
        (path.strip_prefix(root).unwrap().to_owned(), content)
    });
    files.collect()
}

/// Each is extracted or refused in the same way, and leaves the same behind.
#[test]
fn hostile_archives_are_the_same_whether_decoded_early_or_not() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hostile/zip");
    let mut accepted = 0;
    for archive in std::fs::read_dir(directory).unwrap() {
        let archive = archive.unwrap().path();
        let temp = tempfile::tempdir().unwrap();
        let bytes = std::fs::read(&archive).unwrap();
        if extract(&bytes, temp.path(), 1).is_err() {
            continue;
        }
        accepted += 1;
        let [early, late] = ["early", "late"].map(|name| listing(&temp.path().join(name)));
        assert_eq!(early, late, "{archive:?}");
    }
    assert!(accepted > 20, "{accepted}");
}

/// Takes a member out of the table of contents.
fn without(name: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 22;
    let mut starts = places_of(b"PK\x01\x02", &bytes);
    starts.push(end);
    let is_named = |entry: &[usize]| bytes[entry[0] + 46..entry[1]].starts_with(name.as_bytes());
    let [from, to] = *starts.windows(2).find(|entry| is_named(entry)).unwrap() else {
        panic!("pairs")
    };
    let members = u16::try_from(starts.len() - 2).unwrap().to_le_bytes();
    let length = end - starts[0] - (to - from);
    bytes[end + 8..end + 10].copy_from_slice(&members);
    bytes[end + 10..end + 12].copy_from_slice(&members);
    bytes[end + 12..end + 16].copy_from_slice(&u32::try_from(length).unwrap().to_le_bytes());
    bytes.drain(from..to);
    bytes
}

#[test]
fn what_is_decoded_early_gets_only_the_names_that_the_table_has() {
    let (old, new) = (noise(3), noise(4));
    let members: [(&str, &[u8]); 4] = [
        ("first", b"small"),
        ("removed", &old),
        ("twice-1", &old),
        ("twice-2", &new),
    ];
    let mut bytes = without("removed", with_members(&members));
    let names = places_of(b"twice-2", &bytes);
    assert_eq!(names.len(), 2);
    for at in names {
        bytes[at + 6] = b'1';
    }
    let temp = tempfile::tempdir().unwrap();
    extract(&bytes, temp.path(), 2).unwrap();
    for directory in ["early", "late"] {
        let directory = temp.path().join(directory);
        let listed = std::fs::read_dir(&directory).unwrap();
        let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["first", "twice-1"]);
        assert!(std::fs::read(directory.join("twice-1")).unwrap() == new);
    }
}
