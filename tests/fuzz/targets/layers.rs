//! Layers of images on top of each other: nothing outside changes, and no mark is left.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "it looks at the disk directly")]

use fetch_content::fuzzing;
use fetch_content_fuzz::{Cage, expect_archive_error, limits, with_checksums};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::{fs, path::Path};

fuzz_target!(|content: &[u8]| -> Corpus {
    if content.len() < 2 * 512 {
        return Corpus::Reject;
    }
    let content = with_checksums(content);
    // Somewhere in the middle, the next layer begins.
    let middle = content.len() / 1024 * 512;
    let (lower, upper) = content.split_at(middle);
    Cage::with(
        |stage| match fuzzing::apply_layers(&[lower, upper, lower], stage, &limits()) {
            Ok(()) => refuse_marks(stage),
            Err(error) => expect_archive_error(&error),
        },
    );
    Corpus::Keep
});

fn refuse_marks(directory: &Path) {
    // What cannot be listed has modes of the archive's.
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        assert!(!name.as_encoded_bytes().starts_with(b".wh."), "{name:?}");
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            refuse_marks(&entry.path());
        }
    }
}
