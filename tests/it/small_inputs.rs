//! Small artifacts are verified like large ones.
//!
//! A tool that looks at the start of a stream to tell its type has small inputs complete in its hands by then,
//! and must not forget the rest of its duties. The sizes here are those of the usual peek buffers.

use serde_json::json;

use crate::support::archives::{
    bz2, dir, file, gz, noise, stored_zip_of, tar_of, tar_without_end, xz, zst,
};
use crate::support::sandbox::{Sandbox, TASK_A, artifact, chain_of_trust, vouching_for};
use crate::support::server::{Reply, Server};

const KIB: usize = 1024;
const SIZES: [usize; 7] = [
    KIB,
    4 * KIB,
    7 * KIB,
    8 * KIB,
    64 * KIB,
    128 * KIB,
    500 * KIB,
];

/// A tar archive of exactly this size; at 1 KiB there's no room for the end blocks.
fn tar_sized(size: usize) -> Vec<u8> {
    let tar = if size <= 2 * KIB {
        tar_without_end(&[file("a", noise(size - 512, 1))])
    } else {
        tar_of(&[dir("d/"), file("d/a", noise(size - 2048, 1))])
    };
    assert_eq!(tar.len(), size);
    tar
}

/// A compressed tar archive of exactly this size.
///
/// After the archive follows another member (stream, frame) of noise, as long as it takes: decoders have to
/// read over that, and tar ignores what comes after its end.
fn compressed_sized(size: usize, compress: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let content = noise((size - size / 128).saturating_sub(2300), 1);
    let mut archive = compress(&tar_of(&[file("d/a", &content)]));
    let gap = size
        .checked_sub(archive.len())
        .unwrap_or_else(|| panic!("{} bytes are more than {size}", archive.len()));
    for length in (0..gap).rev() {
        for seed in 0..8 {
            let filler = compress(&noise(length, seed));
            if filler.len() == gap {
                archive.extend(filler);
                return archive;
            }
        }
    }
    panic!("no filler of {gap} bytes");
}

/// A zip archive of exactly this size.
fn zip_sized(size: usize) -> Vec<u8> {
    let overhead = stored_zip_of(&[file("d/a", "")]).len();
    let zip = stored_zip_of(&[file("d/a", noise(size - overhead, 1))]);
    assert_eq!(zip.len(), size);
    zip
}

/// Serves wrong and truncated forms of each size and expects that nothing comes of them.
fn expect_nothing_accepted(name: &str, make: impl Fn(usize) -> Vec<u8>) {
    let server = Server::start();
    let full_name = format!("public/build/{name}");
    let path = artifact(TASK_A, &full_name);
    let fetches = json!([{
        "task": TASK_A, "artifact": full_name, "extract": true, "verify-hash": true
    }]);
    let attempt = |what: &str, reply: Reply, codes: &[i32]| {
        let sandbox = Sandbox::new();
        server.serve(&path, reply);
        let outcome = sandbox
            .task_artifacts(&server, &fetches)
            .env("FETCH_CONTENT_ATTEMPTS", "2")
            .run()
            .expect_one_of(codes)
            .expect_stderr(&["error:", name]);
        let tree = sandbox.tree();
        assert!(tree.is_empty(), "{what} left:\n{tree}\n{outcome:?}");
    };
    for size in SIZES {
        let body = make(size);
        let mut wanted = body.clone();
        wanted[size - 1] ^= 0xff;
        let trust = vouching_for(&[(&full_name, &wanted)]);
        server.serve(&chain_of_trust(TASK_A), Reply::ok(trust));
        let what = format!("{name}, {size} bytes");
        attempt(&format!("wrong {what}"), Reply::ok(&body), &[4]);
        let streamed = Reply::ok(&body).chunked();
        attempt(&format!("wrong {what}, chunked"), streamed, &[4]);

        let trust = vouching_for(&[(&full_name, &body)]);
        server.serve(&chain_of_trust(TASK_A), Reply::ok(trust));
        let cut = Reply::ok(&body).cut_after(size * 2 / 5);
        attempt(&format!("truncated {what}"), cut, &[3]);
        let short = Reply::ok(&body[..size * 2 / 5]);
        attempt(&format!("short {what}"), short, &[4]);
        let last = Reply::ok(&body).cut_after(size - 1);
        attempt(&format!("{what} without the last byte"), last, &[3]);

        let sandbox = Sandbox::new();
        server.serve(&path, Reply::ok(&body));
        let outcome = sandbox.task_artifacts(&server, &fetches).run();
        let outcome = if size == KIB && name == "tool.tar" {
            outcome.expect_one_of(&[0, 5]) // without its end blocks
        } else {
            outcome.expect_code(0)
        };
        let nothing = sandbox.fetched().is_empty();
        assert_eq!(nothing, !outcome.status.success(), "right {what}");
    }
}

#[test]
fn small_plain_files_are_verified() {
    expect_nothing_accepted("tool.bin", |size| noise(size, 1));
}

#[test]
fn small_tars_are_verified() {
    expect_nothing_accepted("tool.tar", tar_sized);
}

#[test]
fn small_gzip_tars_are_verified() {
    expect_nothing_accepted("tool.tar.gz", |size| compressed_sized(size, gz));
}

#[test]
fn small_bzip2_tars_are_verified() {
    expect_nothing_accepted("tool.tar.bz2", |size| compressed_sized(size, bz2));
}

#[test]
fn small_xz_tars_are_verified() {
    expect_nothing_accepted("tool.tar.xz", |size| compressed_sized(size, xz));
}

#[test]
fn small_zstd_tars_are_verified() {
    expect_nothing_accepted("tool.tar.zst", |size| compressed_sized(size, zst));
}

#[test]
fn small_zips_are_verified() {
    expect_nothing_accepted("tool.zip", zip_sized);
}
