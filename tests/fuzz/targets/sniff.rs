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
    if content.len() >= 265 && &content[257..265] == b"ustar\x0000" && content.len() >= 512 {
        assert!(
            format == "Tar(None)" || !matches!(content[0], 1..0x7f),
            "{format}"
        );
    }
});
