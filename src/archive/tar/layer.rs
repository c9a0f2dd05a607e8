//! Layers of images, on top of each other in a confined tree: what removes something is a member with a name of its own,
//! `.wh.NAME` or `.wh..wh..opq`, that is not extracted.
//!
//! Only what lower layers brought is removed, wherever in its layer the mark is; so all names of a layer are remembered.

use super::{Extractor, member_path, reader::Member, reader::Reader, refused};
use crate::{
    archive::{LAYER_MODES, Limits, cores, format::Compression},
    error::Result,
    fs::Dir,
    rel_path::RelPath,
    stream::TakeBytes,
};
use std::{collections::HashSet, ffi::OsStr, os::unix::ffi::OsStrExt, path::Path};
use tar::EntryType;

/// What marks begin with, and the one that hides everything in a directory.
const MARK: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Extracts a layer, which was decoded already, on top of what is in a directory. Returns how many members it has.
pub(in crate::archive) fn apply(
    source: impl TakeBytes,
    compression: Compression,
    directory: &Path,
    limits: &Limits,
) -> Result<u64> {
    let is_first = Dir::open(directory)?.names()?.is_empty();
    std::thread::scope(|scope| {
        let mut layer = Layer {
            extractor: Extractor::start(scope, directory, limits, cores())?,
            names: (!is_first).then(HashSet::new),
        };
        // Lower layers may have brought some.
        layer.extractor.has_links = !is_first;
        let mut reader = Reader::new(source, compression, limits);
        while let Some(mut member) = reader.next_member()? {
            member.mode &= LAYER_MODES;
            layer.member(&mut reader, &member)?;
        }
        let members = reader.members();
        reader.finish()?;
        layer.extractor.finish()?;
        Ok(members)
    })
}

struct Layer<'a> {
    extractor: Extractor<'a>,
    /// Everything that is in this layer, with the directories on the way. There is nothing to remove from the first one.
    names: Option<HashSet<RelPath>>,
}

/// What a member says about lower layers.
#[derive(Debug, PartialEq)]
enum Mark {
    /// This is removed.
    Removed(RelPath),
    /// Everything in this directory is removed.
    Opaque(RelPath),
}

impl Layer<'_> {
    fn member(&mut self, reader: &mut Reader<'_, impl TakeBytes>, member: &Member) -> Result<()> {
        let path = member_path(&member.name)?;
        if let Some(mark) = mark(&path, member)? {
            return self.obey(&mark);
        }
        self.remember(&path)?;
        self.make_room(&path, member)?;
        self.extractor.member(reader, member)
    }

    fn remember(&mut self, path: &RelPath) -> Result<()> {
        let Some(names) = &mut self.names else {
            return Ok(());
        };
        let mut way = Some(path.clone());
        // Where a directory is known, so are those above it.
        while let Some(path) = way
            && !names.contains(&path)
        {
            self.extractor.keep_name(&path)?;
            way = path.parent();
            names.insert(path);
        }
        Ok(())
    }

    /// Removes what lower layers have in a directory that something else takes the place of.
    fn make_room(&mut self, path: &RelPath, member: &Member) -> Result<()> {
        let Some(names) = &self.names else {
            return Ok(());
        };
        let extractor = &mut self.extractor;
        if member.kind == EntryType::Directory || !extractor.tree.holds_directory(path)? {
            return Ok(());
        }
        extractor.settle()?;
        extractor.tree.prune(path, &|path| names.contains(path))
    }

    fn obey(&mut self, mark: &Mark) -> Result<()> {
        let Some(names) = &self.names else {
            return Ok(());
        };
        self.extractor.settle()?;
        let tree = &mut self.extractor.tree;
        match mark {
            Mark::Removed(path) => tree.prune(path, &|path| names.contains(path)),
            Mark::Opaque(path) => tree.prune_content(path, &|path| names.contains(path)),
        }
    }
}

/// Returns what a member marks, if it is a mark.
fn mark(path: &RelPath, member: &Member) -> Result<Option<Mark>> {
    let is_mark = |name: &OsStr| name.as_bytes().starts_with(MARK);
    let Some((parent, name)) = path.split_last() else {
        return Ok(None);
    };
    if parent.components().any(is_mark) {
        return Err(refused(
            path,
            "it is inside of what marks something as removed",
        ));
    }
    if !is_mark(name) {
        return Ok(None);
    }
    if member.kind != EntryType::Regular || member.size != 0 {
        return Err(refused(
            path,
            "what marks something as removed is no empty file",
        ));
    }
    if name.as_bytes() == OPAQUE {
        return Ok(Some(Mark::Opaque(parent)));
    }
    match &name.as_bytes()[MARK.len()..] {
        b"" | b"." | b".." => Err(refused(path, "it marks nothing that can be removed")),
        // What other union file systems keep for themselves.
        removed if removed.starts_with(MARK) => {
            Err(refused(path, "it is a mark that is not known"))
        }
        removed => Ok(Some(Mark::Removed(parent.join(OsStr::from_bytes(removed))))),
    }
}

#[cfg(test)]
mod tests;
