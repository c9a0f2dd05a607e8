//! Repacking: an archive of any kind becomes a `.tar.zst` in one pass, the same bytes on every machine.
//!
//! ```text
//! tar:   decode (thread) ─▶ as it is, or from_tar (names rewritten) ─▶ writer: tar ─▶ zstd (threads) ─▶ file
//! zip:   spooled ─▶ from_zip (directory order) ─────────────────────▶
//! other: spooled ─▶ one member ─────────────────────────────────────▶
//! ```
//!
//! A directory is packed by the same writer ([`from_tree`]).

mod from_tar;
pub(super) mod from_tree;
mod from_zip;
mod gzip;
pub(super) mod layer;
mod member;
mod naming;
mod writer;

use crate::{
    archive::{
        Job, cores, decode,
        format::{Compression, Format, Rewindable},
        limits::Limits,
        spool,
        tar::read_error,
    },
    error::{Error, Result},
    stream::ReadAhead,
};
use member::Member;
pub(crate) use naming::is_tar_zst;
use std::{
    fs::File,
    io::{BufRead, Read, Seek},
};
use writer::TarZst;

/// Magic numbers of programs: ELF, and Mach-O for one or several processors, in either byte order.
const PROGRAMS: [[u8; 4]; 6] = [
    *b"\x7fELF",
    *b"\xfe\xed\xfa\xce",
    *b"\xce\xfa\xed\xfe",
    *b"\xfe\xed\xfa\xcf",
    *b"\xcf\xfa\xed\xfe",
    *b"\xca\xfe\xba\xbe",
];

/// How an archive is repacked to `.tar.zst`.
///
/// If names stay as they are, a tar archive is only recompressed: every byte of the tar is kept. Otherwise, and from
/// zip, it is written anew: directories are dropped, since the names of their content imply them; times, modes and
/// owners are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repack {
    /// How many leading components names lose. A `.` is one, too. A file that has no more than that is an error.
    pub strip_components: usize,
    /// What is put in front of names, as it is: a directory needs its `/`.
    pub add_prefix: String,
    /// The name of the one member that content becomes which is no archive. Without it such content is an error.
    pub wrap_as: Option<String>,
}

/// Repacks content to the job's file.
pub(super) fn repack(
    mut source: Rewindable,
    format: Format,
    repack: &Repack,
    job: &Job,
) -> Result<()> {
    let threads = u32::try_from(cores()).unwrap_or(1);
    let mut out = TarZst::create(&job.directory.join(&job.file_name), threads)?;
    match (format, &repack.wrap_as) {
        (Format::Tar(compression), _) => {
            let decoded =
                decode::parallel(compression, source, threads, &job.limits).map_err(read_error)?;
            tar(decoded, compression, repack, &job.limits, &mut out)?;
        }
        (Format::Zip, _) => {
            let file = spool(&mut source, &job.directory)?;
            from_zip::rewrite(file, repack, &job.limits, &mut out)?;
        }
        (Format::Other, Some(name)) => {
            let name = repack.rename(name.as_bytes())?;
            wrap(spool(&mut source, &job.directory)?, name, &mut out)?;
        }
        (Format::Other, None) => {
            return Err(Error::archive(
                "Archive type not supported: neither tar nor zip (--force-archive packs any file)",
            ));
        }
    }
    out.finish()
}

fn tar(
    decoded: impl Read + Send,
    compression: Compression,
    repack: &Repack,
    limits: &Limits,
    out: &mut TarZst,
) -> Result<()> {
    std::thread::scope(|scope| {
        let mut decoded = ReadAhead::start(scope, decoded);
        if repack.renames() {
            return from_tar::rewrite(decoded, compression, repack, limits, out);
        }
        loop {
            let bytes = decoded.fill_buf().map_err(read_error)?;
            if bytes.is_empty() {
                return Ok(());
            }
            out.write(bytes)?;
            let length = bytes.len();
            decoded.consume(length);
        }
    })
}

/// Makes an archive of a file that is none. Its time is the epoch; the Python tool takes the time of the download, and
/// so makes another archive in every run.
fn wrap(mut file: File, name: Vec<u8>, out: &mut TarZst) -> Result<()> {
    let mut magic = Vec::new();
    file.rewind().map_err(read_error)?;
    (&file)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(read_error)?;
    file.rewind().map_err(read_error)?;
    let program = PROGRAMS.iter().any(|program| magic == program);
    let member = Member {
        mode: if program { 0o755 } else { 0o644 },
        size: file.metadata().map_err(read_error)?.len(),
        ..Member::file(name)
    };
    out.append(&member, file)?;
    out.end_archive()
}

#[cfg(test)]
mod tests {
    use super::{wrap, writer::tests::written};
    use std::io::{Read, Write};

    #[test]
    fn programs_are_executable_and_times_are_the_epoch() {
        for (content, mode) in [
            (&b"\x7fELF and more"[..], 0o755),
            (b"\xca\xfe\xba\xbe", 0o755),
            (b"#!/bin/sh", 0o644),
            (b"\x7fEL", 0o644),
            (b"", 0o644),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content).unwrap();
            let tar = written(|out| wrap(file, b"tool".to_vec(), out)).unwrap();
            let mut archive = tar::Archive::new(&tar[..]);
            let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
            let mut packed = Vec::new();
            entry.read_to_end(&mut packed).unwrap();
            let header = entry.header();
            assert_eq!((header.mode().unwrap(), header.mtime().unwrap()), (mode, 0));
            assert_eq!((&*entry.path_bytes(), &*packed), (&b"tool"[..], content));
        }
    }
}
