//! The room as a whole. What archives look like that contradict themselves is in `testdata/hostile`.

#![expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]

use super::{Archive, Early, MemberKind};
use crate::{
    archive::{Job, Limits, Placing, zip},
    error::Result,
};
use ::zip::{ZipWriter, write::SimpleFileOptions};
use std::{
    io::{Cursor, Read, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
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

/// Extracts an archive that arrives at once.
fn extract(bytes: &[u8], directory: &Path, threads: usize) -> Result<Vec<String>> {
    extract_arriving(bytes, directory, directory, |early| {
        early.arrived(bytes.len());
        threads
    })
}

/// Extracts an archive with as many threads as `arrive` says, which tells how much of it is there.
fn extract_arriving(
    bytes: &[u8],
    directory: &Path,
    scratch: &Path,
    arrive: impl FnOnce(&Early) -> usize,
) -> Result<Vec<String>> {
    std::thread::scope(|scope| {
        let mut file = tempfile::tempfile().unwrap();
        let early = Early::start(scope, &file, scratch, &Limits::default()).unwrap();
        file.write_all(bytes).unwrap();
        let threads = arrive(&early);
        let archive = Archive::open(file, &Limits::default())?;
        zip::extract(&archive, early, &job(directory), threads)
    })
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
    let content = std::fs::read(temp.path().join(name)).unwrap();
    assert_eq!(content, b"content");
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
        let places: Vec<usize> = bytes
            .windows(4)
            .enumerate()
            .filter_map(|(at, window)| (window == signature.0).then_some(at))
            .collect();
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

/// Waits until so many members are in work.
fn wait_until_begun(early: &Early, members: usize) {
    let started = Instant::now();
    while early.begun() < members {
        assert!(started.elapsed() < Duration::from_mins(1), "not begun");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn large_members_are_extracted_and_checked_to_their_end() {
    let content = noise(0);
    let mut bytes = with_members(&[("one", &content), ("other", &content)]);
    let temp = tempfile::tempdir().unwrap();
    extract(&bytes, temp.path(), 2).unwrap();
    for name in ["one", "other"] {
        assert!(std::fs::read(temp.path().join(name)).unwrap() == content);
    }
    // In the middle of the first.
    let at = bytes.len() / 4;
    bytes[at] ^= 1;
    for early in [0, 1] {
        let temp = tempfile::tempdir().unwrap();
        let err = extract_arriving(&bytes, temp.path(), temp.path(), |members| {
            if early > 0 {
                members.arrived(bytes.len());
            }
            wait_until_begun(members, early);
            2
        });
        let err = err.unwrap_err().to_string();
        assert!(err.starts_with("cannot unpack `one`"), "{early}: {err}");
    }
}

#[test]
fn large_members_are_decoded_before_the_archive_is_whole() {
    let (one, other) = (noise(1), noise(2));
    let members = [("a", &b"small"[..]), ("b/one", &one), ("c/other", &other)];
    let bytes = with_members(&members);
    let table = bytes.len() - 300;
    for (there, begun) in [(0, 0), (100, 1), (bytes.len() / 2 + 1000, 2), (table, 2)] {
        let temp = tempfile::tempdir().unwrap();
        let warnings = extract_arriving(&bytes, temp.path(), temp.path(), |early| {
            early.arrived(there);
            wait_until_begun(early, begun);
            early.arrived(bytes.len() - there);
            2
        });
        assert_eq!(warnings.unwrap(), [""; 0]);
        for (name, content) in members {
            let path = temp.path().join(name);
            assert!(std::fs::read(&path).unwrap() == content, "{there}: {name}");
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o640, "{there}: {name}");
        }
        assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 3);
    }
}

/// Takes a member out of the table of contents.
fn without(name: &str, mut bytes: Vec<u8>) -> Vec<u8> {
    let entries = bytes.windows(4).enumerate();
    let entries = entries.filter_map(|(at, window)| (window == b"PK\x01\x02").then_some(at));
    let end = bytes.len() - 22;
    let starts: Vec<usize> = entries.chain([end]).collect();
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
    let names = bytes.windows(7).enumerate();
    let names = names.filter_map(|(at, window)| (window == b"twice-2").then_some(at));
    let names: Vec<usize> = names.collect();
    assert_eq!(names.len(), 2);
    for at in names {
        bytes[at + 6] = b'1';
    }
    let temp = tempfile::tempdir().unwrap();
    let warnings = extract_arriving(&bytes, temp.path(), temp.path(), |early| {
        early.arrived(bytes.len());
        wait_until_begun(early, 3);
        2
    });
    assert_eq!(warnings.unwrap(), [""; 0]);
    let listed = std::fs::read_dir(temp.path()).unwrap();
    let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["first", "twice-1"]);
    assert!(std::fs::read(temp.path().join("twice-1")).unwrap() == new);
}

#[test]
fn where_no_file_can_be_without_a_name_nothing_is_decoded_early() {
    let content = noise(5);
    let bytes = with_members(&[("one", &content)]);
    let temp = tempfile::tempdir().unwrap();
    let nowhere = Path::new("/proc");
    let warnings = extract_arriving(&bytes, temp.path(), nowhere, |early| {
        early.arrived(bytes.len());
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(early.begun(), 0);
        2
    });
    assert_eq!(warnings.unwrap(), [""; 0]);
    assert!(std::fs::read(temp.path().join("one")).unwrap() == content);
}
