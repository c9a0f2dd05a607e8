//! Decoders: with several threads they make the same of any input as with one.

#![no_main]
#![expect(clippy::disallowed_methods, reason = "the macro opens files")]

use fetch_content::fuzzing;
use fetch_content_fuzz::limits;
use libfuzzer_sys::fuzz_target;

/// How much is decoded at most, in bytes: less than the limits allow, for these hold for one of the two only.
const MOST: u64 = 1 << 20;

fuzz_target!(|content: &[u8]| {
    match fuzzing::decode(content, MOST, &limits()) {
        [Ok(parallel), Ok(serial)] => assert!(parallel == serial, "another content"),
        [Err(_), Err(_)] => {}
        // One of them was stopped before it came to what the other complains about.
        [Ok(content), Err(_)] | [Err(_), Ok(content)] if content.len() as u64 == MOST => {}
        // The serial decoder, which only looks at the beginning, does not know that anything may follow bzip2 streams.
        [Ok(_), Err(err)] if err.to_string() == "bzip2: bz2 header missing" => {}
        [parallel, serial] => panic!(
            "parallel: {:?}, serial: {:?}",
            parallel.map(|content| content.len()),
            serial.map(|content| content.len())
        ),
    }
});
