//! The records at the end of an archive, which tell where its table of contents is (APPNOTE 4.3.14 to 4.3.16).
//!
//! Readers find them in different ways, from the end or by the length of the comment, by offset or by adjacency. What
//! comes out here is what all of them find; an archive in which they would find different tables is refused.

use super::{fields::Fields, shared_file::SharedFile};
use crate::{
    archive::tar::read_error,
    error::{Error, Result},
};

const END: &[u8] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const LOCATOR: &[u8] = b"PK\x06\x07";
const LOCATOR_LENGTH: u64 = 20;
const END64: &[u8] = b"PK\x06\x06";
const END64_LENGTH: u64 = 56;

/// Where the table of contents is, and how much is in it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) start: u64,
    pub(super) end: u64,
    /// How many entries the end record announces.
    entries: u64,
    /// Whether that number is all of it; without Zip64 it is the lower 16 bits.
    exact: bool,
    /// What all offsets are short by: the length of what stands before the archive, such as a program that extracts it.
    pub(super) shift: u64,
}

impl Directory {
    /// Returns whether a table with so many entries is the announced one.
    pub(super) fn announces(&self, entries: u64) -> bool {
        self.entries
            == if self.exact {
                entries
            } else {
                entries & 0xffff
            }
    }
}

/// What an end record says. The widest form of both kinds.
#[derive(Clone, Copy, PartialEq, Eq)]
struct EndRecord {
    disks: [u32; 2],
    entries: [u64; 2],
    size: u64,
    offset: u64,
}

/// Finds the table of contents.
pub(super) fn find(file: &SharedFile) -> Result<Directory> {
    let window = (END_LENGTH as u64 + 0xffff).min(file.length());
    let tail_start = file.length() - window;
    let tail = read(file, tail_start, window)?;
    let position = end_position(&tail)?;
    let record = parse_end(&tail[position..]).ok_or_else(cut_off)?;
    let position = tail_start + position as u64;
    let directory = match find_end64(file, position, &record)? {
        Some((start, record, shift)) => directory(&record, start, Some(shift))?,
        None => directory(&record, position, None)?,
    };
    Ok(directory)
}

/// Returns where in the tail of the archive the end record is: the last place where one can be.
fn end_position(tail: &[u8]) -> Result<usize> {
    let comment_end = |position: usize| {
        let length = Fields::of(&tail[position + 20..]).u16().unwrap_or(0);
        position + END_LENGTH + usize::from(length)
    };
    let mut places = tail
        .windows(END_LENGTH)
        .enumerate()
        .filter_map(|(position, window)| window.starts_with(END).then_some(position));
    let Some(last) = places.next_back() else {
        return Err(cut_off());
    };
    // Who goes by the length of the comment would take such a one.
    if places.any(|position| comment_end(position) == tail.len()) {
        return Err(Error::archive(
            "the archive has two end records, and readers differ in which one counts",
        ));
    }
    if comment_end(last) > tail.len() {
        return Err(Error::archive(
            "the archive is cut off: its comment is shorter than announced",
        ));
    }
    Ok(last)
}

fn cut_off() -> Error {
    Error::archive("the archive has no end record: it is cut off, or no zip archive at all")
}

fn parse_end(bytes: &[u8]) -> Option<EndRecord> {
    let mut fields = Fields::of(bytes);
    fields.bytes(END.len())?;
    Some(EndRecord {
        disks: [fields.u16()?.into(), fields.u16()?.into()],
        entries: [fields.u16()?.into(), fields.u16()?.into()],
        size: fields.u32()?.into(),
        offset: fields.u32()?.into(),
    })
}

fn parse_end64(bytes: &[u8]) -> Option<(u64, EndRecord)> {
    let mut fields = Fields::of(bytes);
    if fields.bytes(END64.len())? != END64 {
        return None;
    }
    let length = fields.u64()?;
    let _versions = fields.u32()?;
    let record = EndRecord {
        disks: [fields.u32()?, fields.u32()?],
        entries: [fields.u64()?, fields.u64()?],
        size: fields.u64()?,
        offset: fields.u64()?,
    };
    Some((length, record))
}

/// Looks for the Zip64 records before the end record at `position`. Returns where they begin, what the two end records
/// say together, and by how much offsets are short.
fn find_end64(
    file: &SharedFile,
    position: u64,
    end: &EndRecord,
) -> Result<Option<(u64, EndRecord, u64)>> {
    let Some(locator_at) = position.checked_sub(LOCATOR_LENGTH) else {
        return Ok(None);
    };
    let locator = read(file, locator_at, LOCATOR_LENGTH)?;
    let mut fields = Fields::of(&locator);
    if fields.bytes(LOCATOR.len()) != Some(LOCATOR) {
        return Ok(None);
    }
    let (Some(disk), Some(stated), Some(disks)) = (fields.u32(), fields.u64(), fields.u32()) else {
        return Ok(None);
    };
    if disk != 0 || disks > 1 {
        return Err(several_disks());
    }
    // Where it says, or right before the locator if something stands before the archive.
    let adjacent = locator_at.checked_sub(END64_LENGTH);
    let mut found = None;
    for start in [Some(stated), adjacent].into_iter().flatten() {
        if found.is_none_or(|(at, _)| at != start)
            && let Some(record) = end64_at(file, start, locator_at)?
            && found.replace((start, record)).is_some()
        {
            return Err(Error::archive(
                "the archive has two Zip64 end records, and readers differ in which one counts",
            ));
        }
    }
    let Some((start, record)) = found else {
        return Err(Error::archive(
            "the archive's Zip64 end record is not where its locator says",
        ));
    };
    let shift = start.checked_sub(stated).ok_or_else(misplaced)?;
    if !end.agrees_with(&record) {
        return Err(Error::archive(
            "the archive's two end records contradict each other",
        ));
    }
    Ok(Some((start, record, shift)))
}

/// Reads the Zip64 end record at `start`, if there is one that ends where the locator begins.
fn end64_at(file: &SharedFile, start: u64, locator_at: u64) -> Result<Option<EndRecord>> {
    if start
        .checked_add(END64_LENGTH)
        .is_none_or(|end| end > locator_at)
    {
        return Ok(None);
    }
    let bytes = read(file, start, END64_LENGTH)?;
    Ok(parse_end64(&bytes)
        .filter(|(length, _)| length.checked_add(start + 12) == Some(locator_at))
        .map(|(_, record)| record))
}

impl EndRecord {
    /// Returns whether this record, of the old kind, says the same as one of Zip64: in every field that is not full.
    fn agrees_with(&self, wide: &Self) -> bool {
        let short = |narrow: u64, wide: u64| narrow == 0xffff || narrow == wide;
        let long = |narrow: u64, wide: u64| narrow == 0xffff_ffff || narrow == wide;
        (0..2).all(|n| {
            short(self.disks[n].into(), wide.disks[n].into())
                && short(self.entries[n], wide.entries[n])
        }) && long(self.size, wide.size)
            && long(self.offset, wide.offset)
    }
}

/// Returns the table of contents that ends where the end records begin.
fn directory(record: &EndRecord, end: u64, zip64: Option<u64>) -> Result<Directory> {
    if record.disks != [0, 0] || record.entries[0] != record.entries[1] {
        return Err(several_disks());
    }
    let start = end.checked_sub(record.size).ok_or_else(misplaced)?;
    let shift = start.checked_sub(record.offset).ok_or_else(misplaced)?;
    if zip64.is_some_and(|stated| stated != shift) {
        return Err(misplaced());
    }
    Ok(Directory {
        start,
        end,
        entries: record.entries[0],
        exact: zip64.is_some(),
        shift,
    })
}

fn several_disks() -> Error {
    Error::archive("archives on several disks are not supported")
}

fn misplaced() -> Error {
    Error::archive("the archive's table of contents is not where its end record says")
}

fn read(file: &SharedFile, position: u64, length: u64) -> Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_too_large| cut_off())?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, position)
        .map_err(read_error)?;
    Ok(bytes)
}
