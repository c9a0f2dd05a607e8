//! Descriptions of caches: any text is one, or is refused, and every number in it is of something.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "the macro opens files")]

use fetch_content::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|json: &[u8]| {
    for (layers, results) in fuzzing::cache(json).into_iter().flatten() {
        for result in results {
            assert!(!result.is_empty() && result.len() <= 1000);
            assert!(result.iter().all(|number| *number < layers));
        }
    }
});
