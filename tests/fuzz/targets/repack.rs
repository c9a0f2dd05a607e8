//! Repacking of any archive: nothing outside changes, nothing but the result is there, and it is the same every time.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "it looks at the disk directly")]

use fetch_content::{Repack, fuzzing};
use fetch_content_fuzz::{Cage, expect_archive_error, limits};
use libfuzzer_sys::{Corpus, fuzz_target};
use std::{fs, path::Path};

fuzz_target!(|content: &[u8]| -> Corpus {
    let Some((&choice, content)) = content.split_first() else {
        return Corpus::Reject;
    };
    let repack = Repack {
        strip_components: usize::from(choice & 3),
        add_prefix: if choice & 4 == 0 { "" } else { "prefix/" }.into(),
        wrap_as: (choice & 8 != 0).then(|| "name".into()),
    };
    let [first, second] = [(); 2].map(|()| Cage::with(|stage| repacked(content, &repack, stage)));
    assert!(first == second, "another result for the same input");
    Corpus::Keep
});

fn repacked(content: &[u8], repack: &Repack, stage: &Path) -> Option<Vec<u8>> {
    let result = fuzzing::repack(content, stage, repack.clone(), &limits());
    let there = fs::read_dir(stage).expect("the staging directory").count();
    assert!(there <= 1, "there is more than the result");
    match result {
        Ok(()) => Some(fs::read(stage.join(fuzzing::FILE)).expect("the result")),
        Err(error) => {
            expect_archive_error(&error);
            None
        }
    }
}
