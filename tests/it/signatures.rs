//! OpenPGP signatures of downloads: what is published, what is refused and how that is told.

use std::sync::OnceLock;

use crate::support::archives::{file, noise, sha256_hex, tar_of, unzst};
use crate::support::gpg::{Gpg, have_gpg};
use crate::support::sandbox::{Invocation, Outcome, Sandbox};
use crate::support::server::{Reply, Server};

/// What a release has: content, a signature, and the keys its maker publishes.
struct Release {
    content: Vec<u8>,
    signature: Vec<u8>,
    keys: String,
    /// Fingerprints of the primary key, of the subkey that signed, and of another key in `keys`.
    primary: String,
    subkey: String,
    other: String,
}

fn release() -> &'static Release {
    static RELEASE: OnceLock<Release> = OnceLock::new();
    RELEASE.get_or_init(|| {
        let gpg = Gpg::new();
        let time = Some("20240101");
        let primary = gpg.key(time, "Rel \u{7}<rel@x>", "ed25519", "never");
        let subkey = gpg.subkey(time, &primary, "ed25519", "never");
        let other = gpg.key(time, "Other <other@x>", "ed25519", "never");
        let content = tar_of(&[file("tool-1.2/data", noise(300_000, 6))]);
        let keys = [gpg.export(&other), gpg.export(&primary)].concat();
        Release {
            signature: gpg.sign(time, &subkey, &content, &["--armor"]),
            keys: String::from_utf8(keys).expect("armored keys"),
            content,
            primary,
            subkey,
            other,
        }
    })
}

/// Serves a release.
fn serve(release: &Release) -> Server {
    let server = Server::start();
    server.serve("/tool.tar", Reply::ok(&release.content));
    server.serve("/tool.tar.asc", Reply::ok(&release.signature));
    server
}

/// Fetches what the release's server has, whatever it is, and repacks it.
fn fetch<'a>(
    sandbox: &'a Sandbox,
    server: &Server,
    release: &Release,
    content: &[u8],
) -> Invocation<'a> {
    sandbox
        .static_url(content, &server.url("/tool.tar"), "out/tool.tar.zst")
        .args(["--gpg-sig-url", &server.url("/tool.tar.asc")])
        .args(["--gpg-key-env", "RELEASE_KEYS"])
        .env("RELEASE_KEYS", &release.keys)
}

fn expect_refused(sandbox: &Sandbox, run: Invocation<'_>, code: i32, said: &[&str]) -> Outcome {
    let outcome = run.run().expect_code(code).expect_stderr(said);
    sandbox.assert_empty(&outcome);
    outcome
}

#[test]
fn a_signed_download_is_published_and_the_signer_told() {
    if !have_gpg("a_signed_download_is_published_and_the_signer_told") {
        return;
    }
    let (sandbox, release) = (Sandbox::new(), release());
    let server = serve(release);
    let Release {
        primary, subkey, ..
    } = release;
    fetch(&sandbox, &server, release, &release.content)
        .args(["-H", "Authorization: for the download"])
        .run()
        .expect_code(0)
        .expect_stderr(&[&format!(
            "[tool.tar] signed by {subkey} (subkey of {primary}, Rel \\u{{7}}<rel@x>) on Mon, 01 Jan 2024 00:00:00 GMT"
        )])
        .expect_not_in_stderr(&["warning", "BEGIN PGP"]);
    assert_eq!(unzst(&sandbox.read("out/tool.tar.zst")), release.content);
    for seen in server.requests() {
        let sent = seen.header("authorization").is_some();
        assert_eq!(sent, seen.path == "/tool.tar", "{seen:?}");
    }
}

#[test]
fn tampering_is_told_even_if_the_sha256_is_right() {
    if !have_gpg("tampering_is_told_even_if_the_sha256_is_right") {
        return;
    }
    let (sandbox, release) = (Sandbox::new(), release());
    let server = serve(release);
    let mut tampered = release.content.clone();
    let last = tampered.len() - 2000;
    tampered[last] ^= 1;
    server.serve("/tool.tar", Reply::ok(&tampered));
    let run = fetch(&sandbox, &server, release, &tampered);
    let said = format!(
        "signature {} is not of this content: key {}",
        server.url("/tool.tar.asc"),
        release.subkey
    );
    expect_refused(&sandbox, run, 4, &[&said]);
    // It cannot get better.
    assert_eq!(server.count("/tool.tar"), 1);
    assert_eq!(server.count("/tool.tar.asc"), 1);
}

#[test]
fn a_wrong_sha256_is_refused_though_the_signature_fits() {
    if !have_gpg("a_wrong_sha256_is_refused_though_the_signature_fits") {
        return;
    }
    let (sandbox, release) = (Sandbox::new(), release());
    let server = serve(release);
    let mut other = release.content.clone();
    other[0] ^= 1;
    let run = fetch(&sandbox, &server, release, &other);
    expect_refused(&sandbox, run, 4, &["sha256 mismatch"]);
    assert_eq!(server.count("/tool.tar"), 2);
    assert_eq!(server.count("/tool.tar.asc"), 1, "it is asked for once");
}

#[test]
fn a_dropped_connection_starts_the_check_over() {
    if !have_gpg("a_dropped_connection_starts_the_check_over") {
        return;
    }
    let (sandbox, release) = (Sandbox::new(), release());
    let server = serve(release);
    let whole = Reply::ok(&release.content);
    server.serve_in_turn("/tool.tar", [whole.clone().cut_after(100_000), whole]);
    fetch(&sandbox, &server, release, &release.content)
        .run()
        .expect_code(0)
        .expect_stderr(&["signed by"]);
}

#[test]
fn the_signature_is_fetched_like_any_download() {
    if !have_gpg("the_signature_is_fetched_like_any_download") {
        return;
    }
    let (sandbox, release) = (Sandbox::new(), release());
    let server = serve(release);
    let path = "/tool.tar.asc";
    let good = Reply::ok(&release.signature);
    server.serve_in_turn(path, [Reply::status(503), good.clone().cut_after(20), good]);
    fetch(&sandbox, &server, release, &release.content)
        .run()
        .expect_code(0)
        .expect_stderr(&["retry 1 of 4"]);
    assert_eq!(server.count(path), 3);

    let sandbox = Sandbox::new();
    server.serve(path, Reply::status(404));
    let run = fetch(&sandbox, &server, release, &release.content);
    expect_refused(&sandbox, run, 3, &["/tool.tar.asc answered 404"]);
    assert_eq!(server.count(path), 4);

    server.serve(path, Reply::ok(noise(2_000_000, 1)));
    let run = fetch(&sandbox, &server, release, &release.content);
    expect_refused(
        &sandbox,
        run,
        3,
        &["/tool.tar.asc", "more than 1048576 bytes"],
    );
}

#[test]
fn a_key_can_be_pinned() {
    if !have_gpg("a_key_can_be_pinned") {
        return;
    }
    let release = release();
    let server = serve(release);
    let pinned = |sandbox: &Sandbox, pins: &[&str]| {
        let pins = pins.iter().flat_map(|pin| ["--gpg-fingerprint", pin]);
        fetch(sandbox, &server, release, &release.content)
            .args(pins)
            .run()
    };
    let spaced: Vec<String> = release
        .primary
        .to_lowercase()
        .as_bytes()
        .chunks(4)
        .map(|digits| String::from_utf8_lossy(digits).into_owned())
        .collect();
    let Release {
        primary,
        subkey,
        other,
        ..
    } = release;
    for pins in [
        &[&**primary][..],
        &[subkey],
        &[other, primary],
        &[&spaced.join(" ")],
    ] {
        pinned(&Sandbox::new(), pins).expect_code(0);
    }
    let sandbox = Sandbox::new();
    let outcome = pinned(&sandbox, &[other])
        .expect_code(4)
        .expect_stderr(&[&format!(
            "is signed by key {subkey}, which is none of the keys given"
        )]);
    sandbox.assert_empty(&outcome);
    let before = server.requests().len();
    for (pin, said) in [
        (
            &*primary.replace(|c: char| c.is_ascii_digit(), "0"),
            "holds no key with the fingerprint",
        ),
        (
            &primary[24..],
            "is not a fingerprint: expected 40 or 64 hexadecimal digits, got 16",
        ),
        (&primary[32..], "is not a fingerprint"),
        (&primary.replace(&primary[..1], "g"), "is not a fingerprint"),
        ("", "is not a fingerprint"),
    ] {
        let outcome = pinned(&sandbox, &[pin])
            .expect_code(2)
            .expect_stderr(&[said]);
        sandbox.assert_empty(&outcome);
    }
    assert_eq!(server.requests().len(), before, "nothing was asked for");
}

/// Options of a signature that is never asked for.
fn with_keys<'a>(sandbox: &'a Sandbox, server: &Server, keys: Option<&str>) -> Invocation<'a> {
    let run = sandbox
        .static_url("x", &server.url("/a"), "out/a")
        .args(["--gpg-sig-url", &server.url("/a.sig")])
        .args(["--gpg-key-env", "RELEASE_KEYS"]);
    match keys {
        Some(keys) => run.env("RELEASE_KEYS", keys),
        None => run,
    }
}

#[test]
fn keys_that_cannot_be_used_are_a_usage_error() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    for keys in [None, Some("")] {
        let said = "the environment variable `RELEASE_KEYS` is not set";
        expect_refused(&sandbox, with_keys(&sandbox, &server, keys), 2, &[said]);
    }
    let empty = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----\n";
    for keys in [
        "no key",
        empty,
        &empty[..40],
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxyz!\n",
    ] {
        let said = "the environment variable RELEASE_KEYS holds no OpenPGP key that can sign";
        expect_refused(
            &sandbox,
            with_keys(&sandbox, &server, Some(keys)),
            2,
            &[said],
        );
    }
    assert!(server.requests().is_empty(), "{:?}", server.paths());
}

#[test]
fn a_key_that_is_only_for_encryption_is_a_usage_error() {
    if !have_gpg("a_key_that_is_only_for_encryption_is_a_usage_error") {
        return;
    }
    let gpg = Gpg::new();
    gpg.run(
        None,
        &[
            "--quick-generate-key",
            "C <c@x>",
            "ed25519",
            "cert",
            "never",
        ],
        b"",
    );
    let keys = String::from_utf8(gpg.export("c@x")).expect("an armored key");
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let run = with_keys(&sandbox, &server, Some(&keys));
    expect_refused(
        &sandbox,
        run,
        2,
        &["holds no OpenPGP key", "it is not for signing data"],
    );
}

#[test]
fn truncation_and_tampering_can_be_told_apart() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let url = server.url("/a");
    let told = |sent: &str, size: &str, said: &str| {
        // Nothing tells the length beforehand.
        server.serve("/a", Reply::ok(sent).without_length());
        let sha256 = sha256_hex(b"hello");
        let out = sandbox.path("out/a");
        let run = sandbox
            .binary()
            .args(["static-url", "--sha256", &sha256, "--size", size, &url]);
        expect_refused(&sandbox, run.args([out]), 4, &[said]);
    };
    let mismatch = |sent: &str| {
        let (wanted, got) = (sha256_hex(b"hello"), sha256_hex(sent.as_bytes()));
        let size = sent.len();
        format!("sha256 mismatch on {url}: wanted {wanted}; got {got} ({size} bytes received)")
    };
    told(
        "hel",
        "5",
        &format!("size mismatch on {url}: wanted 5; got 3"),
    );
    told("jello", "5", &mismatch("jello"));
    told("hel", "0", &mismatch("hel"));
    told("jello", "0", &mismatch("jello"));
}
