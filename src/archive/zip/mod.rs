//! Zip archives, which have their table of contents at the end: read from a file, several members at a time.
//!
//! ```text
//! end ─▶ directory ─▶ Member ─▶ local ─▶ content ─▶ extract, or repack
//!                                early: content ───────┘
//! ```
//!
//! The format says most things twice: in the table of contents and before each member, with lengths and with offsets.
//! Readers differ in which they believe, and an archive that shows each of them something else is how checks of its
//! content are got around. So the structure is parsed here and strictly, and what contradicts itself is refused; the
//! zip crate, which looks for whatever can be read and keeps one member per name, only decodes rare methods. The checks
//! take no pass of their own over the data: the header of a member is read with its content.

mod arrival;
mod attributes;
mod content;
mod directory;
mod early;
mod end;
mod extract;
mod fields;
mod header;
mod local;
mod name;
mod shared_file;
#[cfg(test)]
mod tests;

use super::{limits::Limits, tar::read_error};
use crate::error::Result;
pub(super) use attributes::MemberKind;
use content::MemberReader;
pub(super) use directory::Member;
pub(super) use early::Early;
pub(super) use extract::{extract, link_target};
use shared_file::SharedFile;
use std::{fs::File, sync::Arc};

/// An archive whose table of contents is read.
pub(super) struct Archive {
    file: SharedFile,
    limits: Limits,
    /// The members in the order of the table of contents.
    pub(super) members: Vec<Member>,
}

impl Archive {
    /// Opens an archive and reads its table of contents.
    pub(super) fn open(file: impl Into<Arc<File>>, limits: &Limits) -> Result<Self> {
        let file = SharedFile::new(file.into()).map_err(read_error)?;
        let members = directory::read(&file, limits)?;
        Ok(Self {
            file,
            limits: limits.clone(),
            members,
        })
    }

    /// Returns a reader of members' content.
    pub(super) fn reader(&self) -> MemberReader {
        MemberReader::new(self.file.clone(), self.limits.clone())
    }
}
