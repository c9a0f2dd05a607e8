//! `Content-Range`: what is read as a range is one, and says the same again.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "the macro opens files")]

use fetch_content::fuzzing::content_range;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Some((start, end, total)) = content_range(text) else {
        return;
    };
    assert!(start < end && total.is_none_or(|total| end <= total));
    let total_text = total.map_or("*".to_owned(), |total| total.to_string());
    let again = format!("bytes {start}-{}/{total_text}", end - 1);
    assert_eq!(content_range(&again), Some((start, end, total)));
});
