//! Extraction of tar archives: nothing outside changes, and plain files are what the tar crate reads.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "it looks at the disk directly")]

use fetch_content::{fuzzing, rel_path::RelPath};
use fetch_content_fuzz::{Cage, expect_archive_error, limits, with_checksums};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::{collections::BTreeMap, fs, io::Read, path::Path};
use tar::{Archive, Entry, EntryType};

fuzz_target!(|content: &[u8]| -> Corpus {
    if content.len() < 512 {
        return Corpus::Reject;
    }
    let archive = with_checksums(content);
    Cage::with(|stage| match fuzzing::extract(&archive, stage, &limits()) {
        Ok(_) => compare(&archive, stage),
        Err(error) => expect_archive_error(&error),
    });
    Corpus::Keep
});

/// Panics unless the plain files of an archive of nothing but plain files and directories are there.
fn compare(archive: &[u8], stage: &Path) {
    let mut files = BTreeMap::new();
    let mut reader = Archive::new(archive);
    let Ok(entries) = reader.entries() else {
        return;
    };
    for entry in entries {
        let Ok(mut entry) = entry else { return };
        let path = RelPath::strip_root(&entry.path_bytes());
        let (Ok(path), mut content) = (path, Vec::new()) else {
            return;
        };
        if is_sparse(&mut entry) || has_unknown_version(&entry) {
            return;
        }
        match entry.header().entry_type() {
            EntryType::Directory => {
                files.remove(&path);
            }
            EntryType::Regular if entry.path_bytes().ends_with(b"/") => {}
            EntryType::Regular if entry.read_to_end(&mut content).is_ok() => {
                files.insert(path, content);
            }
            _ => return,
        }
    }
    for (path, content) in files {
        let there = fs::read(stage.join(&path)).unwrap_or_default();
        assert!(there == content, "another content: {path}");
    }
}

/// Returns whether a header is of a version of ustar that nobody wrote. The crate finds no prefix in it, GNU tar and
/// bsdtar do.
fn has_unknown_version<R: Read>(entry: &Entry<'_, R>) -> bool {
    let header = entry.header().as_bytes();
    &header[257..263] == b"ustar\0" && &header[263..265] != b"00"
}

/// Returns whether PAX records say that a file is sparse, of which the crate knows nothing.
fn is_sparse<R: Read>(entry: &mut Entry<'_, R>) -> bool {
    let Ok(Some(records)) = entry.pax_extensions() else {
        return false;
    };
    let mut keys = records.flatten();
    keys.any(|record| record.key_bytes().starts_with(b"GNU.sparse."))
}
