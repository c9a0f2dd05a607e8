//! [`Keyring`]: the keys that may vouch for content, and what is to be known about each.

use super::{date, dearmored, is_sound};
use crate::error::{Error, Result};
use pgp::{
    composed::{Deserializable, SignedPublicKey, SignedPublicSubKey},
    packet::{
        KeyFlags, Packet, PacketParser, PublicKey, RevocationCode, Signature, SignatureType,
        SubpacketData, UserId,
    },
    types::{KeyDetails, KeyVersion, Tag, VerifyingKey},
};
use std::{
    cmp::Reverse,
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The full fingerprint of a key. Short key ids can be made to measure, so that there is no type for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint(Vec<u8>);

/// The text is not 40 or 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{text}` is not a fingerprint: expected 40 or 64 hexadecimal digits, got {digits} characters"
)]
pub struct ParseFingerprintError {
    text: String,
    digits: usize,
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;

    /// Accepts upper and lower case, and spaces between digits as `gpg --fingerprint` shows them.
    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        let malformed = || ParseFingerprintError {
            text: text.escape_debug().to_string(),
            digits: digits.len(),
        };
        let values = digits.iter().map(|digit| digit.to_digit(16));
        let values: Vec<u32> = values.collect::<Option<_>>().ok_or_else(malformed)?;
        if !matches!(values.len(), 40 | 64) {
            return Err(malformed());
        }
        let bytes = values.chunks_exact(2);
        let bytes = bytes.map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap_or_default());
        Ok(Self(bytes.collect()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// Keys that may vouch for content.
#[derive(Debug)]
pub struct Keyring {
    keys: Vec<Arc<Key>>,
}

impl Keyring {
    /// Reads public keys, armored or binary, any number of them. `from` is what people call the text.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is none that can sign.
    pub fn parse(text: &[u8], from: &str) -> Result<Self> {
        let unusable = |why: &str| Error::Usage {
            what: format!("{from} holds no OpenPGP key that can sign: {why}"),
            hint: Some("give public keys as `gpg --armor --export` writes them".into()),
        };
        let packets = dearmored(text).map_err(|err| unusable(&err.to_string()))?;
        let parsed = SignedPublicKey::from_bytes_many(&*packets);
        let mut certificates = Vec::new();
        let mut problem = "there is no public key in it".to_owned();
        for certificate in parsed.map_err(|err| unusable(&err.to_string()))? {
            match certificate {
                Ok(certificate) => merge(&mut certificates, certificate),
                // A key of a kind nobody reads must not spoil the others.
                Err(err) => problem = err.to_string(),
            }
        }
        let revocations = revocations(&packets);
        let mut keys = Vec::new();
        for certificate in certificates {
            match keys_of(&certificate, &revocations) {
                Ok(more) => keys.extend(more.into_iter().map(Arc::new)),
                Err(why) => problem = why,
            }
        }
        if keys.iter().all(|key| key.unfit.is_some()) {
            let of_keys = keys.iter().find_map(|key| key.unfit);
            return Err(unusable(of_keys.unwrap_or(&problem)));
        }
        Ok(Self { keys })
    }

    /// Keeps only keys with one of these fingerprints, and subkeys of such. `from` is what people call the keyring.
    ///
    /// # Errors
    /// [`Error::Usage`] when none is left.
    pub fn pinned_to(mut self, pins: &[Fingerprint], from: &str) -> Result<Self> {
        self.keys.retain(|key| {
            let own = [key.material.fingerprint(), key.primary.fingerprint()];
            pins.iter()
                .any(|pin| own.iter().any(|own| own.as_bytes() == pin.0))
        });
        if self.keys.is_empty() {
            let pins: Vec<_> = pins.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format!(
                "{from} holds no key with the fingerprint {}",
                pins.join(" or ")
            )));
        }
        Ok(self)
    }

    /// Returns the keys that a signature claims to be by.
    pub(super) fn claimed_by(&self, signature: &Signature) -> impl Iterator<Item = &Arc<Key>> {
        let (fingerprints, ids) = (signature.issuer_fingerprint(), signature.issuer_key_id());
        self.keys.iter().filter(move |key| {
            fingerprints.contains(&&key.material.fingerprint())
                || ids.contains(&&key.material.legacy_key_id())
        })
    }
}

/// A key that can verify, with what its owner says about it.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) material: Box<dyn VerifyingKey + Send + Sync>,
    primary: Arc<PublicKey>,
    user: String,
    /// Why it can vouch for nothing, if so.
    pub(super) unfit: Option<&'static str>,
    /// The end of its own time or of its primary key's.
    pub(super) expires: Option<SystemTime>,
    revoked: Vec<Revocation>,
}

/// A key or its primary key was revoked.
#[derive(Clone, Debug)]
pub(super) struct Revocation {
    pub(super) when: SystemTime,
    /// The owner says that the key was only replaced or retired.
    pub(super) harmless: bool,
}

impl Key {
    /// Returns the revocation that takes away what the key said at a time.
    pub(super) fn revoked_for(&self, made: SystemTime) -> Option<&Revocation> {
        let mut revoked = self.revoked.iter();
        revoked.find(|revocation| !(revocation.harmless && made < revocation.when))
    }

    /// Returns the first revocation of all.
    pub(super) fn revoked(&self) -> Option<&Revocation> {
        self.revoked.iter().min_by_key(|revocation| revocation.when)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, primary) = (self.material.fingerprint(), self.primary.fingerprint());
        write!(f, "{own:X} (")?;
        if own != primary {
            write!(f, "subkey of {primary:X}, ")?;
        }
        write!(f, "{})", self.user)
    }
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = if self.harmless {
            "as replaced or retired"
        } else {
            "for good"
        };
        write!(f, "was revoked on {}, {why}", date(self.when))
    }
}

/// Adds a copy of a key to those there are: the union of what is said about it.
fn merge(certificates: &mut Vec<SignedPublicKey>, other: SignedPublicKey) {
    let known = certificates
        .iter_mut()
        .find(|known| known.fingerprint() == other.fingerprint());
    let Some(known) = known else {
        return certificates.push(other);
    };
    let (details, more) = (&mut known.details, other.details);
    details.direct_signatures.extend(more.direct_signatures);
    for user in more.users {
        match details.users.iter_mut().find(|known| known.id == user.id) {
            Some(known) => known.signatures.extend(user.signatures),
            None => details.users.push(user),
        }
    }
    for subkey in other.public_subkeys {
        let mut subkeys = known.public_subkeys.iter_mut();
        match subkeys.find(|known| known.fingerprint() == subkey.fingerprint()) {
            Some(known) => known.signatures.extend(subkey.signatures),
            None => known.public_subkeys.push(subkey),
        }
    }
}

/// Returns the revocations of primary keys, wherever they are: the certificates that `gpg --gen-revoke` makes are
/// packets of their own, and are appended to a keyring as they are.
fn revocations(packets: &[u8]) -> Vec<Signature> {
    PacketParser::new(packets)
        .filter_map(|packet| match packet {
            Ok(Packet::Signature(signature)) => Some(signature),
            _ => None,
        })
        .filter(|signature| signature.typ() == Some(SignatureType::KeyRevocation))
        .collect()
}

/// Returns the primary key and its subkeys. The error says why nothing of it can be believed.
fn keys_of(certificate: &SignedPublicKey, revocations: &[Signature]) -> Result<Vec<Key>, String> {
    let primary = Arc::new(certificate.primary_key.clone());
    let name = format!("key {:X}", primary.fingerprint());
    if !matches!(primary.version(), KeyVersion::V4 | KeyVersion::V6) {
        return Err(format!(
            "{name} is of a version that is not secure any more"
        ));
    }
    let (user, statements) = statements(certificate);
    if statements.is_empty() {
        return Err(format!("{name} has no valid self-signature"));
    }
    let lifetime = statements.iter().find_map(|statement| lifetime(statement));
    let mut may_sign = statements.iter().find_map(|statement| flags(statement));
    let revocations = revocations.iter();
    let revoked = revocations.filter(|sig| is_sound(sig) && sig.verify_key(&*primary).is_ok());
    let own = Key {
        material: Box::new(certificate.primary_key.clone()),
        user: user.map_or_else(|| "no user id".to_owned(), shown),
        unfit: may_sign
            .take_if(|flags| !flags.sign())
            .map(|_| "it is not for signing data"),
        expires: lifetime.map(|lifetime| SystemTime::from(primary.created_at()) + lifetime),
        revoked: revoked.map(Revocation::from).collect(),
        primary,
    };
    let subkeys = certificate.public_subkeys.iter();
    let mut keys: Vec<Key> = subkeys.map(|subkey| subkey_of(&own, subkey)).collect();
    keys.push(own);
    Ok(keys)
}

/// Returns what the owner of a key says about it, the most telling first: directly, or beside a user id. The user id
/// is the one that the key goes by.
fn statements(certificate: &SignedPublicKey) -> (Option<&UserId>, Vec<&Signature>) {
    let primary = &certificate.primary_key;
    let directly = certificate.details.direct_signatures.iter().filter(|sig| {
        sig.typ() == Some(SignatureType::Key) && is_sound(sig) && sig.verify_key(primary).is_ok()
    });
    let users = certificate.details.users.iter().filter_map(|user| {
        let valid = user.signatures.iter().filter(|sig| {
            is_sound(sig)
                && sig
                    .verify_certification(primary, Tag::UserId, &user.id)
                    .is_ok()
        });
        let newest = newest(valid)?;
        (newest.typ() != Some(SignatureType::CertRevocation)).then_some((&user.id, newest))
    });
    let mut users: Vec<_> = users.collect();
    users.sort_by_key(|(_, signature)| Reverse(signature.created()));
    let primary = users.iter().find(|(_, signature)| signature.is_primary());
    let user = primary.or(users.first()).map(|(user, _)| *user);
    let beside = users.into_iter().map(|(_, signature)| signature);
    (user, newest(directly).into_iter().chain(beside).collect())
}

/// Turns a subkey into a key of its own, which is worth no more than its primary key.
fn subkey_of(primary: &Key, subkey: &SignedPublicSubKey) -> Key {
    let owner = &*primary.primary;
    let valid = |kind: SignatureType| {
        let signatures = subkey.signatures.iter();
        signatures.filter(move |sig| {
            sig.typ() == Some(kind)
                && is_sound(sig)
                && sig.verify_subkey_binding(owner, &subkey.key).is_ok()
        })
    };
    let bond = newest(valid(SignatureType::SubkeyBinding));
    let is_confirmed = |bond: &Signature| {
        bond.embedded_signature().is_some_and(|back| {
            is_sound(back) && back.verify_primary_key_binding(&subkey.key, owner).is_ok()
        })
    };
    let unfit = match bond {
        None => Some("its primary key does not vouch for it"),
        Some(bond) if flags(bond).is_some_and(|flags| !flags.sign()) => {
            Some("it is not for signing data")
        }
        Some(bond) if !is_confirmed(bond) => {
            Some("it does not confirm that it belongs to its primary key")
        }
        Some(_) => None,
    };
    let expires = bond
        .and_then(lifetime)
        .map(|lifetime| SystemTime::from(subkey.key.created_at()) + lifetime);
    let revoked = valid(SignatureType::SubkeyRevocation).map(Revocation::from);
    Key {
        primary: Arc::clone(&primary.primary),
        user: primary.user.clone(),
        unfit,
        expires: [expires, primary.expires].into_iter().flatten().min(),
        revoked: revoked.chain(primary.revoked.iter().cloned()).collect(),
        material: Box::new(subkey.key.clone()),
    }
}

impl From<&Signature> for Revocation {
    /// A reason that is not known to be harmless is not.
    fn from(signature: &Signature) -> Self {
        let reason = signature.revocation_reason_code();
        let harmless = [RevocationCode::KeySuperseded, RevocationCode::KeyRetired];
        Self {
            when: signature
                .created()
                .map_or(SystemTime::UNIX_EPOCH, SystemTime::from),
            harmless: reason.is_some_and(|reason| harmless.contains(reason)),
        }
    }
}

fn newest<'a>(signatures: impl Iterator<Item = &'a Signature>) -> Option<&'a Signature> {
    signatures.max_by_key(|signature| signature.created())
}

/// Returns how long after it was made a key is valid; `None` if no end is told.
fn lifetime(signature: &Signature) -> Option<Duration> {
    let lifetime = signature.key_expiration_time()?;
    (lifetime.as_secs() > 0).then(|| lifetime.into())
}

/// Returns what a key is for; `None` if that is not told, as by old keys.
fn flags(signature: &Signature) -> Option<&KeyFlags> {
    let mut told = signature.config()?.hashed_subpackets();
    told.find_map(|part| match &part.data {
        SubpacketData::KeyFlags(flags) => Some(flags),
        _ => None,
    })
}

/// Makes a user id fit to be shown.
fn shown(user: &UserId) -> String {
    String::from_utf8_lossy(user.id())
        .escape_debug()
        .to_string()
}
