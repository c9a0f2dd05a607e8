//! OpenPGP signatures made by the program `gpg`, and its verdict on each to compare ours with.

use std::time::SystemTime;

use fetch_content::safe_url::SafeUrl;
use fetch_content::verify::openpgp::{DetachedSignature, Keyring};
use pgp::composed::{ArmorOptions, Deserializable, SignedPublicKey};

use crate::support::archives::noise;
use crate::support::gpg::{Gpg, have_gpg};

/// What we say where `gpg` says something else.
enum Ours {
    /// The same.
    Same,
    /// It is refused, and this is in the reason.
    Refused(&'static str),
    /// It is taken.
    Taken,
}

/// Keys and a signature, and what is to be thought of them.
struct Case {
    name: &'static str,
    keys: Vec<u8>,
    signature: Vec<u8>,
    content: Vec<u8>,
    /// Whether `gpg` takes it.
    gpg: bool,
    ours: Ours,
}

impl Case {
    fn with_keys(self, keys: &[&[u8]]) -> Self {
        let keys = keys.concat();
        Self { keys, ..self }
    }

    fn of_content(self, content: &[u8]) -> Self {
        let content = content.to_vec();
        Self { content, ..self }
    }

    /// It is bad, and all say so.
    fn bad(self) -> Self {
        Self { gpg: false, ..self }
    }

    /// We refuse it for a reason.
    fn but_refused(self, reason: &'static str) -> Self {
        let ours = Ours::Refused(reason);
        Self { ours, ..self }
    }

    /// `gpg` refuses it, and we take it.
    fn but_taken(self) -> Self {
        let (gpg, ours) = (false, Ours::Taken);
        Self { gpg, ours, ..self }
    }
}

/// Keys, each at its best time, and a content to sign.
struct Keys {
    gpg: Gpg,
    /// Ed25519, without end.
    ed: String,
    /// The same, of somebody else.
    bob: String,
    /// RSA, since 2020, without end.
    rsa: String,
    /// A subkey of it, until the end of 2021.
    rsa_subkey: String,
    content: Vec<u8>,
}

impl Keys {
    fn new() -> Self {
        let gpg = Gpg::new();
        let rsa = gpg.key(Some("20200101"), "Rita <rita@x>", "rsa2048", "never");
        Self {
            ed: gpg.key(Some("20240101"), "Ed <ed@x>", "ed25519", "never"),
            bob: gpg.key(Some("20240101"), "Bob <bob@x>", "ed25519", "never"),
            rsa_subkey: gpg.subkey(Some("20200101"), &rsa, "rsa2048", "2y"),
            rsa,
            content: noise(700_000, 5),
            gpg,
        }
    }

    /// Signs in 2024, or in another year.
    fn sign(&self, key: &str, more: &[&str]) -> Vec<u8> {
        self.sign_in("2024", key, more)
    }

    fn sign_in(&self, year: &str, key: &str, more: &[&str]) -> Vec<u8> {
        let time = format!("{year}0601");
        self.gpg.sign(Some(&time), key, &self.content, more)
    }

    /// A case that is good.
    fn case(&self, name: &'static str, key: &str, signature: Vec<u8>) -> Case {
        Case {
            name,
            keys: self.gpg.export(key),
            signature,
            content: self.content.clone(),
            gpg: true,
            ours: Ours::Same,
        }
    }

    fn of_kinds(&self) -> Vec<Case> {
        let primary = format!("{}!", self.rsa);
        let by = |name, key: &str, more: &[&str]| self.case(name, key, self.sign(key, more));
        let mut cases = vec![
            by("ed25519", &self.ed, &[]),
            by("armored", &self.ed, &["--armor"]),
            by("rsa", &primary, &["--digest-algo", "SHA512"]),
            by("sha-1", &primary, &["--digest-algo", "SHA1"]),
            by("ripemd-160", &primary, &["--digest-algo", "RIPEMD160"]),
            by("md5", &primary, &["--digest-algo", "MD5"]).bad(),
            by("ed25519 of sha-1", &self.ed, &["--digest-algo", "SHA1"]).but_refused("too weak"),
            by("a notation", &self.ed, &["--sig-notation", "a@x=b"]),
            by("a critical one", &self.ed, &["--sig-notation", "!a@x=b"]).bad(),
        ];
        for algorithm in ["dsa1024", "dsa2048", "nistp256", "nistp384", "nistp521"] {
            let user = format!("{algorithm} <{algorithm}@x>");
            let key = self.gpg.key(Some("20240101"), &user, algorithm, "never");
            cases.push(by(algorithm, &key, &[]));
        }
        cases
    }

    fn in_time(&self) -> Vec<Case> {
        let time_warp = ["--ignore-time-conflict", "--ignore-valid-from"];
        let one_day = ["--default-sig-expire", "1d"];
        let key = self
            .gpg
            .key(Some("20200101"), "Exp <exp@x>", "ed25519", "1y");
        let old = self.gpg.export(&key);
        let before = self.sign_in("2020", &key, &[]);
        let longer = ["--quick-set-expire", &key, "20y"];
        self.gpg.run(Some("20200901"), &longer, b"");
        let new = self.gpg.export(&key);
        let after = self.sign_in("2022", &key, &[]);
        let ed = |name, signature| self.case(name, &self.ed, signature);
        let exp = |name, signature: &[u8]| self.case(name, &key, signature.to_vec());
        let subkey = self.sign_in("2020", &self.rsa_subkey, &[]);
        vec![
            self.case("a subkey that has expired since", &self.rsa, subkey),
            ed(
                "a signature that has expired",
                self.sign(&self.ed, &one_day),
            )
            .bad(),
            ed(
                "one older than its key",
                self.sign_in("2019", &self.ed, &time_warp),
            )
            .bad(),
            exp("a key that has expired since", &before).with_keys(&[&old]),
            exp("a key that had expired", &after)
                .with_keys(&[&old])
                .but_refused("expired on"),
            exp("a prolonged key", &after),
            exp("two copies of a key", &after).with_keys(&[&old, &new]),
            exp("the newer copy first", &after).with_keys(&[&new, &old]),
        ]
    }

    fn in_number(&self) -> Vec<Case> {
        let (ed, bob) = (self.sign(&self.ed, &[]), self.sign(&self.bob, &[]));
        let armored = [&self.ed, &self.bob].map(|key| self.sign(key, &["--armor"]));
        let other = self.gpg.sign(Some("20240601"), &self.ed, b"other", &[]);
        let keys = [self.gpg.export(&self.ed), self.gpg.export(&self.bob)];
        let keys: [&[u8]; 3] = [&keys[0], b"# and the other\n", &keys[1]];
        let case = |name, parts: &[&[u8]]| self.case(name, &self.ed, parts.concat());
        let longer = [&self.content[..], b"x"].concat();
        let lines_of_dos = |text: &[u8]| String::from_utf8_lossy(text).replace('\n', "\r\n");
        let (dos, dos_key) = (lines_of_dos(&armored[0]), lines_of_dos(keys[0]));
        let armor: &[u8] = b"-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n";
        vec![
            case("another key", &[&bob]).bad(),
            case("two keys", &[&bob]).with_keys(&keys),
            case("two keys, two signatures", &[&ed, &bob]).with_keys(&keys),
            case("a stranger's signature, too", &[&ed, &bob]).but_taken(),
            case("and before", &[&bob, &ed]).but_taken(),
            case("both in armor", &[&armored[0], &armored[1]]).but_taken(),
            case("lines of DOS", &[dos.as_bytes()]).with_keys(&[dos_key.as_bytes()]),
            case("a bad one, too", &[&ed, &other]).bad(),
            case("and before it", &[&other, &ed]).bad(),
            case("other content", &[&other]).bad(),
            case("content with more to it", &[&ed])
                .of_content(&longer)
                .bad(),
            case("no content", &[&ed]).of_content(b"").bad(),
            case("nothing", &[]).bad(),
            case("no signature", &[b"not a signature\n"]).bad(),
            case("an empty armor", &[armor]).bad(),
            case("half a signature", &[&ed[..ed.len() / 2]]).bad(),
            case("a key", &[keys[0]]).bad(),
            case("an error page", &[b"<html><title>404</title></html>"]).bad(),
        ]
    }

    /// Signatures of text: lines may end in every way.
    fn of_text(&self) -> Vec<Case> {
        let more = ["--textmode", "--digest-algo", "SHA256"];
        let case = |name, signed: &[u8]| {
            let signature = self.gpg.sign(Some("20240601"), &self.ed, signed, &more);
            self.case(name, &self.ed, signature).of_content(signed)
        };
        let text = b"a\nb\r\nc\rd \n\ne\r\r\nf\r\r\rg\n\r\nend";
        let ends = b"a\nb\n";
        vec![
            case("text", text),
            case("long text", &text.repeat(9999)),
            case("text that ends in CR", b"a\r"),
            case("text with other line ends", ends).of_content(b"a\r\nb\r\n"),
            case("text without its last line end", ends)
                .of_content(b"a\nb")
                .bad(),
            case("text with a CR in a line", ends)
                .of_content(b"a\n\rb\n")
                .bad(),
        ]
    }

    fn revoked(&self) -> Vec<Case> {
        let rsa = self.gpg.export(&self.rsa);
        let primary = format!("{}!", self.rsa);
        let before = self.sign_in("2020", &primary, &[]);
        let later = self.sign_in("2022", &primary, &[]);
        let subkeys = self.sign_in("2020", &self.rsa_subkey, &[]);
        let case = |name, signature: &[u8]| self.case(name, &self.rsa, signature.to_vec());
        let revoked = |reason, case: Case| {
            let revocation = self.gpg.revocation(Some("20210101"), &self.rsa, reason);
            case.with_keys(&[&rsa, &revocation])
        };
        let why = "was revoked on Fri, 01 Jan 2021";
        let mut cases = vec![
            revoked(0, case("revoked without a reason", &before)).but_refused(why),
            revoked(1, case("revoked as compromised", &before)).but_refused(why),
            revoked(1, case("revoked, a signature by its subkey", &subkeys)).but_refused(why),
            revoked(2, case("revoked as replaced, later", &before)),
            revoked(3, case("revoked as retired, later", &before)),
            revoked(2, case("revoked as replaced, before", &later)).but_refused(why),
        ];
        // From here on the key is another one.
        let keys = self
            .gpg
            .export_without_subkey(Some("20210101"), &self.rsa, 1);
        let subkey = case("a revoked subkey", &subkeys).but_refused(why);
        cases.push(subkey.with_keys(&[&keys]));
        let owner = case("the owner of a revoked subkey", &before);
        cases.push(owner.with_keys(&[&keys]));
        cases
    }

    fn unbound(&self) -> Vec<Case> {
        let change = |name, change: &dyn Fn(&mut SignedPublicKey)| {
            let signature = self.sign_in("2020", &self.rsa_subkey, &[]);
            let case = self.case(name, &self.rsa, signature).bad();
            let (mut key, _) = SignedPublicKey::from_armor_single(&*case.keys).expect("a key");
            change(&mut key);
            let keys = key
                .to_armored_bytes(ArmorOptions::default())
                .expect("armor");
            case.with_keys(&[&keys])
        };
        let without_back_signature = |key: &mut SignedPublicKey| {
            let bond = &mut key.public_subkeys[0].signatures[0];
            assert!(bond.embedded_signature().is_some());
            let parts = bond.config().expect("a version 4 signature");
            for part in (0..parts.unhashed_subpackets.len()).rev() {
                bond.unhashed_subpacket_remove(part).expect("a part");
            }
            assert!(bond.embedded_signature().is_none());
        };
        let adopted = |key: &mut SignedPublicKey| {
            let ed = self.gpg.export(&self.ed);
            let (ed, _) = SignedPublicKey::from_armor_single(&*ed).expect("a key");
            key.primary_key = ed.primary_key;
            key.details = ed.details;
        };
        let nameless = |key: &mut SignedPublicKey| key.details.users.clear();
        vec![
            change("a subkey that does not confirm", &without_back_signature),
            change("a subkey of somebody else", &adopted),
            change("a key without a self-signature", &nameless),
        ]
    }
}

fn cases() -> Vec<Case> {
    let keys = Keys::new();
    let mut cases = Vec::new();
    cases.extend(keys.of_kinds());
    cases.extend(keys.in_time());
    cases.extend(keys.in_number());
    cases.extend(keys.of_text());
    cases.extend(keys.unbound());
    // Last, since it changes a key.
    cases.extend(keys.revoked());
    cases
}

/// What the library says.
fn verdict(case: &Case) -> Result<Vec<String>, String> {
    let url = SafeUrl::of_file("a.sig".as_ref());
    let told = |err: fetch_content::Error| err.to_string();
    let keys = Keyring::parse(&case.keys, "KEY").map_err(told)?;
    let signature = DetachedSignature::parse(&url, &case.signature, &keys, SystemTime::now());
    let signers = signature.map_err(told)?.check(&*case.content);
    let signers = signers.map_err(told)?;
    Ok(signers.iter().map(ToString::to_string).collect())
}

#[test]
fn our_verdict_is_that_of_gpg_but_for_what_the_docs_say() {
    if !have_gpg("our_verdict_is_that_of_gpg_but_for_what_the_docs_say") {
        return;
    }
    let mut wrong = Vec::new();
    for case in &cases() {
        let theirs = Gpg::accepts(&case.keys, &case.signature, &case.content);
        let ours = verdict(case);
        let as_said = match (&case.ours, &ours) {
            (Ours::Same, ours) => ours.is_ok() == theirs,
            (Ours::Refused(why), Err(err)) => err.contains(why),
            (Ours::Taken, Ok(_)) => true,
            (Ours::Refused(_), Ok(_)) | (Ours::Taken, Err(_)) => false,
        };
        if theirs != case.gpg || !as_said {
            wrong.push(format!("{}: gpg {theirs}, ours {ours:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn damaged_signatures_and_keys_are_refused_wherever_the_damage_is() {
    if !have_gpg("damaged_signatures_and_keys_are_refused_wherever_the_damage_is") {
        return;
    }
    let gpg = Gpg::new();
    let time = Some("20240101");
    let key = gpg.key(time, "Ed <ed@x>", "ed25519", "never");
    let case = |keys: Vec<u8>, signature: Vec<u8>| Case {
        name: "damaged",
        keys,
        signature,
        content: b"content".to_vec(),
        gpg: true,
        ours: Ours::Same,
    };
    // Also: keys and signatures may be binary.
    let keys = gpg.run(None, &["--export", &key], b"");
    let signature = gpg.sign(time, &key, b"content", &[]);
    let said = verdict(&case(keys.clone(), signature.clone())).expect("a good signature");
    assert_eq!(
        said,
        [format!(
            "{key} (Ed <ed@x>) on Mon, 01 Jan 2024 00:00:00 GMT"
        )]
    );
    let parsed = pgp::composed::DetachedSignature::from_bytes(&*signature).expect("a signature");
    let parts = parsed.signature.config().expect("a version 4 signature");
    // What is not hashed may change, as long as the key is still found.
    let free: usize = parts
        .unhashed_subpackets
        .iter()
        .map(pgp::ser::Serialize::write_len)
        .sum();
    let mut taken = 0;
    for at in 0..signature.len() {
        for bit in [0, 3, 7] {
            let mut damaged = signature.clone();
            damaged[at] ^= 1 << bit;
            taken += usize::from(verdict(&case(keys.clone(), damaged)).is_ok());
        }
    }
    assert!(
        taken <= 3 * (free + 2),
        "{taken} of {} in {free} bytes",
        signature.len()
    );
    for at in 0..keys.len() {
        let mut damaged = keys.clone();
        damaged[at] ^= 0x10;
        // It may be good still (damage to a preference voids a self-signature, others remain), but never panics.
        let _ = verdict(&case(damaged, signature.clone()));
        let _ = verdict(&case(keys[..at].to_vec(), signature.clone()));
    }
}
