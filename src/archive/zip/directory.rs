//! The table of contents: what is in an archive, and where.

use super::{
    attributes::{self, MemberKind},
    end::{self, Directory},
    header::{self, CENTRAL_LENGTH, Central, ENCRYPTED, LOCAL, LOCAL_LENGTH, MASKED, STRONG},
    name,
    shared_file::SharedFile,
};
use crate::{
    archive::{limits::Limits, tar::read_error},
    error::{Error, Result},
    fs::Mtime,
};
use std::io::{BufReader, Read};

/// Size of one read of the table, in bytes.
const READ: usize = 256 * 1024;

/// One line of the table of contents.
pub(in crate::archive) struct Member {
    pub(in crate::archive) name: Vec<u8>,
    pub(in crate::archive) kind: MemberKind,
    pub(in crate::archive) mode: u32,
    pub(in crate::archive) mtime: Option<Mtime>,
    /// The permission bits as they are, in archives made on Unix.
    pub(in crate::archive) unix_mode: Option<u32>,
    /// The DOS time alone, taken for UTC.
    pub(in crate::archive) dos_mtime: Option<Mtime>,
    pub(in crate::archive) size: u64,
    pub(super) packed_size: u64,
    pub(super) crc: u32,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) host: u8,
    /// Where the local header is.
    pub(super) start: u64,
    /// Where the next member or the table begins: no byte of this one is there or behind.
    pub(super) bound: u64,
}

impl Member {
    /// Returns an error about this member.
    pub(super) fn refused(&self, problem: impl Into<String>) -> Error {
        Error::archive(problem).of_member(&self.name)
    }
}

/// Reads the table of contents of an archive, in its order; names that are there twice come twice.
pub(super) fn read(file: &SharedFile, limits: &Limits) -> Result<Vec<Member>> {
    let directory = end::find(file)?;
    let length = directory.end - directory.start;
    let mut table = BufReader::with_capacity(READ, file.at(directory.start).take(length));
    let (mut members, mut left, mut names) = (Vec::new(), length, 0);
    let mut rest = Vec::new();
    while left > 0 {
        let mut fixed = [0; CENTRAL_LENGTH];
        let cut_off = |_| Error::archive("the archive's table of contents is cut off");
        table.read_exact(&mut fixed).map_err(cut_off)?;
        let rest_length = header::central_rest(&fixed).ok_or_else(|| {
            Error::archive("the archive's table of contents has something else than members in it")
        })?;
        rest.resize(rest_length, 0);
        table.read_exact(&mut rest).map_err(cut_off)?;
        left -= (CENTRAL_LENGTH + rest_length) as u64;
        let member = member(&fixed, &rest, &directory)?;
        names += member.name.len() as u64;
        limits.check_names_kept(names)?;
        members.push(member);
        limits.check_entries(members.len() as u64)?;
    }
    if !directory.announces(members.len() as u64) {
        return Err(Error::archive(format!(
            "the archive's table of contents has {} members, which is not what its end record says",
            members.len()
        )));
    }
    let expanded = members.iter().map(|member| member.size);
    limits.check_expanded(expanded.fold(0, u64::saturating_add), file.length())?;
    refuse_hidden_beginning(file, &members)?;
    set_bounds(&mut members, directory.start)?;
    Ok(members)
}

fn member(fixed: &[u8; CENTRAL_LENGTH], rest: &[u8], directory: &Directory) -> Result<Member> {
    let central = header::parse_central(fixed, rest)
        .map_err(|problem| Error::archive(format!("a member is damaged: {problem}")))?;
    let header = &central.header;
    let refused = |problem: String| Error::archive(problem).of_member(header.name);
    let name = name::decode(header, central.host).map_err(|problem| refused(problem.into()))?;
    let kind = attributes::kind(&central, &name).map_err(refused)?;
    let start = central.start.checked_add(directory.shift);
    let start = start.ok_or_else(|| refused("it is beyond the end of the archive".into()))?;
    check_supported(&central).map_err(refused)?;
    let dos_mtime = attributes::dos_time(header);
    Ok(Member {
        kind,
        mode: attributes::permissions(
            central.host,
            central.attributes,
            kind == MemberKind::Directory,
        ),
        mtime: attributes::extended_time(header).or(dos_mtime),
        unix_mode: attributes::unix_mode(&central),
        dos_mtime,
        size: header.size,
        packed_size: header.packed_size,
        crc: header.crc,
        method: header.method,
        flags: header.flags,
        host: central.host,
        start,
        bound: directory.start,
        name: name.into_owned(),
    })
}

/// Refuses what cannot be extracted, before anything is.
fn check_supported(central: &Central<'_>) -> Result<(), String> {
    let header = &central.header;
    if header.flags & (ENCRYPTED | STRONG | MASKED) != 0 {
        return Err("encrypted members cannot be extracted".into());
    }
    let unsupported = match header.method {
        0 if header.size != header.packed_size => {
            return Err(format!(
                "it is stored as it is, but has {} bytes and {} in the archive",
                header.size, header.packed_size
            ));
        }
        0 | 8 | 9 | 12 | 14 | 93 | 95 => return Ok(()),
        1 => "Shrink",
        2..=5 => "Reduce",
        6 => "Implode",
        98 => "PPMd",
        99 => "AES encryption",
        _ => "unknown",
    };
    Err(format!(
        "compression method {} ({unsupported}) is not supported",
        header.method
    ))
}

/// Refuses an archive that begins with a member which the table does not have: whoever reads from the beginning sees
/// another archive. It is either hidden on purpose, or its end is missing and another archive inside of it has one.
fn refuse_hidden_beginning(file: &SharedFile, members: &[Member]) -> Result<()> {
    if file.length() < LOCAL_LENGTH as u64 {
        return Ok(());
    }
    let mut beginning = [0; 2 * LOCAL.len()];
    file.read_exact_at(&mut beginning, 0).map_err(read_error)?;
    let (mark, behind) = beginning.split_at(LOCAL.len());
    let hidden = |start| !members.iter().any(|member| member.start == start);
    // The mark of an archive that is, or was meant to be, on several disks.
    let is_marked = mark == b"PK00" || mark == b"PK\x07\x08";
    if mark == LOCAL && hidden(0) || is_marked && behind == LOCAL && hidden(mark.len() as u64) {
        return Err(Error::archive(
            "the archive begins with a member that its table of contents does not have",
        ));
    }
    Ok(())
}

/// Finds out where each member has to end, and refuses members that overlap: a few bytes would become many files.
fn set_bounds(members: &mut [Member], directory_start: u64) -> Result<()> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by_key(|&index| members[index].start);
    let mut bound = directory_start;
    for index in order.into_iter().rev() {
        let member = &mut members[index];
        member.bound = bound;
        let room = bound.checked_sub(member.start);
        let least = member.packed_size.saturating_add(LOCAL_LENGTH as u64);
        if room.is_none_or(|room| room < least) {
            return Err(member.refused("it overlaps with the next member or the table of contents"));
        }
        bound = member.start;
    }
    Ok(())
}
