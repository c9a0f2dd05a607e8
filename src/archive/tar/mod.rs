//! Extraction of tar archives: every member is read in turn and created in a confined [`Tree`].

pub(super) mod header;
mod layer;
pub(super) mod pax;
mod positions;
pub(super) mod reader;
pub(super) mod sparse;

use crate::{
    archive::{Job, Limits, format::Compression},
    error::{Error, Result},
    fs::{Attributes, Mtime, SMALL, Tree, WriteBehind, umask},
    rel_path::{RelPath, shown_name},
    stream::TakeBytes,
};
pub(super) use layer::apply;
pub(crate) use positions::{Position, positions};
use reader::{Member, Reader};
use sparse::Segment;
use std::{
    ffi::OsStr,
    io::{self, BufRead},
    os::unix::ffi::OsStrExt,
    path::Path,
    thread::Scope,
};
use tar::EntryType;

/// Extracts all members into the job's directory and returns warnings. Reads the stream, which was decoded already, to
/// its end, past the end of the archive.
pub(super) fn extract(
    source: impl TakeBytes,
    compression: Compression,
    job: &Job,
    writers: usize,
) -> Result<Vec<String>> {
    std::thread::scope(|scope| {
        let mut extractor = Extractor::start(scope, &job.directory, &job.limits, writers)?;
        let mut reader = Reader::new(source, compression, &job.limits);
        while let Some(member) = reader.next_member()? {
            extractor.member(&mut reader, &member)?;
        }
        reader.finish()?;
        extractor.finish()
    })
}

/// Creates members in a tree: small files by the writers behind, everything else at once. So is whatever is reached
/// through a link, since its path says nothing about which other members are the same, or stand in its place.
struct Extractor<'a> {
    tree: Tree,
    behind: WriteBehind,
    limits: &'a Limits,
    kept_mode_bits: u32,
    /// Whether there may be symbolic links in the tree.
    has_links: bool,
    /// Bytes of the names of directories and links, which are remembered to the end.
    names_kept: u64,
    stripped: Option<String>,
}

/// Returns which permission bits of an archive are kept, by GNU tar's rule: root gets them all, others what their umask
/// leaves.
fn kept_mode_bits() -> u32 {
    if rustix::process::geteuid().is_root() {
        0o777
    } else {
        0o777 & !umask().bits()
    }
}

impl<'a> Extractor<'a> {
    /// Begins to extract into an empty directory, with as many threads that write.
    fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        directory: &Path,
        limits: &'a Limits,
        writers: usize,
    ) -> Result<Self> {
        let mut tree = Tree::open(directory)?;
        if !limits.external_symlinks {
            tree.deny_external_symlinks();
        }
        Ok(Self {
            tree,
            behind: WriteBehind::start(scope, directory, writers)?,
            limits,
            kept_mode_bits: kept_mode_bits(),
            has_links: false,
            names_kept: 0,
            stripped: None,
        })
    }

    /// Ends the extraction and returns warnings.
    fn finish(mut self) -> Result<Vec<String>> {
        self.settle()?;
        self.tree.finish()?;
        Ok(self.stripped.into_iter().collect())
    }
}

impl Extractor<'_> {
    fn member(&mut self, reader: &mut Reader<'_, impl TakeBytes>, member: &Member) -> Result<()> {
        let path = member_path(&member.name)?;
        self.limits.check_path(&path)?;
        if self.stripped.is_none() && member.name.starts_with(b"/") {
            let name = shown_name(&member.name);
            self.stripped = Some(format!(
                "leading `/` is removed from member names, such as `{name}`"
            ));
        }
        let through_link = self.has_links && self.tree.leads_through_link(&path)?;
        if through_link {
            self.settle()?;
        }
        let attributes = Attributes {
            mode: member.mode & self.kept_mode_bits,
            mtime: self.limits.time(member.mtime),
        };
        match (member.kind, &member.segments) {
            (EntryType::Directory, _) => {
                self.keep_name(&path)?;
                self.behind.settle_path(&path)?;
                self.tree.directory(&path, attributes)
            }
            (EntryType::Regular, Some(segments)) => {
                self.sparse_file(reader, (&path, member.size), attributes, segments)
            }
            (EntryType::Regular, None) if through_link => {
                self.file_at_once(reader, &path, attributes)
            }
            (EntryType::Regular, None) => self.file(reader, path, member, attributes),
            (EntryType::Symlink, _) => self.symlink(&path, &member.link, attributes.mtime),
            (EntryType::Link, _) => self.hard_link(&path, &member.link),
            (EntryType::Fifo, _) => Err(refused(&path, "named pipes are not extracted")),
            _ => Err(refused(&path, "devices are not extracted")),
        }
    }

    /// Waits until everything so far is written. One of the files may have taken the place of a link on the way.
    fn settle(&mut self) -> Result<()> {
        if !self.behind.is_settled() {
            self.behind.settle()?;
            self.tree.forget_parents();
        }
        Ok(())
    }

    fn keep_name(&mut self, path: &RelPath) -> Result<()> {
        self.names_kept += path.as_bytes().len() as u64;
        self.limits.check_names_kept(self.names_kept)
    }

    fn file(
        &mut self,
        reader: &mut Reader<'_, impl TakeBytes>,
        path: RelPath,
        member: &Member,
        attributes: Attributes,
    ) -> Result<()> {
        match usize::try_from(member.size) {
            Ok(size) if size <= SMALL => {
                let content = reader.take(size);
                let content = content.map_err(|err| err.of_member(&member.name))?;
                self.behind.file(path, attributes, content)
            }
            _ => self.file_at_once(reader, &path, attributes),
        }
    }

    /// Creates a file before anything that follows: a large one, or one that is reached through a link.
    fn file_at_once(
        &mut self,
        reader: &mut Reader<'_, impl BufRead>,
        path: &RelPath,
        attributes: Attributes,
    ) -> Result<()> {
        self.behind.settle_path(path)?;
        let mut file = self.tree.file(path, attributes)?;
        loop {
            let block = reader
                .fill()
                .map_err(|err| err.of_member(path.as_bytes()))?;
            if block.is_empty() {
                return file.finish();
            }
            file.write(block)?;
            let length = block.len();
            reader.consume(length);
        }
    }

    fn sparse_file(
        &mut self,
        reader: &mut Reader<'_, impl BufRead>,
        (path, size): (&RelPath, u64),
        attributes: Attributes,
        segments: &[Segment],
    ) -> Result<()> {
        self.behind.settle_path(path)?;
        let mut file = self.tree.file(path, attributes)?;
        let mut end = 0;
        for segment in segments {
            file.skip(segment.offset - end)?;
            let mut left = segment.size;
            while left > 0 {
                let block = reader
                    .fill()
                    .map_err(|err| err.of_member(path.as_bytes()))?;
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
                file.write(&block[..length])?;
                reader.consume(length);
                left -= length as u64;
            }
            end = segment.offset + segment.size;
        }
        file.skip(size - end)?;
        file.finish_sparse()
    }

    fn symlink(&mut self, path: &RelPath, target: &[u8], mtime: Option<Mtime>) -> Result<()> {
        // What a link takes the place of must be there.
        self.settle()?;
        if target.is_empty() || target.contains(&0) {
            return Err(refused(path, "symbolic link without a usable target"));
        }
        self.keep_name(path)?;
        self.has_links = true;
        self.tree.symlink(path, OsStr::from_bytes(target), mtime)
    }

    fn hard_link(&mut self, path: &RelPath, target: &[u8]) -> Result<()> {
        // What a link leads to must be there.
        self.settle()?;
        let to = RelPath::strip_root(target)
            .map_err(|err| refused(path, &format!("the target of the hard link {err}")))?;
        if to.is_empty() {
            return Err(refused(path, "hard link without a usable target"));
        }
        self.tree.hard_link(path, &to)
    }
}

/// Returns where a member goes: its name without leading slashes.
fn member_path(name: &[u8]) -> Result<RelPath> {
    if name.is_empty() {
        return Err(Error::archive("a member has no name"));
    }
    RelPath::strip_root(name)
        .map_err(|err| Error::archive(format!("the name {err}")).of_member(name))
}

fn refused(path: &RelPath, problem: &str) -> Error {
    Error::archive(problem).of_member(path.as_bytes())
}

/// What reading the archive failed with: a limit that was hit, or a decoder's word.
pub(super) fn read_error(err: io::Error) -> Error {
    err.downcast().unwrap_or_else(|err| {
        let problem = crate::error::chain(&err);
        Error::archive(format!("the archive is damaged: {problem}"))
    })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::{Compression, Job, extract};
    use crate::archive::{Limits, Placing};
    use std::{fs, os::unix::fs::MetadataExt};
    use tar::{Builder, EntryType, Header};

    fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, target: &str) {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(0);
        header.as_old_mut().mtime = [0; 12];
        if target.is_empty() {
            builder.append_data(&mut header, name, &b""[..]).unwrap();
        } else {
            builder.append_link(&mut header, name, target).unwrap();
        }
    }

    #[test]
    fn what_has_no_time_gets_the_epoch_where_that_is_wanted() {
        let mut builder = Builder::new(Vec::new());
        add(&mut builder, EntryType::Directory, "d", "");
        add(&mut builder, EntryType::Regular, "d/f", "");
        add(&mut builder, EntryType::Symlink, "l", "d/f");
        add(&mut builder, EntryType::Link, "h", "d/f");
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, "t", &b""[..]).unwrap();
        let archive = builder.into_inner().unwrap();
        for untimed_is_epoch in [true, false] {
            let temp = tempfile::tempdir().unwrap();
            let job = Job {
                directory: temp.path().to_owned(),
                file_name: "a.tar".into(),
                placing: Placing::Extract,
                limits: Limits {
                    untimed_is_epoch,
                    ..Limits::default()
                },
            };
            extract(&archive[..], Compression::None, &job, 2).unwrap();
            let time = |name| {
                let found = temp.path().join(name).symlink_metadata().unwrap();
                (found.mtime(), found.mtime_nsec())
            };
            for name in ["d", "d/f", "l", "h"] {
                assert_eq!(time(name) == (0, 0), untimed_is_epoch, "{name}");
            }
            assert_eq!(time("t"), (1_000_000_000, 0));
        }
    }

    #[test]
    fn files_go_where_a_link_leads_when_it_is_their_turn() {
        // Enough files for several batches on each side, so that all writers know the old way.
        const FILES: usize = 600;
        for replacement in ["g", ""] {
            let mut builder = Builder::new(Vec::new());
            add(&mut builder, EntryType::Directory, "e", "");
            add(&mut builder, EntryType::Directory, "g", "");
            add(&mut builder, EntryType::Symlink, "d", "e");
            (0..FILES).for_each(|n| add(&mut builder, EntryType::Regular, &format!("d/f{n}"), ""));
            match replacement {
                "" => add(&mut builder, EntryType::Directory, "d", ""),
                target => add(&mut builder, EntryType::Symlink, "d", target),
            }
            (0..FILES).for_each(|n| add(&mut builder, EntryType::Regular, &format!("d/h{n}"), ""));
            let archive = builder.into_inner().unwrap();

            let temp = tempfile::tempdir().unwrap();
            let job = Job {
                directory: temp.path().to_owned(),
                file_name: "a.tar".into(),
                placing: Placing::Extract,
                limits: Limits::default(),
            };
            extract(&archive[..], Compression::None, &job, 2).unwrap();
            let second = if replacement.is_empty() {
                "d"
            } else {
                replacement
            };
            for (directory, initial) in [("e", 'f'), (second, 'h')] {
                let names: Vec<_> = fs::read_dir(temp.path().join(directory)).unwrap().collect();
                assert_eq!(names.len(), FILES, "{directory}");
                for name in names {
                    assert!(
                        name.unwrap()
                            .file_name()
                            .to_string_lossy()
                            .starts_with(initial)
                    );
                }
            }
        }
    }
}
