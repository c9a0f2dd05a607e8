//! [`DetachedSignature`]: signatures that are kept beside what they are of, and their check.

use super::{
    Keyring, date, dearmored, is_sound,
    keys::{Key, Revocation},
};
use crate::{
    error::{Error, Result},
    safe_url::SafeUrl,
};
use digest::DynDigest;
use pgp::{
    composed::{self, Deserializable},
    crypto::hash::HashAlgorithm,
    packet::{
        Signature, SignatureConfig, SignatureType, SignatureVersion, SignatureVersionSpecific,
    },
    types::KeyVersion,
};
use std::{
    fmt,
    io::BufRead,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Signatures by given keys that are looked at in one file. Each of them costs a hash over all of the content.
const MAX_SIGNATURES: usize = 16;

/// The signatures in one file that are by given keys, and could be valid.
#[derive(Debug)]
pub struct DetachedSignature {
    url: SafeUrl,
    claims: Vec<Claim>,
}

/// A signature, and the key it says it is by.
#[derive(Debug)]
struct Claim {
    signature: Signature,
    key: Arc<Key>,
    signer: Signer,
}

/// Who vouches for content.
#[derive(Clone, Debug)]
pub struct Signer {
    key: String,
    made: SystemTime,
    /// What is odd about the signature, though it is valid.
    pub warnings: Vec<String>,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.key, date(self.made))
    }
}

impl DetachedSignature {
    /// Reads a signature file, armored or binary, and finds out all that can be known before the content is. `url` is
    /// where the file came from.
    ///
    /// # Errors
    /// [`Error::Signature`].
    pub fn parse(url: &SafeUrl, file: &[u8], keys: &Keyring, now: SystemTime) -> Result<Self> {
        let problem = |problem: String| refusal(url, problem);
        let unreadable =
            |err: &dyn fmt::Display| problem(format!("is no detached OpenPGP signature: {err}"));
        let packets = dearmored(file).map_err(|err| unreadable(&err))?;
        let signatures = composed::DetachedSignature::from_bytes_many(&*packets);
        let (mut claims, mut strangers) = (Vec::new(), Vec::new());
        for signature in signatures.map_err(|err| unreadable(&err))? {
            let signature = signature.map_err(|err| unreadable(&err))?.signature;
            let mut known = keys.claimed_by(&signature).peekable();
            if known.peek().is_none() {
                strangers.push(issuer(&signature));
            }
            for key in known {
                let signer = Signer::of(&signature, key, now).map_err(problem)?;
                let (signature, key) = (signature.clone(), Arc::clone(key));
                claims.push(Claim {
                    signature,
                    key,
                    signer,
                });
            }
        }
        if claims.len() > MAX_SIGNATURES {
            let found = claims.len();
            let text = format!(
                "holds {found} signatures by given keys, at most {MAX_SIGNATURES} are looked at"
            );
            return Err(problem(text));
        }
        let url = url.clone();
        match (claims.is_empty(), strangers.is_empty()) {
            (false, _) => Ok(Self { url, claims }),
            (true, true) => Err(unreadable(&"there is none in it")),
            (true, false) => Err(problem(format!(
                "is signed by {}, which is none of the keys given",
                strangers.join(" and ")
            ))),
        }
    }

    /// Reads the content to its end, once, and returns who signed it.
    ///
    /// # Errors
    /// [`Error::Signature`] if one of the signatures does not fit; [`Error::Cancelled`] if the content ends in an error.
    pub fn check(&self, mut content: impl BufRead) -> Result<Vec<Signer>> {
        let problem = |problem: String| refusal(&self.url, problem);
        let mut hashers = Vec::new();
        for claim in &self.claims {
            hashers.push(claim.hasher().map_err(problem)?);
        }
        loop {
            let chunk = content.fill_buf().map_err(|_unfinished| Error::Cancelled)?;
            if chunk.is_empty() {
                break;
            }
            for hasher in &mut hashers {
                hasher.update(chunk);
            }
            let length = chunk.len();
            content.consume(length);
        }
        for (claim, hasher) in self.claims.iter().zip(hashers) {
            claim.verify(hasher).map_err(problem)?;
        }
        Ok(self
            .claims
            .iter()
            .map(|claim| claim.signer.clone())
            .collect())
    }
}

fn refusal(url: &SafeUrl, problem: String) -> Error {
    Error::Signature {
        url: url.clone(),
        problem,
    }
}

/// Returns whom a signature claims to be by.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature
        .issuer_fingerprint()
        .first()
        .map(|own| format!("{own:X}"));
    let id = || {
        signature
            .issuer_key_id()
            .first()
            .map(|id| id.to_string().to_uppercase())
    };
    match fingerprint.or_else(id) {
        Some(issuer) => format!("key {issuer}"),
        None => "a key it does not name".to_owned(),
    }
}

impl Signer {
    /// Applies the policy that the module tells of. The error says why the signature cannot be valid.
    fn of(signature: &Signature, key: &Key, now: SystemTime) -> Result<Self, String> {
        let config = of_known_kind(signature, key)?;
        let created = signature
            .created()
            .ok_or("does not tell when it was made")?;
        let made = SystemTime::from(created);
        if let Some(lifetime) = signature.signature_expiration_time()
            && lifetime.as_secs() > 0
            && made + Duration::from(lifetime) < now
        {
            return Err(format!(
                "expired on {}",
                date(made + Duration::from(lifetime))
            ));
        }
        let born = SystemTime::from(key.material.created_at());
        if made < born || now < born {
            let (earlier, when) = if made < born {
                ("it", made)
            } else {
                ("now", now)
            };
            return Err(format!(
                "is by key {key}, which was made on {}, later than {earlier} ({})",
                date(born),
                date(when)
            ));
        }
        let mut signer = Self {
            key: key.to_string(),
            made,
            warnings: Vec::new(),
        };
        signer.judge_key(key, now)?;
        if matches!(
            config.hash_alg,
            HashAlgorithm::Sha1 | HashAlgorithm::Ripemd160
        ) {
            let hash = config.hash_alg;
            signer.warnings.push(format!(
                "the signature by key {key} rests on {hash}, which is not secure any more"
            ));
        }
        Ok(signer)
    }

    /// Decides whether the key could vouch for something when the signature was made, and still can.
    fn judge_key(&mut self, key: &Key, now: SystemTime) -> Result<(), String> {
        if let Some(unfit) = key.unfit {
            return Err(format!("is by key {key}, which cannot be: {unfit}"));
        }
        if let Some(revocation) = key.revoked_for(self.made) {
            return Err(format!("is by key {key}, which {revocation}"));
        }
        match key.expires {
            Some(expiry) if expiry <= self.made => {
                return Err(format!(
                    "was made on {}, but the key {key} expired on {}",
                    date(self.made),
                    date(expiry)
                ));
            }
            Some(expiry) if expiry <= now => self.warnings.push(format!(
                "the key {key} expired on {}, after it signed this",
                date(expiry)
            )),
            _ => {}
        }
        let revoked = key.revoked().map(Revocation::to_string);
        let warning =
            revoked.map(|revoked| format!("the key {key} {revoked}, after it signed this"));
        self.warnings.extend(warning);
        Ok(())
    }
}

/// Returns what a signature is made of, if it is one over data of a kind that is believed.
fn of_known_kind<'a>(signature: &'a Signature, key: &Key) -> Result<&'a SignatureConfig, String> {
    let config = signature.config().ok_or("is of an unknown version")?;
    let version_of_key = match config.version() {
        SignatureVersion::V3 | SignatureVersion::V4 => KeyVersion::V4,
        SignatureVersion::V6 => KeyVersion::V6,
        version => {
            return Err(format!(
                "is of version {}, which is not supported",
                u8::from(version)
            ));
        }
    };
    if key.material.version() != version_of_key {
        return Err(format!("is not of the version that key {key} makes"));
    }
    if !matches!(config.typ, SignatureType::Binary | SignatureType::Text) {
        return Err("is of something else than data".to_owned());
    }
    if config.hash_alg == HashAlgorithm::Md5 {
        return Err("rests on MD5, which anybody can forge".to_owned());
    }
    if !is_sound(signature) {
        return Err("has a condition that is not understood".to_owned());
    }
    Ok(config)
}

impl Claim {
    /// Begins the hash that is signed.
    fn hasher(&self) -> Result<Hasher, String> {
        let config = self.signature.config().ok_or("is of an unknown version")?;
        let mut state = config
            .hash_alg
            .new_hasher()
            .map_err(|err| err.to_string())?;
        if let SignatureVersionSpecific::V6 { salt } = &config.version_specific {
            if config.hash_alg.salt_len() != Some(salt.len()) {
                return Err(format!("has a salt of {} bytes", salt.len()));
            }
            state.update(salt);
        }
        Ok(Hasher {
            state,
            is_text: config.typ == SignatureType::Text,
            returns: 0,
        })
    }

    /// Compares what was hashed with what is signed.
    fn verify(&self, mut hasher: Hasher) -> Result<(), String> {
        let config = self.signature.config().ok_or("is of an unknown version")?;
        let signed = self
            .signature
            .signature()
            .ok_or("is of an unknown version")?;
        let fails =
            |err: pgp::errors::Error| format!("fails to verify with key {}: {err}", self.key);
        let length = config
            .hash_signature_data(&mut hasher.state)
            .map_err(fails)?;
        hasher.state.update(&config.trailer(length).map_err(fails)?);
        let hash = hasher.state.finalize();
        // Not secret, and not sure either: it only tells the likely case from the strange one.
        if self
            .signature
            .signed_hash_value()
            .as_ref()
            .map(<[u8; 2]>::as_slice)
            != hash.get(..2)
        {
            return Err(format!(
                "is not of this content: key {} signed something else",
                self.key
            ));
        }
        self.key
            .material
            .verify(config.hash_alg, &hash, signed)
            .map_err(fails)
    }
}

/// Hashes content as a signature asks for.
struct Hasher {
    state: Box<dyn DynDigest + Send>,
    /// Lines end with CR LF, whatever they end with in the content. As `gpg` has it, and other than RFC 9580, any number
    /// of CRs belongs to the end of a line, and to the end of the content. (To `gpg` so do zero bytes, by mistake.)
    is_text: bool,
    /// CRs that may belong to the end of a line.
    returns: usize,
}

impl Hasher {
    fn update(&mut self, chunk: &[u8]) {
        if !self.is_text {
            return self.state.update(chunk);
        }
        for line in chunk.split_inclusive(|&byte| byte == b'\n') {
            let (text, ends) = match line.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (line, false),
            };
            let last = text.iter().rposition(|&byte| byte != b'\r');
            if let Some(last) = last {
                (0..self.returns).for_each(|_| self.state.update(b"\r"));
                self.state.update(&text[..=last]);
                self.returns = 0;
            }
            self.returns += text.len() - last.map_or(0, |last| last + 1);
            if ends {
                self.state.update(b"\r\n");
                self.returns = 0;
            }
        }
    }
}
