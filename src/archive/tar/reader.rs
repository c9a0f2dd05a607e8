//! [`Reader`]: the members of a tar archive, one after the other, with what headers in front of them say about them.
//!
//! Headers are taken apart here, and not by the tar crate's `Archive`. That reads names and records of any size into
//! memory, splits PAX records at newlines, which values may have, and goes on with the first of two records, not with
//! the last. Every such difference lets an archive be one thing to this program and another one to whoever checked it.
//! So what GNU tar and bsdtar read differently, and what no sane tool writes, is refused.

use super::{
    header::{self, BLOCK, number},
    pax::{self, Record},
    read_error,
    sparse::{self, Map, Segment},
};
use crate::{
    archive::{format::Compression, limits::Limits},
    error::{Error, Result},
    fs::Mtime,
    stream::TakeBytes,
};
use bytes::Bytes;
use std::io::{self, BufRead, ErrorKind};
use tar::{EntryType, Header};

/// The largest size that the octal digits of a header can tell.
const MAX_OCTAL_SIZE: u64 = 0o777_7777_7777;

/// Keywords that members inherit from global headers. What these say of names and sizes would be true for one member at
/// most and is refused; everything else, such as the commit that `git archive` notes, is no matter.
const INHERITED: [&[u8]; 5] = [b"mtime", b"uid", b"gid", b"uname", b"gname"];

/// A member of an archive.
pub(crate) struct Member {
    pub(crate) name: Vec<u8>,
    /// What it is: files of all kinds are `Regular`, also sparse ones.
    pub(crate) kind: EntryType,
    /// The target, of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) mtime: Option<Mtime>,
    /// Of the file, holes included.
    pub(crate) size: u64,
    /// What the archive has of a sparse file.
    pub(crate) segments: Option<Vec<Segment>>,
    /// For everything else.
    pub(crate) header: Header,
    pub(crate) records: Vec<Record>,
}

/// What stands in front of a member's header.
#[derive(Default)]
struct Extensions {
    size: u64,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Vec<Record>>,
}

/// Reads an archive.
pub(crate) struct Reader<'a, R> {
    source: R,
    limits: &'a Limits,
    /// Whether the archive may end without a mark, as GNU tar and bsdtar allow: if not, it may have been cut off.
    may_just_end: bool,
    inherited: Vec<Record>,
    members: u64,
    /// Bytes of content of the current member, and of padding behind them, that are not read yet.
    content: u64,
    padding: u64,
}

impl<'a, R: BufRead> Reader<'a, R> {
    /// Reads what comes out of the decoder of such data.
    pub(crate) fn new(source: R, compression: Compression, limits: &'a Limits) -> Self {
        Self {
            source,
            limits,
            may_just_end: compression.tells_its_end(),
            inherited: Vec::new(),
            members: 0,
            content: 0,
            padding: 0,
        }
    }

    /// Returns how many members there were so far.
    pub(crate) fn members(&self) -> u64 {
        self.members
    }

    /// Returns the next member, whose content can be read then; none at the end of the archive.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member>> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return match extensions.size {
                    0 => Ok(None),
                    _ => Err(damaged("a name or record has no member that it is for")),
                };
            };
            let is_extension = self.extend(&header, &mut extensions);
            if !is_extension.map_err(|err| of_header(err, &header))? {
                self.count_member()?;
                return self.member(header, extensions).map(Some);
            }
        }
    }

    /// Reads what a header in front of a member's says of that; false for the member's own.
    fn extend(&mut self, header: &Header, extensions: &mut Extensions) -> Result<bool> {
        match header.entry_type().as_byte() {
            b'L' => {
                let name = self.extension(header, extensions)?;
                once(&mut extensions.name, name)?;
            }
            b'K' => {
                let link = self.extension(header, extensions)?;
                once(&mut extensions.link, link)?;
            }
            b'x' | b'X' => {
                let records = self.extension(header, extensions)?;
                once(&mut extensions.records, records_of(&records)?)?;
            }
            b'g' if extensions.size == 0 => {
                self.count_member()?;
                let records = self.extension(header, &mut Extensions::default())?;
                self.inherit(records_of(&records)?)?;
            }
            // The label of a volume.
            b'V' if extensions.size == 0 => {
                self.count_member()?;
                self.take_size(header)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn count_member(&mut self) -> Result<()> {
        self.members += 1;
        self.limits.check_entries(self.members)
    }

    /// Reads a header; none at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>> {
        if self.may_just_end && self.source.fill_buf().map_err(read_error)?.is_empty() {
            return Ok(None);
        }
        let mut header = Header::new_old();
        self.source
            .read_exact(header.as_mut_bytes())
            .map_err(|err| ends_early(err, "it ends early, without the mark of its end"))?;
        if header.as_bytes() == &[0; BLOCK] {
            return Ok(None);
        }
        if !header::has_checksum(header.as_bytes()) {
            return Err(damaged("a header has a wrong checksum"));
        }
        Ok(Some(header))
    }

    /// Announces as much content as a header says.
    fn take_size(&mut self, header: &Header) -> Result<u64> {
        let size = number(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| damaged("a header has a malformed size"))?;
        self.announce(size);
        Ok(size)
    }

    fn announce(&mut self, size: u64) {
        self.content = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    /// Reads the content of a header that is about another one.
    fn extension(&mut self, header: &Header, extensions: &mut Extensions) -> Result<Vec<u8>> {
        let size = self.take_size(header)?;
        // One that is empty is one nevertheless.
        extensions.size = extensions.size.saturating_add(size.max(1));
        self.limits.check_header_size(extensions.size)?;
        let mut content = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.read_exact(&mut content)?;
        Ok(content)
    }

    fn inherit(&mut self, records: Vec<Record>) -> Result<()> {
        for (keyword, value) in records {
            let key = &keyword[..];
            if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
                let keyword = key.escape_ascii();
                return Err(damaged(&format!("a global record sets `{keyword}`")));
            }
            if INHERITED.contains(&key) {
                self.inherited.retain(|(other, _)| *other != keyword);
                self.inherited.push((keyword, value));
            }
        }
        Ok(())
    }

    fn member(&mut self, header: Header, extensions: Extensions) -> Result<Member> {
        let has_records = extensions.records.is_some();
        let mut records = self.inherited.clone();
        records.extend(extensions.records.unwrap_or_default());
        let names = names(&header, &records, extensions.name, extensions.link);
        let (name, link) = names.map_err(|err| of_header(err, &header))?;
        let refused = |problem: &str| Error::archive(problem).of_member(&name);
        let sparse = sparse::from_records(&records).map_err(refused)?;
        self.sizes(&header, &records)
            .map_err(|err| err.of_member(&name))?;
        let kind = kind(&header, &name).map_err(refused)?;
        if ignores_size(&header, has_records) {
            self.announce(0);
        }
        if kind != EntryType::Regular && (self.content > 0 || sparse.is_some()) {
            return Err(refused("has content, but is not a file"));
        }
        let (mode, mtime) = attributes(&header, &records).map_err(refused)?;
        let mut member = Member {
            kind,
            link,
            mode,
            mtime,
            size: self.content,
            segments: None,
            header,
            records,
            name,
        };
        if let Some(sparse) = sparse {
            member.size = sparse.real_size;
            member.name = sparse.name.unwrap_or(member.name);
            let map = match sparse.map {
                Map::Here(map) => map,
                Map::InContent => self.map_in_content(&member)?,
            };
            self.set_segments(&mut member, map)?;
        } else if member.header.entry_type() == EntryType::GNUSparse {
            let map = self.old_map(&mut member)?;
            self.set_segments(&mut member, map)?;
        }
        self.limits.check_name_length(&member.name, "name")?;
        self.limits
            .check_name_length(&member.link, "target of the link")?;
        Ok(member)
    }

    /// Announces the size of a member. A record may only correct the header where that has no room for the size: if
    /// both could be true, parsers would not agree on where the next header is.
    fn sizes(&mut self, header: &Header, records: &[Record]) -> Result<()> {
        let stated = self.take_size(header)?;
        let Some(record) = pax::value(records, "size") else {
            return Ok(());
        };
        let size =
            pax::decimal(record).ok_or_else(|| damaged("a PAX record has a malformed size"))?;
        if size != stated && size <= MAX_OCTAL_SIZE {
            let problem = format!("has {stated} bytes by its header and {size} by its PAX record");
            return Err(Error::archive(problem));
        }
        self.announce(size);
        Ok(())
    }

    fn map_in_content(&mut self, member: &Member) -> Result<Vec<Segment>> {
        let mut map = sparse::ContentMap::default();
        let mut block = [0; BLOCK];
        loop {
            if self.content < BLOCK as u64 {
                let problem = "the map of the sparse file is longer than its content";
                return Err(Error::archive(problem).of_member(&member.name));
            }
            self.read_exact(&mut block)?;
            let complete = map.block(&block);
            let refused = |problem| Error::archive(problem).of_member(&member.name);
            if let Some(map) = complete.map_err(refused)? {
                return Ok(map);
            }
        }
    }

    /// Reads the map of an old GNU sparse file, from its header and the blocks behind it.
    fn old_map(&mut self, member: &mut Member) -> Result<Vec<Segment>> {
        let refused = |problem| Error::archive(problem).of_member(&member.name);
        let malformed = || refused("the header of the sparse file is malformed");
        let gnu = member.header.as_gnu().ok_or_else(malformed)?;
        let size = number(&gnu.realsize).and_then(|size| u64::try_from(size).ok());
        member.size = size.ok_or_else(malformed)?;
        let mut map = Vec::new();
        let entries = &member.header.as_bytes()[386..482];
        let mut more = sparse::old_entries(entries, &mut map).map_err(refused)?;
        let mut extended = gnu.isextended[0] != 0;
        let mut block = [0; BLOCK];
        while extended {
            if !more {
                return Err(malformed());
            }
            self.source.read_exact(&mut block).map_err(read_error)?;
            more = sparse::old_entries(&block[..504], &mut map).map_err(refused)?;
            extended = block[504] != 0;
        }
        Ok(map)
    }

    fn set_segments(&self, member: &mut Member, map: Vec<Segment>) -> Result<()> {
        sparse::check(&map, member.size, self.content)
            .map_err(|problem| Error::archive(problem).of_member(&member.name))?;
        member.segments = Some(map);
        Ok(())
    }

    /// Returns some of the content that is not read yet; empty at its end.
    pub(crate) fn fill(&mut self) -> Result<&[u8]> {
        if self.content == 0 {
            return Ok(&[]);
        }
        let available = self.source.fill_buf().map_err(read_error)?;
        if available.is_empty() {
            return Err(damaged("it ends before a member does"));
        }
        let most = usize::try_from(self.content).unwrap_or(usize::MAX);
        Ok(&available[..available.len().min(most)])
    }

    /// Takes note that so much of what [`Reader::fill`] returned is read.
    pub(crate) fn consume(&mut self, amount: usize) {
        self.source.consume(amount);
        self.content -= amount as u64;
    }

    /// Reads content.
    pub(crate) fn read_exact(&mut self, mut buffer: &mut [u8]) -> Result<()> {
        while !buffer.is_empty() {
            let available = self.fill()?;
            let length = available.len().min(buffer.len());
            if length == 0 {
                return Err(damaged("a member has less content than was announced"));
            }
            buffer[..length].copy_from_slice(&available[..length]);
            self.consume(length);
            buffer = &mut buffer[length..];
        }
        Ok(())
    }

    /// Takes so much content, without a copy where that is possible.
    pub(crate) fn take(&mut self, length: usize) -> Result<Bytes>
    where
        R: TakeBytes,
    {
        if length as u64 > self.content {
            return Err(damaged("a member has less content than was announced"));
        }
        let taken = self.source.take_bytes(length);
        let taken = taken.map_err(|err| ends_early(err, "it ends before a member does"))?;
        self.content -= length as u64;
        Ok(taken)
    }

    /// Reads over what is left of a member.
    fn skip(&mut self) -> Result<()> {
        self.content = self
            .content
            .saturating_add(std::mem::take(&mut self.padding));
        loop {
            match self.fill()?.len() {
                0 => return Ok(()),
                length => self.consume(length),
            }
        }
    }

    /// Reads the stream to its end, past the end of the archive: what decodes it checks sums there.
    pub(crate) fn finish(mut self) -> Result<()> {
        loop {
            match self.source.fill_buf().map_err(read_error)?.len() {
                0 => return Ok(()),
                length => self.source.consume(length),
            }
        }
    }
}

/// Returns the problem if there was nothing more to read, else what else went wrong.
fn ends_early(err: io::Error, problem: &str) -> Error {
    if err.kind() == ErrorKind::UnexpectedEof && err.get_ref().is_none() {
        damaged(problem)
    } else {
        read_error(err)
    }
}

fn damaged(problem: &str) -> Error {
    Error::archive(format!("the archive is damaged: {problem}"))
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<()> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(damaged(
            "two extended headers of one kind are for the same member",
        )),
    }
}

fn records_of(header: &[u8]) -> Result<Vec<Record>> {
    pax::records(header).ok_or_else(|| damaged("a PAX record is malformed"))
}

/// Names a header, since of which member an error is cannot be told yet.
fn of_header(err: Error, header: &Header) -> Error {
    err.of_member(header::text(&header.as_old().name))
}

/// Returns the name of a member and the target of the link that it is.
fn names(
    header: &Header,
    records: &[Record],
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let own_name =
        header::name(header).ok_or_else(|| damaged("a header is in a format that is not known"))?;
    let name = choose(long_name, pax::value(records, "path"), own_name)?;
    let own_link = header::text(&header.as_old().linkname).to_vec();
    let link = choose(long_link, pax::value(records, "linkpath"), own_link)?;
    Ok((name, link))
}

/// Returns the name that counts: from a GNU header, a PAX record or the member's header. The first two have no order.
fn choose(long: Option<Vec<u8>>, record: Option<&[u8]>, own: Vec<u8>) -> Result<Vec<u8>> {
    let long = long.map(|mut name| {
        let end = name.iter().rposition(|&byte| byte != 0);
        name.truncate(end.map_or(0, |last| last + 1));
        name
    });
    match (long, record) {
        (Some(long), Some(record)) if long != record => Err(damaged(
            "a GNU header and a PAX record give different names to a member",
        )),
        (Some(long), _) => Ok(long),
        (None, Some(record)) => Ok(record.to_vec()),
        (None, None) => Ok(own),
    }
}

/// Returns what a member is.
fn kind(header: &Header, name: &[u8]) -> std::result::Result<EntryType, &'static str> {
    match header.entry_type() {
        // Archives older than POSIX have no type for directories, only the slash.
        EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => {
            Ok(EntryType::Directory)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Ok(EntryType::Regular),
        kind @ (EntryType::Directory
        | EntryType::Link
        | EntryType::Symlink
        | EntryType::Block
        | EntryType::Char
        | EntryType::Fifo) => Ok(kind),
        _ => Err("is of a type that is not supported"),
    }
}

/// Returns whether the size in a header says nothing of content: that of a directory is what it may grow to, and old
/// programs repeat that of the file in hard links to it. In pax format, some take it for content.
fn ignores_size(header: &Header, has_records: bool) -> bool {
    match header.entry_type() {
        EntryType::Directory => true,
        EntryType::Link => !has_records,
        _ => false,
    }
}

/// Returns mode and modification time, which a header may leave blank.
fn attributes(
    header: &Header,
    records: &[Record],
) -> std::result::Result<(u32, Option<Mtime>), &'static str> {
    let old = header.as_old();
    let mode = number(&old.mode).and_then(|mode| u32::try_from(mode & 0o7777).ok());
    let mtime = match pax::value(records, "mtime") {
        Some(record) => Some(pax::time(record).ok_or("has a PAX record with a malformed mtime")?),
        None if is_blank(&old.mtime) => None,
        None => {
            let seconds = number(&old.mtime).ok_or("has a malformed mtime")?;
            Some(Mtime { seconds, nanos: 0 })
        }
    };
    // Owners are nobody's business here, but others fail on them.
    if [old.uid, old.gid]
        .iter()
        .any(|id| !is_blank(id) && number(id).is_none())
    {
        return Err("has a malformed owner");
    }
    Ok((mode.ok_or("has a malformed mode")?, mtime))
}

fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, b' ' | 0))
}
