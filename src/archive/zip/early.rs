//! [`Early`]: large members, decoded while the archive is still on its way.
//!
//! One member can take longer to decode than all others together, and should not have to wait for the last byte of the
//! archive. But it is the table of contents that counts, and that comes last. So members are decoded here by what stands
//! before them, into files without names; one gets a name if the table has a member there and the two agree. Whatever is
//! odd just ends this: what is wrong with an archive is told by those who read the table.
//!
//! A wheel of 274 MB, with one member of 788 MB near its beginning, takes 0.91 of the time over loopback on two cores,
//! which it keeps busy, and 0.77 of it where the network is slower.

use super::{
    MemberKind,
    arrival::Arrival,
    content::{LARGE, MemberReader},
    directory::Member,
    header::{self, DESCRIPTOR, ENCRYPTED, MASKED, STRONG},
    name,
    shared_file::SharedFile,
};
use crate::{
    archive::limits::Limits,
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

/// The smallest member that is decoded early, in bytes. Tests and fuzzers have no large ones.
const LEAST: u64 = if cfg!(any(test, feature = "fuzzing")) {
    1
} else {
    LARGE
};

/// How many members at most: each keeps a file open, and many archives can be on their way at once.
const MOST: usize = 8;

/// How much of a member is read in search of its header, in bytes. Most are shorter.
const HEADER: usize = 256;

/// A member whose content is whole and agrees with what stands before the member: where that is, and a file without a
/// name.
type Decoded = (u64, File);

/// A thread that decodes members. It ends when this is dropped, which must happen inside the scope.
pub(in crate::archive) struct Early {
    arrival: Arc<Arrival>,
    decoded: Receiver<Decoded>,
}

impl Early {
    /// Starts with an archive of which nothing is there yet. Content goes to the file system of a directory.
    pub(in crate::archive) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        archive: Arc<File>,
        directory: &'scope Path,
        limits: &'scope Limits,
    ) -> Self {
        let (to, decoded) = channel();
        let arrival = Arc::new(Arrival::default());
        let archive = SharedFile::arriving(archive, Arc::clone(&arrival));
        let work = Work {
            archive,
            arrival: Arc::clone(&arrival),
            directory,
            limits,
        };
        scope.spawn(move || work.decode_members(&to));
        Self { arrival, decoded }
    }

    /// Tells how many more bytes are there.
    pub(in crate::archive) fn arrived(&self, more: usize) {
        self.arrival.arrived(more as u64);
    }

    /// Tells that the archive is whole, and that no further member should be begun. Returns where those are that are
    /// decoded or in work.
    pub(super) fn close(&self) -> HashSet<u64> {
        self.arrival.close()
    }

    /// Waits for the member in work, and returns the content of all that could be decoded, by where they are.
    pub(super) fn finish(self) -> HashMap<u64, File> {
        self.decoded.iter().collect()
    }

    /// Tells that the archive is whole, and waits until everything is decoded that can be.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(in crate::archive) fn exhaust(mut self) -> Self {
        self.arrival.complete();
        let (to, decoded) = channel();
        // The receiver is right here.
        self.decoded.iter().for_each(|done| drop(to.send(done)));
        self.decoded = decoded;
        self
    }

    /// Waits until so many members are decoded or in work.
    #[cfg(test)]
    pub(super) fn wait_until_begun(&self, members: usize) {
        self.arrival.wait_until_begun(members);
    }
}

impl Drop for Early {
    fn drop(&mut self) {
        self.arrival.abandon();
    }
}

/// What the thread has.
struct Work<'a> {
    archive: SharedFile,
    arrival: Arc<Arrival>,
    directory: &'a Path,
    limits: &'a Limits,
}

impl Work<'_> {
    /// Decodes members from the beginning on, as far as they can be followed.
    fn decode_members(&self, to: &Sender<Decoded>) -> Option<()> {
        let mut reader = MemberReader::new(self.archive.clone(), self.limits.clone());
        let (mut start, mut expanded, mut files) = (0, 0_u64, 0);
        while files < MOST && self.arrival.is_open() {
            let member = describe(&self.archive, start).ok()??;
            start = member.bound;
            if member.size >= LEAST {
                expanded = expanded.saturating_add(member.size);
                // Only what stands before the member is there for sure.
                self.limits.check_expanded(expanded, member.start).ok()?;
                to.send((member.start, self.decode(&mut reader, &member)?))
                    .ok()?;
                files += 1;
            }
        }
        Some(())
    }

    fn decode(&self, reader: &mut MemberReader, member: &Member) -> Option<File> {
        let mut file = fs::create_unnamed(self.directory)?;
        if !self.arrival.begin(member.start) {
            return None;
        }
        let write = |piece: &[u8]| {
            let written = self.arrival.check().and_then(|()| file.write_all(piece));
            written.context("write", self.directory)
        };
        let opened = reader.open(member).ok()?;
        opened.content.write_to(member, write).ok()?;
        Some(file)
    }
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
