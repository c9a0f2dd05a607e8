//! From zip: members in the order of the table of contents.

use super::{Repack, member::Member, writer::TarZst};
use crate::{
    archive::{
        limits::Limits,
        zip::{Archive, MemberKind, link_target},
    },
    error::Result,
};
use std::{fs::File, io};
use tar::EntryType;

/// Writes the members of an archive under their new names, those of directories left out.
pub(super) fn rewrite(
    file: File,
    repack: &Repack,
    limits: &Limits,
    out: &mut TarZst,
) -> Result<()> {
    let archive = Archive::open(file, limits)?;
    let mut reader = archive.reader();
    for member in &archive.members {
        if member.kind == MemberKind::Directory {
            reader.check(member)?;
            continue;
        }
        let repacked = Member {
            // Archives made elsewhere do not tell programs from other files.
            mode: member.unix_mode.unwrap_or(0o644),
            mtime: member.dos_mtime.map_or(0, |mtime| mtime.seconds),
            ..Member::file(repack.rename(&member.name)?)
        };
        if member.kind == MemberKind::Symlink {
            let repacked = Member {
                kind: EntryType::Symlink,
                link: Some(link_target(&mut reader, member, limits)?),
                ..repacked
            };
            out.append(&repacked, io::empty())?;
            continue;
        }
        let repacked = Member {
            size: member.size,
            ..repacked
        };
        out.append_buffered(&repacked, reader.open(member)?.content)?;
    }
    out.end_archive()
}

#[cfg(test)]
mod tests {
    use super::super::{Repack, writer::tests::written};
    use super::{Limits, rewrite};
    use std::io::{Read, Write};
    use tar::EntryType;
    use zip::{DateTime, ZipWriter, write::SimpleFileOptions};

    #[test]
    fn members_come_in_order_with_links_that_have_no_content() {
        let file = tempfile::tempfile().unwrap();
        let time = DateTime::from_date_and_time(2020, 1, 2, 3, 4, 6).unwrap();
        let options = SimpleFileOptions::default().last_modified_time(time);
        let mut zip = ZipWriter::new(file);
        zip.add_directory("top/", options).unwrap();
        zip.add_symlink("top/link", "run", options).unwrap();
        zip.start_file("top/run", options.unix_permissions(0o755))
            .unwrap();
        zip.write_all(b"content").unwrap();
        let file = zip.finish().unwrap();

        let repack = Repack {
            strip_components: 1,
            ..Repack::default()
        };
        let tar = written(|out| rewrite(file, &repack, &Limits::default(), out)).unwrap();
        let mut archive = tar::Archive::new(&tar[..]);
        let mut entries = archive.entries().unwrap().map(Result::unwrap);
        let link = entries.next().unwrap();
        assert_eq!(link.header().entry_type(), EntryType::Symlink);
        assert_eq!((&*link.path_bytes(), link.size()), (&b"link"[..], 0));
        assert_eq!(*link.link_name_bytes().unwrap(), *b"run");
        let mut run = entries.next().unwrap();
        let mut content = String::new();
        run.read_to_string(&mut content).unwrap();
        assert_eq!((&*run.path_bytes(), &*content), (&b"run"[..], "content"));
        let header = run.header();
        assert_eq!(
            (header.mode().unwrap(), header.mtime().unwrap()),
            (0o755, 1_577_934_246)
        );
        assert!(entries.next().is_none());
    }
}
