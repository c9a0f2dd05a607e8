//! [`Early`]: large members, decoded while the archive is still on its way.
//!
//! One member can take longer to decode than all others together, and should not have to wait for the last byte of the
//! archive. But it is the table of contents that counts, and that comes last. So members are decoded here by what stands
//! before them, into files without names; one gets a name if the table has the same content in the same place. Whatever
//! is odd just ends this: what is wrong with an archive is told by those who read the table.
//!
//! A wheel of 274 MB, with one member of 788 MB near its beginning, takes 0.91 of the time over loopback on two cores, which it keeps busy.

use super::{
    MemberKind,
    content::{LARGE, MemberReader},
    directory::Member,
    header::{self, DESCRIPTOR, ENCRYPTED, MASKED, STRONG},
    name,
    shared_file::{Arrival, SharedFile},
};
use crate::{
    archive::limits::Limits,
    error::Result,
    fs::{self, Context},
};
use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io::{self, Read, Write},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread::Scope,
};

/// The smallest member that is decoded early, in bytes. Fuzzers have no large ones.
const LEAST: u64 = if cfg!(feature = "fuzzing") { 1 } else { LARGE };

/// How many members at most: each keeps a file open.
const MOST: usize = 64;

/// How much of a member is read in search of its header, in bytes. Most are shorter.
const HEADER: usize = 256;

/// The content of a member, whole and checked against what stands before the member.
pub(super) struct Decoded {
    described: Member,
    /// Has no name.
    pub(super) file: File,
}

impl Decoded {
    /// Returns whether this is the content that a member of the table of contents has.
    pub(super) fn is_of(&self, member: &Member) -> bool {
        let content = |member: &Member| {
            (
                member.start,
                member.method,
                member.packed_size,
                member.size,
                member.crc,
            )
        };
        content(&self.described) == content(member)
    }
}

/// A thread that decodes members. It ends when this is dropped, which must happen inside the scope.
pub(in crate::archive) struct Early {
    arrival: Arc<Arrival>,
    decoded: Receiver<Decoded>,
}

impl Early {
    /// Starts with an archive of which nothing is there yet. Files are made in a directory, or rather below it.
    pub(in crate::archive) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        archive: &File,
        directory: &'scope Path,
        limits: &Limits,
    ) -> Result<Self> {
        let arrival = Arc::new(Arrival::default());
        let archive = archive.try_clone().context("open", directory)?;
        let archive = SharedFile::arriving(archive, Arc::clone(&arrival));
        let (to, decoded) = channel();
        let (members, limits) = (Arc::clone(&arrival), limits.clone());
        scope.spawn(move || decode_members(&archive, &members, directory, &limits, &to));
        Ok(Self { arrival, decoded })
    }

    /// Tells how many more bytes are there.
    pub(in crate::archive) fn arrived(&self, more: usize) {
        self.arrival.arrived(more as u64);
    }

    /// Tells that the archive is whole. No further member is begun; returns where those begin that are decoded or in
    /// work.
    pub(super) fn close(&self) -> HashSet<u64> {
        self.arrival.close()
    }

    /// Returns how many members are decoded or in work.
    #[cfg(test)]
    pub(super) fn begun(&self) -> usize {
        self.arrival.begun()
    }

    /// Waits for the member in work and returns all that could be decoded, by where they begin.
    pub(super) fn finish(self) -> HashMap<u64, Decoded> {
        let decoded = self.decoded.iter();
        decoded
            .map(|decoded| (decoded.described.start, decoded))
            .collect()
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.arrival.abandon();
    }
}

/// Decodes members from the beginning on, as far as they can be followed.
fn decode_members(
    archive: &SharedFile,
    arrival: &Arrival,
    directory: &Path,
    limits: &Limits,
    to: &Sender<Decoded>,
) -> Option<()> {
    let mut reader = MemberReader::new(archive.clone(), limits.clone());
    let (mut start, mut expanded, mut files) = (0, 0_u64, 0);
    while files < MOST {
        let member = describe(archive, start).ok()??;
        start = member.bound;
        if member.size < LEAST {
            continue;
        }
        expanded = expanded.saturating_add(member.size);
        limits.check_expanded(expanded, start).ok()?;
        let mut file = fs::create_unnamed(directory)?;
        if !arrival.begin(member.start) {
            return None;
        }
        let write = |piece: &[u8]| file.write_all(piece).context("write", directory);
        let opened = reader.open(&member).ok()?;
        opened.content.write_to(&member, write).ok()?;
        let described = member;
        to.send(Decoded { described, file }).ok()?;
        files += 1;
    }
    None
}

/// Returns what stands before a member, if it says where the member ends.
fn describe(archive: &SharedFile, start: u64) -> io::Result<Option<Member>> {
    let mut header = Vec::with_capacity(HEADER);
    let mut beginning = archive.at(start).take(HEADER as u64);
    beginning.read_to_end(&mut header)?;
    let Some(length) = header::local_length(&header) else {
        return Ok(None);
    };
    if length > header.len() {
        header.resize(length, 0);
        archive.read_exact_at(&mut header, start)?;
    }
    Ok(described(&header[..length], start))
}

fn described(header: &[u8], start: u64) -> Option<Member> {
    let length = header.len() as u64;
    let header = header::parse_local(header).ok()?;
    if header.flags & (DESCRIPTOR | ENCRYPTED | STRONG | MASKED) != 0 {
        return None;
    }
    let host = name::UNIX;
    Some(Member {
        name: name::decode(&header, host).ok()?.into_owned(),
        kind: MemberKind::File,
        mode: 0,
        mtime: None,
        unix_mode: None,
        dos_mtime: None,
        size: header.size,
        packed_size: header.packed_size,
        crc: header.crc,
        method: header.method,
        flags: header.flags,
        host,
        start,
        bound: start.checked_add(length)?.checked_add(header.packed_size)?,
    })
}
