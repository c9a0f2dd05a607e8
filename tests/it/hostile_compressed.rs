//! Compressed archives that are cut off, damaged, too greedy or bombs. Each has a line in a table that says what becomes
//! of it, and is checked in as `testdata/hostile/compressed/*`. Encoders make other bytes from version to version, so the
//! files are what is tested, and the recipes are there to make them anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bzip2::write::BzEncoder;
use flate2::Crc;
use flate2::write::GzEncoder;
use liblzma::stream::{LzmaOptions, Stream};
use liblzma::write::XzEncoder;
use serde_json::json;

use crate::support::archives::noise;
use crate::support::raw_tar::raw;
use crate::support::sandbox::{Outcome, Sandbox, TASK_A};
use crate::support::server::{Reply, Server};

/// No file is larger than this, in bytes.
const MAX_FILE: usize = 16_000;

/// The variables that set limits.
const SIZE: &str = "FETCH_CONTENT_MAX_EXPANDED_SIZE";
const ENTRIES: &str = "FETCH_CONTENT_MAX_ENTRIES";
const DEPTH: &str = "FETCH_CONTENT_MAX_PATH_DEPTH";
const LENGTH: &str = "FETCH_CONTENT_MAX_PATH_LENGTH";
const HEADERS: &str = "FETCH_CONTENT_MAX_HEADER_SIZE";
const WINDOW: &str = "FETCH_CONTENT_MAX_WINDOW";

/// How archives are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Gzip,
    Zstd,
    Xz,
    Lzma,
    Bzip2,
}

use Format::{Bzip2, Gzip, Lzma, Xz, Zstd};

/// What becomes of an archive.
#[derive(Clone, Copy)]
enum End {
    /// It is extracted.
    Extracted,
    /// It is refused as damaged, and the message has this.
    Damaged(&'static str),
    /// It is refused at the limit that this variable sets, by default.
    Greedy(&'static str),
    /// It is refused at the limit that this variable sets, when that is set to this.
    Bomb(&'static str, &'static str),
}

use End::{Bomb, Damaged, Extracted, Greedy};

/// A class, how it is compressed, what makes it, and what becomes of it.
type Row = (&'static str, Format, fn(Format) -> Vec<u8>, End);

fn file_name((class, format, ..): &Row) -> String {
    let suffix = match format {
        Gzip => "gz",
        Zstd => "zst",
        Xz => "xz",
        Lzma => "lzma",
        Bzip2 => "bz2",
    };
    format!("{class}.tar.{suffix}")
}

impl Format {
    /// Compresses, with checksums. What precedes the end of a part can be decoded without what follows, where the format
    /// and its encoder can do that.
    fn pack(self, parts: &[&[u8]]) -> Vec<u8> {
        let packed = match self {
            Gzip => {
                let encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
                feed(encoder, parts, true).and_then(GzEncoder::finish)
            }
            Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), 9).expect("a zstd encoder");
                encoder.include_checksum(true).expect("a zstd encoder");
                feed(encoder, parts, true).and_then(zstd::Encoder::finish)
            }
            Xz => feed(XzEncoder::new(Vec::new(), 6), parts, true).and_then(XzEncoder::finish),
            Lzma => {
                let options = LzmaOptions::new_preset(6).expect("a preset");
                let stream = Stream::new_lzma_encoder(&options).expect("an encoder");
                let encoder = XzEncoder::new_stream(Vec::new(), stream);
                feed(encoder, parts, false).and_then(XzEncoder::finish)
            }
            Bzip2 => {
                let encoder = BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                feed(encoder, parts, false).and_then(BzEncoder::finish)
            }
        };
        packed.expect("compress into memory")
    }

    /// Fills a block of bzip2, which can only be decoded whole. Others need no such thing.
    fn filler(self) -> Vec<u8> {
        match self {
            Bzip2 => noise(64, 5).repeat(1800),
            _ => Vec::new(),
        }
    }

    /// How an archive begins: enough to tell what it is.
    fn beginning(self) -> Vec<u8> {
        let content = [noise(700, 1), self.filler()].concat();
        raw().file("top/first", content).cut()
    }

    /// A whole archive.
    fn archive(self) -> Vec<u8> {
        self.pack(&[&self.beginning(), &rest()])
    }

    /// One with more behind the mark of its end than is decoded ahead. It is ignored, but read.
    fn archive_and_more(self) -> Vec<u8> {
        let behind = [vec![0; 600_000], self.filler(), noise(900, 3)].concat();
        self.pack(&[&self.beginning(), &rest(), &behind])
    }

    /// One in two members, frames or streams.
    fn members(self) -> [Vec<u8>; 2] {
        [self.pack(&[&self.beginning()]), self.pack(&[&rest()])]
    }
}

fn feed<E: Write>(mut encoder: E, parts: &[&[u8]], flushes: bool) -> io::Result<E> {
    for (n, part) in parts.iter().enumerate() {
        if n > 0 && flushes {
            encoder.flush()?;
        }
        encoder.write_all(part)?;
    }
    Ok(encoder)
}

/// How an archive goes on, with its end.
fn rest() -> Vec<u8> {
    raw().file("top/second", noise(900, 2)).end()
}

/// Takes bytes off the end.
fn cut(mut bytes: Vec<u8>, count: usize) -> Vec<u8> {
    bytes.truncate(bytes.len() - count);
    bytes
}

/// Flips a bit of the byte that is so far from the end; the last one is 1.
fn flip(mut bytes: Vec<u8>, from_end: usize) -> Vec<u8> {
    let at = bytes.len() - from_end;
    bytes[at] ^= 0x10;
    bytes
}

/// Appends.
fn then(first: &[u8], second: impl AsRef<[u8]>) -> Vec<u8> {
    [first, second.as_ref()].concat()
}

/// Changes an xz stream so many bytes in front of its index. There is the checksum of the last block.
fn at_index(stream: Vec<u8>, change: fn(Vec<u8>, usize) -> Vec<u8>, distance: usize) -> Vec<u8> {
    let size = stream[stream.len() - 8..].first_chunk().expect("a footer");
    let units = u32::from_le_bytes(*size) + 1;
    let tail = 12 + 4 * usize::try_from(units).expect("a small index");
    change(stream, tail + distance)
}

/// An xz stream whose dictionary is told to be of another size, by the code for it.
fn xz_with_dictionary(code: u8) -> Vec<u8> {
    let mut stream = Xz.archive();
    let size = 4 * (usize::from(stream[12]) + 1);
    let header = &mut stream[12..12 + size];
    assert_eq!(header[2..4], [0x21, 1], "LZMA2 and nothing else");
    header[4] = code;
    let mut crc = Crc::new();
    crc.update(&header[..size - 4]);
    header[size - 4..].copy_from_slice(&crc.sum().to_le_bytes());
    stream
}

/// The same for `.lzma`, by the size.
fn lzma_with_dictionary(size: u32) -> Vec<u8> {
    let mut stream = Lzma.archive();
    stream[1..5].copy_from_slice(&size.to_le_bytes());
    stream
}

/// A zstd frame with this descriptor and what belongs to it, and one raw block.
fn zstd_with_header(header: &[u8]) -> Vec<u8> {
    let tar = raw().file("top/f", "x").end();
    let block = u32::try_from(tar.len() << 3 | 1).expect("a small block");
    let block = &block.to_le_bytes()[..3];
    [b"\x28\xb5\x2f\xfd", header, block, &tar].concat()
}

/// A gzip member with these flags and what belongs to them.
fn gzip_with_header(flags: u8, fields: &[u8], data: &[u8]) -> Vec<u8> {
    [
        b"\x1f\x8b\x08",
        &[flags][..],
        b"\0\0\0\0\x02\x03",
        fields,
        data,
    ]
    .concat()
}

fn zeros(format: Format) -> Vec<u8> {
    let content = vec![0; 3_000_000];
    format.pack(&[&raw().file("top/zeros", content).end()])
}

fn directories(format: Format) -> Vec<u8> {
    let members = raw().dir("top").cut().repeat(100_001);
    format.pack(&[&raw().bytes(members).end()])
}

/// What ends early.
#[rustfmt::skip]
fn cut_off() -> Vec<Row> {
    vec![
        ("cut-early", Gzip, |f| f.archive()[..40].to_vec(), Damaged("")),
        ("cut-early", Zstd, |f| f.archive()[..40].to_vec(), Damaged("")),
        ("cut-early", Xz, |f| f.archive()[..40].to_vec(), Damaged("")),
        ("cut-early", Lzma, |f| f.archive()[..40].to_vec(), Damaged("")),
        ("cut-early", Bzip2, |f| f.archive()[..40].to_vec(), Damaged("")),
        ("cut-in-the-data", Gzip, |f| cut(f.archive(), 400), Damaged("incomplete deflate stream")),
        ("cut-in-the-data", Zstd, |f| cut(f.archive(), 400), Damaged("incomplete frame")),
        ("cut-in-the-data", Xz, |f| cut(f.archive(), 400), Damaged("premature eof")),
        ("cut-in-the-data", Lzma, |f| cut(f.archive(), 400), Damaged("premature eof")),
        ("cut-in-the-data", Bzip2, |f| cut(f.archive(), 400), Damaged("ends early")),
        ("cut-before-the-checksum", Gzip, |f| cut(f.archive(), 8), Damaged("unexpected end of file")),
        ("cut-before-the-checksum", Zstd, |f| cut(f.archive(), 4), Damaged("incomplete frame")),
        ("cut-in-the-checksum", Gzip, |f| cut(f.archive(), 6), Damaged("unexpected end of file")),
        ("cut-in-the-checksum", Zstd, |f| cut(f.archive(), 2), Damaged("incomplete frame")),
        ("cut-in-the-checksum", Xz, |f| at_index(f.archive(), cut, 3), Damaged("premature eof")),
        ("cut-in-the-checksum", Bzip2, |f| cut(f.archive(), 3), Damaged("ends early")),
        ("cut-in-the-size", Gzip, |f| cut(f.archive(), 2), Damaged("unexpected end of file")),
        ("cut-in-the-end-mark", Lzma, |f| cut(f.archive(), 3), Damaged("premature eof")),
        ("cut-before-the-index", Xz, |f| at_index(f.archive(), cut, 0), Damaged("premature eof")),
        ("cut-in-the-index", Xz, |f| cut(f.archive(), 15), Damaged("premature eof")),
        ("cut-in-the-footer", Xz, |f| cut(f.archive(), 5), Damaged("premature eof")),
        ("cut-before-the-second-member", Gzip, |f| then(&f.members()[0], &f.members()[1][..5]), Damaged("unexpected end of file")),
        ("cut-before-the-second-member", Zstd, |f| then(&f.members()[0], &f.members()[1][..5]), Damaged("incomplete frame")),
        ("cut-before-the-second-member", Xz, |f| then(&f.members()[0], &f.members()[1][..9]), Damaged("premature eof")),
        ("cut-before-the-second-member", Bzip2, |f| then(&f.members()[0], &f.members()[1][..9]), Damaged("ends early")),
        ("cut-behind-the-archive", Gzip, |f| cut(f.archive_and_more(), 400), Damaged("incomplete deflate stream")),
        ("cut-behind-the-archive", Zstd, |f| cut(f.archive_and_more(), 400), Damaged("incomplete frame")),
        ("cut-behind-the-archive", Xz, |f| cut(f.archive_and_more(), 400), Damaged("premature eof")),
        ("cut-behind-the-archive", Lzma, |f| cut(f.archive_and_more(), 400), Damaged("premature eof")),
        ("cut-behind-the-archive", Bzip2, |f| cut(f.archive_and_more(), 400), Damaged("ends early")),
        ("cut-in-a-skippable-frame", Zstd, |f| then(&f.archive(), b"\x50\x2a\x4d\x18\xe8\x03\0\0abc"), Damaged("incomplete frame")),
        ("cut-in-the-extra-field", Gzip, |_| gzip_with_header(4, b"\xe8\x03", b"abc"), Damaged("")),
        ("cut-in-the-name", Gzip, |_| gzip_with_header(8, b"first.ta", b""), Damaged("")),
    ]
}

/// What has a wrong bit.
#[rustfmt::skip]
fn flipped() -> Vec<Row> {
    vec![
        ("flip-in-the-data", Gzip, |f| flip(f.archive(), 400), Damaged("matching checksum")),
        ("flip-in-the-data", Zstd, |f| flip(f.archive(), 400), Damaged("doesn't match checksum")),
        ("flip-in-the-data", Xz, |f| flip(f.archive(), 400), Damaged("lzma data error")),
        ("flip-in-the-data", Lzma, |f| flip(f.archive(), 400), Damaged("lzma data error")),
        ("flip-in-the-data", Bzip2, |f| flip(f.archive(), 400), Damaged("bzip2: invalid data")),
        ("flip-in-the-checksum", Gzip, |f| flip(f.archive(), 7), Damaged("matching checksum")),
        ("flip-in-the-checksum", Zstd, |f| flip(f.archive(), 2), Damaged("doesn't match checksum")),
        ("flip-in-the-checksum", Xz, |f| at_index(f.archive(), flip, 3), Damaged("lzma data error")),
        ("flip-in-the-checksum", Bzip2, |f| flip(f.archive(), 2), Damaged("wrong combined CRC")),
        ("flip-in-the-checksum-of-a-block", Bzip2, |f| flip(f.archive(), f.archive().len() - 11), Damaged("bzip2: invalid data")),
        ("flip-in-the-checksum-of-a-later-block", Bzip2, |f| { let [a, b] = f.members(); let n = b.len() - 11; then(&a, flip(b, n)) }, Damaged("bzip2: invalid data")),
        ("flip-in-the-size", Gzip, |f| flip(f.archive(), 3), Damaged("matching checksum")),
        ("flip-in-the-index", Xz, |f| flip(f.archive(), 20), Damaged("lzma data error")),
        ("flip-in-the-footer", Xz, |f| flip(f.archive(), 10), Damaged("lzma data error")),
        ("flip-behind-the-archive", Gzip, |f| flip(f.archive_and_more(), 400), Damaged("matching checksum")),
        ("flip-behind-the-archive", Zstd, |f| flip(f.archive_and_more(), 400), Damaged("doesn't match checksum")),
        ("flip-behind-the-archive", Xz, |f| flip(f.archive_and_more(), 400), Damaged("lzma data error")),
        ("flip-behind-the-archive", Lzma, |f| flip(f.archive_and_more(), 400), Damaged("lzma data error")),
        ("flip-behind-the-archive", Bzip2, |f| flip(f.archive_and_more(), 400), Damaged("bzip2: invalid data")),
        ("flip-in-the-checksum-of-the-first-member", Gzip, |f| { let [a, b] = f.members(); then(&flip(a, 7), b) }, Damaged("matching checksum")),
        ("flip-in-the-checksum-of-the-first-member", Zstd, |f| { let [a, b] = f.members(); then(&flip(a, 2), b) }, Damaged("doesn't match checksum")),
        ("flip-in-the-checksum-of-the-first-member", Xz, |f| { let [a, b] = f.members(); then(&at_index(a, flip, 3), b) }, Damaged("lzma data error")),
        ("flip-in-the-checksum-of-the-first-member", Bzip2, |f| { let [a, b] = f.members(); then(&flip(a, 2), b) }, Damaged("wrong combined CRC")),
        ("flip-in-the-second-member", Gzip, |f| flip(f.members().concat(), 400), Damaged("matching checksum")),
        ("flip-in-the-second-member", Zstd, |f| flip(f.members().concat(), 400), Damaged("doesn't match checksum")),
        ("flip-in-the-second-member", Xz, |f| flip(f.members().concat(), 400), Damaged("lzma data error")),
        ("flip-in-the-second-member", Bzip2, |f| flip(f.members().concat(), 400), Damaged("bzip2: invalid data")),
        ("checksum-of-the-header", Gzip, |_| gzip_with_header(2, b"\x12\x34", &Gzip.archive()[10..]), Damaged("")),
        ("reserved-flag", Gzip, |_| gzip_with_header(32, b"", &Gzip.archive()[10..]), Damaged("")),
    ]
}

/// What is behind the end of the compressed data.
#[rustfmt::skip]
fn behind() -> Vec<Row> {
    vec![
        ("garbage-behind", Gzip, |f| then(&f.archive(), "garbage"), Damaged("something else follows")),
        ("garbage-behind", Zstd, |f| then(&f.archive(), "garbage"), Damaged("Unknown frame descriptor")),
        ("garbage-behind", Xz, |f| then(&f.archive(), "garbage"), Damaged("something else follows")),
        ("garbage-behind", Lzma, |f| then(&f.archive(), "garbage"), Damaged("something else follows")),
        ("garbage-behind", Bzip2, |f| then(&f.archive(), "garbage"), Extracted),
        ("zeros-behind", Gzip, |f| then(&f.archive(), [0; 3]), Extracted),
        ("zeros-behind", Zstd, |f| then(&f.archive(), [0; 4]), Damaged("Unknown frame descriptor")),
        ("zeros-behind", Xz, |f| then(&f.archive(), [0; 8]), Extracted),
        ("three-zeros-behind", Xz, |f| then(&f.archive(), [0; 3]), Damaged("odd length")),
        ("zeros-behind", Lzma, |f| then(&f.archive(), [0; 4]), Damaged("odd length")),
        ("zeros-behind", Bzip2, |f| then(&f.archive(), [0; 4]), Extracted),
        ("second-member", Lzma, |f| f.members().concat(), Damaged("something else follows")),
    ]
}

/// What asks for too much memory, and what becomes too large.
#[rustfmt::skip]
fn too_large() -> Vec<Row> {
    vec![
        ("window-of-256-mebibytes", Zstd, |_| zstd_with_header(b"\0\x90"), Greedy(WINDOW)),
        ("window-of-2-gibibytes", Zstd, |_| zstd_with_header(b"\0\xa8"), Greedy(WINDOW)),
        ("window-of-3840-gibibytes", Zstd, |_| zstd_with_header(b"\0\xff"), Greedy(WINDOW)),
        ("segment-of-1-gibibyte", Zstd, |_| zstd_with_header(b"\xa0\0\0\0\x40"), Greedy(WINDOW)),
        ("dictionary-that-is-missing", Zstd, |_| zstd_with_header(b"\x01\x50\x07"), Damaged("")),
        ("dictionary-of-1536-mebibytes", Xz, |_| xz_with_dictionary(37), Greedy(WINDOW)),
        ("dictionary-of-4-gibibytes", Xz, |_| xz_with_dictionary(40), Greedy(WINDOW)),
        ("dictionary-of-2-gibibytes", Lzma, |_| lzma_with_dictionary(1 << 31), Greedy(WINDOW)),
        ("dictionary-of-4-gibibytes", Lzma, |_| lzma_with_dictionary(u32::MAX), Greedy(WINDOW)),
        ("bomb", Gzip, zeros, Bomb(SIZE, "1000000")),
        ("bomb", Zstd, zeros, Bomb(SIZE, "1000000")),
        ("bomb", Xz, zeros, Bomb(SIZE, "1000000")),
        ("bomb", Lzma, zeros, Bomb(SIZE, "1000000")),
        ("bomb", Bzip2, zeros, Bomb(SIZE, "1000000")),
        ("bomb-of-members", Zstd, directories, Bomb(ENTRIES, "100000")),
        ("deep-path", Gzip, |f| f.pack(&[&raw().file(&("d/".repeat(30) + "f"), "x").end()]), Bomb(DEPTH, "30")),
        ("long-path", Gzip, |f| f.pack(&[&raw().file(&"n".repeat(90), "x").end()]), Bomb(LENGTH, "89")),
        ("extended-header-of-2-mebibytes", Zstd, |f| f.pack(&[&raw().long(b'L', vec![b'n'; 2 << 20]).file("f", "x").end()]), Greedy(HEADERS)),
    ]
}

fn all() -> Vec<Row> {
    [cut_off(), flipped(), behind(), too_large()].concat()
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hostile/compressed")
}

fn checked_in(row: &Row) -> Vec<u8> {
    let name = file_name(row);
    fs::read(testdata().join(&name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

#[test]
fn every_row_has_a_file_and_every_file_a_row() {
    let mut expected = BTreeSet::new();
    for row in all() {
        let name = file_name(&row);
        if std::env::var_os("UPDATE_TESTDATA").is_some() {
            fs::create_dir_all(testdata()).expect("make the directory");
            fs::write(testdata().join(&name), (row.2)(row.1)).expect("write an archive");
        }
        let size = checked_in(&row).len();
        assert!(size <= MAX_FILE, "{name} has {size} bytes");
        assert!(expected.insert(name), "two rows for {}", file_name(&row));
    }
    let entries = fs::read_dir(testdata()).expect("the directory");
    let there: BTreeSet<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.into_string().expect("a name of ours"))
        .collect();
    assert_eq!(there, expected, "files and rows");
    let readme = testdata().with_file_name("README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    for (class, ..) in all() {
        let described = readme.contains(&format!("`{class}`"));
        assert!(described, "{class} is not in testdata/hostile/README.md");
    }
}

/// What we make of a row's file out of a store, in an address space of 1 GiB.
fn extracted(sandbox: &Sandbox, row: &Row) -> Outcome {
    let artifact = format!("public/{}", file_name(row));
    let stored = format!("store/task/{TASK_A}/artifacts/{artifact}");
    sandbox.write(&stored, checked_in(row));
    let program = env!("CARGO_BIN_EXE_fetch-content");
    let list = json!([{"task": TASK_A, "artifact": artifact}]).to_string();
    let run = sandbox
        .program("sh")
        .args(["-c", "ulimit -v 1048576; exec \"$@\"", "sh", program])
        .args(["task-artifacts", "--store", "store", "--dest", "fetches"])
        .env("MOZ_FETCHES", list);
    let run = match row.3 {
        Bomb(variable, value) => run.env(variable, value),
        _ => run,
    };
    run.run()
}

/// What the message about a row has to say; nothing if it is extracted.
fn reasons(end: End) -> Option<[&'static str; 2]> {
    match end {
        Extracted => None,
        Damaged(why) => Some(["the archive is damaged", why]),
        Greedy(variable) | Bomb(variable, _) => Some(["hint: ", variable]),
    }
}

/// What is in a sandbox beside the store and the destination itself: results, staging, strays.
fn left(sandbox: &Sandbox) -> Vec<String> {
    let tree = sandbox.tree();
    let paths = tree.paths().into_iter();
    let strays = paths.filter(|path| *path != "fetches" && !path.starts_with("store"));
    strays.map(str::to_owned).collect()
}

#[test]
fn what_is_damaged_or_too_large_is_refused_and_leaves_nothing() {
    let mut wrong = String::new();
    for row in all() {
        let Some(reasons) = reasons(row.3) else {
            continue;
        };
        let sandbox = Sandbox::new();
        let outcome = extracted(&sandbox, &row);
        let (code, name, error) = (outcome.status.code(), file_name(&row), outcome.error());
        let told = error.contains(&name) && reasons.iter().all(|why| error.contains(why));
        let brief = outcome.lines("error:").len() == 1 && outcome.stderr.len() < 2000;
        let left = left(&sandbox);
        if code != Some(5) || !told || !brief || !left.is_empty() {
            let stderr = &outcome.stderr;
            let _ = writeln!(wrong, "{name}: exit code {code:?}, left {left:?}\n{stderr}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_is_harmless_behind_the_end_is_ignored() {
    for row in all() {
        if reasons(row.3).is_some() {
            continue;
        }
        let sandbox = Sandbox::new();
        let outcome = extracted(&sandbox, &row).expect_code(0);
        let tree = sandbox.fetched();
        let expected = ["top", "top/first", "top/second"];
        assert_eq!(tree.paths(), expected, "{}: {outcome:?}", file_name(&row));
        assert!(sandbox.read("fetches/top/second") == noise(900, 2));
    }
}

/// Also if the damage is behind the mark of the archive's end, where there is nothing to be repacked.
#[test]
fn what_is_damaged_is_not_repacked_and_leaves_nothing() {
    let server = Server::start();
    let mut wrong = String::new();
    for row in all() {
        let Damaged(why) = row.3 else { continue };
        let (name, archive) = (file_name(&row), checked_in(&row));
        let path = format!("/{name}");
        server.serve(&path, Reply::ok(&archive));
        for options in [&["--strip-components", "1"][..], &[]] {
            if row.1 == Zstd && options.is_empty() {
                // It is what it is to become, and so it is kept as it is.
                continue;
            }
            let sandbox = Sandbox::new();
            let run = sandbox.static_url(&archive, &server.url(&path), "out/a.tar.zst");
            let outcome = run.args(options).run();
            let (code, error) = (outcome.status.code(), outcome.error());
            let told = error.contains(&name) && error.contains(why);
            if code != Some(5) || !told || !sandbox.tree().is_empty() {
                let _ = writeln!(wrong, "{name} with {options:?}: {outcome:?}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
