//! `MOZ_FETCHES`: any text is a list or an error of usage, and no `dest` leads out.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "the macro opens files")]

use fetch_content::{error::Kind, task::parse_entries};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &str| {
    match parse_entries(json, "MOZ_FETCHES") {
        Ok((entries, _unknown)) => {
            for entry in entries {
                let mut components = entry.dest.components();
                assert!(components.all(|part| part != ".." && part != "." && !part.is_empty()));
                assert!(!entry.artifact.file_name().contains('/'));
            }
        }
        Err(error) => assert_eq!(error.kind(), Kind::Usage, "{error}"),
    }
});
