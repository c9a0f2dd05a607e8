//! Detection: any content is something, and what follows does not change what it is once enough was seen.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "the macro opens files")]

use fetch_content::fuzzing;
use fetch_content_fuzz::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|content: &[u8]| {
    let Ok(format) = fuzzing::sniff(content, &limits()) else {
        // Its window is larger than is allowed.
        assert!(!content.starts_with(b"PK"));
        return;
    };
    if content.starts_with(b"PK\x03\x04") {
        assert_eq!(format, "Zip");
    }
    // No compression begins with such a letter.
    let uncompressed = content.first().is_some_and(u8::is_ascii_lowercase);
    if uncompressed && content.len() >= 512 && &content[257..265] == b"ustar\x0000" {
        assert_eq!(format, "Tar(None)");
    }
});
