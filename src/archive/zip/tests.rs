//! The room as a whole. What archives look like that contradict themselves is in `testdata/hostile`.

#![expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]

use super::{Archive, MemberKind};
use crate::archive::{Job, Limits, Placing, zip::extract};
use std::{
    io::{Cursor, Read, Write},
    path::Path,
};
use zip::{ZipWriter, write::SimpleFileOptions};

const PLAIN: &[u8] = include_bytes!("../../../testdata/hostile/zip/end-comment.zip");
const ZIP64: &[u8] = include_bytes!("../../../testdata/hostile/zip/zip64.zip");
const STREAMED: &[u8] = include_bytes!("../../../testdata/hostile/zip/descriptor.zip");

fn open(bytes: &[u8]) -> crate::error::Result<Archive> {
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
    let archive = open(&bytes).unwrap();
    extract(&archive, &job(temp.path()), 2).unwrap();
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
    let err = extract(&archive, &job(temp.path()), 1).unwrap_err();
    assert!(err.to_string().starts_with("cannot unpack `00`"), "{err}");
}

#[test]
fn large_members_are_extracted_and_checked_to_their_end() {
    let content: Vec<u8> = (0..5_000_000_u32)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B9).to_be_bytes())
        .step_by(4)
        .collect();
    let options = SimpleFileOptions::default();
    let mut bytes = made(|zip| {
        for name in ["one", "other"] {
            zip.start_file(name, options).unwrap();
            zip.write_all(&content).unwrap();
        }
    });
    let temp = tempfile::tempdir().unwrap();
    extract(&open(&bytes).unwrap(), &job(temp.path()), 2).unwrap();
    for name in ["one", "other"] {
        assert!(std::fs::read(temp.path().join(name)).unwrap() == content);
    }
    // In the middle of the first.
    let at = bytes.len() / 4;
    bytes[at] ^= 1;
    let temp = tempfile::tempdir().unwrap();
    let err = extract(&open(&bytes).unwrap(), &job(temp.path()), 2).unwrap_err();
    assert!(err.to_string().starts_with("cannot unpack `one`"), "{err}");
}
