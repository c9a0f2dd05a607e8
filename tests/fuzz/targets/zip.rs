//! Extraction of zip archives: nothing outside changes, and what is accepted is what the zip crate reads.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "it looks at the disk directly")]

use fetch_content::{fuzzing, rel_path::RelPath};
use fetch_content_fuzz::{Cage, expect_archive_error, limits};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::{
    collections::BTreeMap,
    fs,
    io::{Cursor, Read},
    path::Path,
};
use zip::{System, ZipArchive};

fuzz_target!(|content: &[u8]| -> Corpus {
    if !content.starts_with(b"PK") {
        return Corpus::Reject;
    }
    Cage::with(|stage| match fuzzing::extract(content, stage, &limits()) {
        Ok(_) if stage.join(fuzzing::FILE).is_file() && !content.starts_with(b"PK\x03\x04") => {}
        Ok(_) => compare(content, stage),
        Err(error) => expect_archive_error(&error),
    });
    Corpus::Keep
});

/// Returns whether there may be a Unicode path of a version that nobody knows, which only the crate takes.
fn may_have_unknown_unicode_path(archive: &[u8]) -> bool {
    let unknown = |field: &[u8]| matches!(field, [b'u', b'p', (5..), 0, (2..)]);
    archive.windows(5).any(unknown)
}

/// Panics unless each regular file that the crate finds is there with the same content.
fn compare(content: &[u8], stage: &Path) {
    let mut archive = match ZipArchive::new(Cursor::new(content)) {
        // To unzip, bsdtar and us, less than a field is padding; to the crate, it can be the beginning of one.
        Err(err) if err.to_string().contains("header truncated") => return,
        archive => archive.expect("the crate accepts it, too"),
    };
    let mut files = BTreeMap::new();
    if may_have_unknown_unicode_path(content) {
        return;
    }
    for index in 0..archive.len() {
        let Ok(mut entry) = archive.by_index(index) else {
            // A method that the crate is built without.
            continue;
        };
        // Elsewhere names are text, and the crate has its own mind about what they say.
        if entry.system() != System::Unix {
            return;
        }
        let path = RelPath::strip_root(entry.name_raw()).expect("a name that was accepted");
        let mut content = Vec::new();
        let kind = entry.external_attributes() >> 28;
        if entry.is_dir() || kind == 0o12 || kind == 0o4 {
            files.insert(path, None);
        } else if entry.read_to_end(&mut content).is_ok() {
            files.insert(path, Some(content));
        }
    }
    if archive.has_duplicate_names() {
        return;
    }
    for (path, content) in files {
        if let Some(content) = content {
            let there = fs::read(stage.join(&path)).unwrap_or_default();
            assert!(there == content, "another content: {path}");
        }
    }
}
