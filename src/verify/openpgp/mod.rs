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
