//! Detached OpenPGP signatures over data: [`Keyring`] is who may vouch, [`DetachedSignature`] is what was said, and its
//! check reads the content once.
//!
//! What `gpg --verify` takes for valid is valid here, unless there is a reason not to believe it. The signature file
//! is good if at least one signature in it is by a given key, and if all by given keys are good. This is decided so:
//!
//! - *Signatures by other keys* say nothing and are passed over. `gpg` fails for them, so that a release that a second
//!   person signs, too, needs a new keyring.
//! - *A key that has expired since* still vouches for what it signed before, with a warning, as with `gpg`: this is how
//!   releases of years ago stay verifiable. A signature made after the key had expired is refused; `gpg` takes it.
//!   Where the owner has prolonged the key, a new copy of it settles that.
//! - *A revoked key* vouches for nothing, unless its owner says that it was replaced or retired, and later than the
//!   signature was made. `gpg` only warns. Revocations by other keys (designated revokers) are not looked at.
//! - *A signature that has expired*, one older than its key, and one with a critical notation are refused.
//! - *MD5* is refused; *SHA-1* and RIPEMD-160 are taken, with a warning, because old releases are signed so. Collisions
//!   of SHA-1 by the known attacks are detected and fail, and Ed25519 is never used with either.
//! - *A subkey* counts if its primary key binds it for signing and it has signed that bond itself.
//!
//! Of several self-signatures the newest counts, so that a key is what its owner last said about it; copies of a key
//! are merged. Trust between keys has no part in this: who gives a key trusts it.

mod keys;
mod signature;

pub use keys::{Fingerprint, Keyring};
pub use signature::{DetachedSignature, Signer};

use pgp::{
    armor::Dearmor,
    crypto::hash::HashAlgorithm,
    packet::{Signature, SubpacketData},
};
use std::{
    borrow::Cow,
    io::{self, Read},
    time::SystemTime,
};

/// How a block of armor begins.
const ARMOR: &[u8] = b"-----BEGIN PGP ";

/// Returns OpenPGP data without its armor. Blocks of it one after another are one sequence of packets, and text between
/// them is left out.
fn dearmored(text: &[u8]) -> io::Result<Cow<'_, [u8]>> {
    // In binary data the first bit of a packet is set, and in text of any use it is not.
    if text.first().is_some_and(|byte| byte & 0x80 != 0) {
        return Ok(Cow::Borrowed(text));
    }
    let begins = text.windows(ARMOR.len()).enumerate();
    let begins = begins.filter_map(|(at, window)| (window == ARMOR).then_some(at));
    let mut ends: Vec<usize> = begins.collect();
    ends.push(text.len());
    let mut packets = Vec::new();
    for block in ends.windows(2) {
        Dearmor::new(&text[block[0]..block[1]]).read_to_end(&mut packets)?;
    }
    Ok(Cow::Owned(packets))
}

/// Whether a signature says nothing that is not understood here, and does not rest on MD5.
fn is_sound(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        let unclear = config
            .hashed_subpackets()
            .any(|part| part.is_critical && matches!(part.data, SubpacketData::Notation(_)));
        !unclear && config.hash_alg != HashAlgorithm::Md5
    })
}

/// Shows a time to people.
fn date(time: SystemTime) -> String {
    httpdate::fmt_http_date(time)
}

#[cfg(test)]
mod tests {
    use super::{DetachedSignature, Fingerprint, Keyring};
    use crate::safe_url::SafeUrl;
    use std::time::SystemTime;

    /// The certificate of RFC 9580, A.3, of version 6: `gpg` makes none.
    const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----

xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf
GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy
KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw
gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE
QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn
+eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh
BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8
j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDEM0g12vYxoWM8Y81W+bHBw805
I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==
-----END PGP PUBLIC KEY BLOCK-----
";

    /// The signature of the text of A.6.
    const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----

wpgGARsKAAAAKQWCY5ijYyIhBssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce6
2azJAAAAAGk2IHZJX1AhiJD39eLuPBgiUU9wUA9VHYblySHkBONKU/usJ9BvuAqo
/FvLFuGWMbKAdA+epq7V4HOtAPlBWmU8QOd6aud+aSunHQaaEJ+iTFjP2OMW0KBr
NK2ay45cX1IVAQ==
-----END PGP SIGNATURE-----
";

    const TEXT: &str = "What we need from the grocery store:\n\n- tofu\n- vegetables\n- noodles\n";

    const FINGERPRINT: &str =
        "CB186C4F 0609A697 E4D52DFA 6C722B0C 1F1E27C1 8A56708F 6525EC27 BAD9ACC9";

    fn signers(text: &str, keys: &Keyring) -> crate::error::Result<Vec<String>> {
        let url = SafeUrl::of_file("x.sig".as_ref());
        let signature = SIGNATURE.as_bytes();
        let signature = DetachedSignature::parse(&url, signature, keys, SystemTime::now())?;
        let signers = signature.check(text.as_bytes())?;
        Ok(signers.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn keys_of_version_6_are_known_and_can_be_pinned() {
        let pin: Fingerprint = FINGERPRINT.parse().unwrap();
        let keys = Keyring::parse(KEY.as_bytes(), "KEY").unwrap();
        let keys = keys.pinned_to(std::slice::from_ref(&pin), "KEY").unwrap();
        assert_eq!(
            signers(TEXT, &keys).unwrap(),
            [format!(
                "{pin} (no user id) on Tue, 13 Dec 2022 16:08:03 GMT"
            )]
        );
        let err = signers("What we need", &keys).unwrap_err().to_string();
        assert!(err.contains(&pin.to_string()), "{err}");
    }
}
