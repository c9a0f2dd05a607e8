//! Tar archives with every oddity that parsers are known to stumble over. Each has a line in a table: it is extracted,
//! and then to what GNU tar and bsdtar make of it (or one of them, where they differ), or it is refused and leaves
//! nothing. Valid archives with flipped bits end in one of the two ways as well.
//!
//! The archives that are refused are checked in as `testdata/hostile/tar/*.tar`, for other programs to be tried on them.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::differential::remove_tree;
use crate::hostile::Trap;
use crate::support::archives::{file, gz, symlink, zip_of};
use crate::support::raw_tar::{fix_checksum, header, raw};
use crate::support::run_task::{SOMEBODY, give, is_root, open_sandbox};
use crate::support::sandbox::{Invocation, Outcome, Sandbox, TASK_A};
use crate::support::skip::have_programs;
use crate::support::tree::Tree;

/// What becomes of an archive.
#[derive(Clone, Copy)]
enum End {
    /// It is extracted like by GNU tar or bsdtar.
    Extracted,
    /// It is refused, and the message has this.
    Refused(&'static str),
}

use End::{Extracted, Refused};

type Row = (&'static str, Vec<u8>, End);

/// Names, and how they are told.
#[rustfmt::skip]
fn names() -> Vec<Row> {
    let component = |n: usize| format!("{n:03}").repeat(66) + "n";
    let long: String = (0..20).map(component).collect::<Vec<_>>().join("/");
    assert_eq!(long.len(), 3999);
    let name_300 = "n".repeat(200) + "/" + &"m".repeat(99);
    let split = header("name", b'0').size(4).field(345, "pre/fix");
    vec![
        ("v7", raw().with(header("d/", 0).v7().mode("0000755"), b"").with(header("d/f", 0).v7().size(4), b"file").end(), Extracted),
        ("ustar-prefix", raw().with(split.clone(), b"file").end(), Extracted),
        ("ustar-without-version", raw().with(split.clone().field(263, [0, 0]), b"file").end(), Extracted),
        ("gnu-has-no-prefix", raw().with(split.gnu().field(345, [0; 100]).field(345, "00000000000"), b"file").end(), Extracted),
        ("gnu-long-name", raw().long(b'L', &name_300).file("cut", "file").end(), Extracted),
        ("gnu-long-target", raw().long(b'K', &name_300).symlink("link", "cut").end(), Extracted),
        ("gnu-long-name-and-target", raw().file("f", "x").long(b'K', "./f").long(b'L', &name_300).hard_link("cut", "cut").end(), Extracted),
        ("gnu-name-of-4000-bytes", raw().long(b'L', &long).file("cut", "file").end(), Extracted),
        ("pax-path-of-4000-bytes", raw().pax(b'x', &[("path", &long)]).file("cut", "file").end(), Extracted),
        ("pax-path-and-linkpath", raw().pax(b'x', &[("path", "link"), ("linkpath", "to/here")]).symlink("a", "b").end(), Extracted),
        ("pax-newline-in-path", raw().pax(b'x', &[("path", "a\nb=c\n9 path=d\ne")]).file("a", "file").end(), Extracted),
        ("pax-last-record-counts", raw().pax(b'x', &[("path", "first"), ("path", "last")]).file("a", "file").end(), Extracted),
        ("pax-of-sun", raw().pax(b'X', &[("path", "by-sun")]).file("a", "file").end(), Extracted),
        ("star", raw().with(header("f", b'0').size(4).field(345, "pre").field(476, "13603232446 13603232446 ").field(508, "tar\0"), b"file").end(), Extracted),
        ("not-utf-8", raw().with(header(b"caf\xe9", b'0').size(4), b"file").with(header(b"l\xff", b'2').to(b"caf\xe9"), b"").end(), Extracted),
        ("absolute", raw().file("/fetch-content-oddity/f", "file").file("//fetch-content-oddity/g", "x").hard_link("h", "/fetch-content-oddity/f").end(), Extracted),
        ("dots-and-slashes", raw().dir("./").file("./a//b/./c", "file").end(), Extracted),
        ("gnu-long-name-of-5000-bytes", raw().long(b'L', "n".repeat(5000)).file("cut", "file").end(), Refused("FETCH_CONTENT_MAX_PATH_LENGTH")),
        ("pax-path-of-5000-bytes", raw().pax(b'x', &[("path", &("n/".repeat(2500) + "f"))]).file("cut", "file").end(), Refused("FETCH_CONTENT_MAX_PATH_LENGTH")),
        ("path-of-300-components", raw().long(b'L', "d/".repeat(299) + "f").file("cut", "file").end(), Refused("FETCH_CONTENT_MAX_PATH_DEPTH")),
        ("name-without-a-member", raw().long(b'L', "name").end(), Refused("has no member")),
        ("two-long-names", raw().long(b'L', "one").long(b'L', "two").file("f", "x").end(), Refused("two extended headers")),
        ("two-pax-headers", raw().pax(b'x', &[("path", "one")]).pax(b'x', &[("mtime", "1")]).file("f", "x").end(), Refused("two extended headers")),
        ("names-that-differ", raw().long(b'L', "one").pax(b'x', &[("path", "two")]).file("f", "x").end(), Refused("different names")),
        ("targets-that-differ", raw().pax(b'x', &[("linkpath", "two")]).long(b'K', "one").symlink("f", "x").end(), Refused("different names")),
        ("parent-in-the-name", raw().file("a/../../canary", "dead").end(), Refused("`..`")),
        ("parent-in-a-pax-path", raw().pax(b'x', &[("path", "../../../canary")]).file("f", "dead").end(), Refused("`..`")),
        ("parent-in-a-long-name", raw().long(b'L', "../../../canary").file("f", "dead").end(), Refused("`..`")),
        ("nul-in-a-pax-path", raw().pax(b'x', &[("path", "a\0b")]).file("f", "x").end(), Refused("NUL")),
        ("nul-in-a-long-name", raw().long(b'L', "a\0b").file("f", "x").end(), Refused("NUL")),
        ("nul-in-a-target", raw().pax(b'x', &[("linkpath", "a\0b")]).symlink("f", "x").end(), Refused("usable target")),
        ("no-name", raw().file("", "x").end(), Refused("no name")),
        ("empty-pax-path", raw().pax(b'x', &[("path", "")]).file("f", "x").end(), Refused("no name")),
        ("file-for-the-root", raw().file("./.", "x").end(), Refused("destination itself")),
        ("symlink-for-the-root", raw().symlink(".", "../../..").file("f", "x").end(), Refused("destination itself")),
        ("prefix-in-a-version-that-is-not-known", raw().with(header("name", b'0').field(263, "01").field(345, "pre"), b"").end(), Extracted),
        ("unknown-format", raw().with(header("name", b'0').field(257, b"ustar 00").field(345, "pre"), b"").end(), Refused("format")),
    ]
}

/// Sizes, times, modes, records.
#[rustfmt::skip]
fn fields() -> Vec<Row> {
    let in_it = raw().file("smuggled", "inner").cut();
    let sized = |size: usize| header("f", b'0').size(size);
    let binary = |value: &[u8; 8]| [b"\x80\0\0\0", &value[..]].concat();
    vec![
        ("pax-size-that-agrees", raw().pax(b'x', &[("size", "4")]).file("f", "file").end(), Extracted),
        ("pax-mtime", raw().pax(b'x', &[("mtime", "1234567890.123456789")]).file("f", "file").end(), Extracted),
        ("pax-negative-mtime", raw().pax(b'x', &[("mtime", "-1.5")]).file("f", "file").end(), Extracted),
        ("global-mtime", raw().pax(b'g', &[("comment", "c"), ("mtime", "1234567890")]).file("f", "file").file("g", "x").end(), Extracted),
        ("global-comment", raw().pax(b'g', &[("comment", "0123456789")]).file("f", "file").end(), Extracted),
        ("unknown-records", raw().pax(b'x', &[("VENDOR.thing", "x"), ("comment", "y")]).file("f", "file").end(), Extracted),
        ("binary-size", raw().with(sized(0).field(124, binary(b"\0\0\0\0\0\0\0\x04")), b"file").end(), Extracted),
        ("binary-negative-mtime", raw().with(sized(4).mtime(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0"), b"file").end(), Extracted),
        ("signed-checksum", raw().with(header(b"\xe4\xf6\xfc", b'0').size(4).signed_checksum(), b"file").end(), Extracted),
        ("numbers-with-spaces", raw().with(sized(4).mode(b"   644 ").field(124, b"          4 "), b"file").end(), Extracted),
        ("mode-with-file-type", raw().with(sized(4).mode("0100600"), b"file").end(), Extracted),
        ("modes", ["0777", "0666", "0770", "0700", "0555"].iter().fold(raw(), |tar, mode| tar.with(header(mode, b'0').size(4).mode(format!("000{mode}")), b"file").with(header(format!("d{mode}"), b'5').mode(format!("000{}", mode.replace('6', "7"))), b"")).end(), Extracted),
        ("contiguous-file", raw().with(header("f", b'7').size(4), b"file").end(), Extracted),
        ("volume-label", raw().with(header("label", b'V').gnu(), b"").file("f", "file").end(), Extracted),
        ("cve-2025-62518-pax-size-hides-members", raw().pax(b'x', &[("size", &in_it.len().to_string())]).with(header("f", b'0'), &in_it).end(), Refused("by its PAX record")),
        ("pax-size-shows-members", raw().pax(b'x', &[("size", "0")]).with(sized(in_it.len()), &in_it).end(), Refused("by its PAX record")),
        ("pax-size-that-the-header-has-no-room-for", raw().pax(b'x', &[("size", "8589934592")]).with(sized(0), b"").file("f", "x").end(), Refused("ends before a member")),
        ("pax-size-malformed", raw().pax(b'x', &[("size", "0x4")]).file("f", "file").end(), Refused("malformed size")),
        ("pax-size-negative", raw().pax(b'x', &[("size", "-4")]).file("f", "file").end(), Refused("malformed size")),
        ("pax-size-empty", raw().pax(b'x', &[("size", "")]).file("f", "file").end(), Refused("malformed size")),
        ("pax-mtime-malformed", raw().pax(b'x', &[("mtime", "soon")]).file("f", "file").end(), Refused("malformed mtime")),
        ("pax-length-too-long", raw().pax_text(b'x', "99 path=g\n").file("f", "x").end(), Refused("record is malformed")),
        ("pax-length-too-short", raw().pax_text(b'x', "8 path=g\n").file("f", "x").end(), Refused("record is malformed")),
        ("pax-length-missing", raw().pax_text(b'x', "path=g\n").file("f", "x").end(), Refused("record is malformed")),
        ("pax-without-equals", raw().pax_text(b'x', "7 path\n").file("f", "x").end(), Refused("record is malformed")),
        ("pax-without-newline", raw().pax_text(b'x', "10 path=gg").file("f", "x").end(), Refused("record is malformed")),
        ("pax-with-padding", raw().pax_text(b'x', "10 path=g\n\0\0").file("f", "x").end(), Refused("record is malformed")),
        ("pax-length-overflows", raw().pax_text(b'x', "18446744073709551626 path=g\n").file("f", "x").end(), Refused("record is malformed")),
        ("global-path", raw().pax(b'g', &[("path", "../canary")]).file("f", "x").end(), Refused("global record sets `path`")),
        ("global-size", raw().pax(b'g', &[("size", "512")]).with(header("f", b'0'), &in_it).end(), Refused("global record sets `size`")),
        ("global-between-record-and-member", raw().pax(b'x', &[("path", "p")]).pax(b'g', &[("mtime", "1")]).file("f", "x").end(), Refused("not supported")),
        ("header-of-400-mebibytes", raw().with(header("pax", b'x').size(400 << 20), b"").end(), Refused("FETCH_CONTENT_MAX_HEADER_SIZE")),
        ("long-name-of-400-mebibytes", raw().with(header("long", b'L').gnu().size(400 << 20), b"").end(), Refused("FETCH_CONTENT_MAX_HEADER_SIZE")),
        ("negative-size", raw().with(sized(0).field(124, [0xff; 12]), b"").end(), Refused("malformed size")),
        ("size-beyond-64-bits", raw().with(sized(0).field(124, b"\x80\0\0\x01\0\0\0\0\0\0\0\0"), b"").end(), Refused("malformed size")),
        ("blank-size", raw().with(sized(0).field(124, [b' '; 12]), b"").end(), Refused("malformed size")),
        ("malformed-mode", raw().with(sized(4).mode("rw-r--r"), b"file").end(), Refused("malformed mode")),
        ("malformed-owner", raw().with(sized(4).field(108, "nobody"), b"file").end(), Refused("malformed owner")),
        ("malformed-mtime", raw().with(sized(4).mtime("yesterday"), b"file").end(), Refused("malformed mtime")),
        ("wrong-checksum", raw().file("f", "x").with(header("g", b'0').wrong_checksum(), b"").end(), Refused("wrong checksum")),
        ("unknown-type", raw().with(header("f", b'Z').size(4), b"file").end(), Refused("not supported")),
        ("continued-from-another-volume", raw().with(header("f", b'M').gnu().size(4), b"file").end(), Refused("not supported")),
        ("directory-with-a-size", raw().with(header("d", b'5').size(in_it.len()), b"").file("f", "x").end(), Extracted),
        ("hard-link-with-a-size", raw().file("f", "x").with(header("l", b'1').to("f").size(700), b"").file("g", "x").end(), Extracted),
        ("directory-with-content", raw().with(header("d", b'5').size(700), [b'D'; 700]).end(), Refused("wrong checksum")),
        ("file-named-like-a-directory-with-content", raw().with(header("d/", b'0').size(in_it.len()), &in_it).end(), Refused("is not a file")),
        ("symlink-with-content", raw().with(header("l", b'2').to("f").size(in_it.len()), &in_it).end(), Refused("is not a file")),
        ("hard-link-with-content", raw().file("f", "x").pax(b'x', &[("mtime", "1")]).with(header("l", b'1').to("f").size(in_it.len()), &in_it).end(), Refused("is not a file")),
    ]
}

/// Which members there are, and what takes whose place.
#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn members() -> Vec<Row> {
    let device = |flag| {
        header("dev", flag)
            .field(329, b"0000001\0")
            .field(337, b"0000003\0")
    };
    let chain = |steps: u8, target: &str, component: &str| {
        let mut tar = raw();
        let mut at = String::new();
        for step in 0..steps {
            // Each directory is reached through links of one letter, so that names stay short.
            let here = format!("{at}{component}");
            tar = tar.long(b'L', &here).dir("cut");
            let link = format!("{at}{}", char::from(b'a' + step));
            tar = tar.long(b'K', component).symlink(&link, "cut");
            at = format!("{link}/");
        }
        tar.symlink("escape", &format!("{at}{target}"))
            .file("escape/canary", "dead")
    };
    let path_max = chain(16, &"../".repeat(17), &"d".repeat(247));
    let large = vec![b'n'; 200_000];
    let deeper_than_allowed = chain(20, "", &"z/".repeat(200));
    vec![
        ("directory-twice", raw().dir("d").file("d/f", "x").with(header("d", b'5').mode("0000700"), b"").end(), Extracted),
        ("file-twice", raw().file("f", "first").file("f", "second").end(), Extracted),
        ("file-over-an-empty-directory", raw().dir("d").file("d", "x").end(), Extracted),
        ("symlink-over-a-file", raw().file("f", "x").symlink("f", "g").end(), Extracted),
        ("file-over-a-symlink", raw().file("g", "old").symlink("f", "g").file("f", "new").end(), Extracted),
        ("through-a-symlink-inside", raw().dir("lib").symlink("lib64", "lib").file("lib64/f", "x").end(), Extracted),
        ("small-file-under-two-names", raw().dir("lib").symlink("lib64", "lib").file("lib64/f", "old").file("lib/f", "new").end(), Extracted),
        ("large-file-over-a-small-one-under-two-names", raw().dir("lib").symlink("lib64", "lib").file("lib64/f", "old").file("lib/f", &large).end(), Extracted),
        ("small-file-over-a-large-one-under-two-names", raw().dir("lib").symlink("lib64", "lib").file("lib/f", &large).file("lib64/f", "new").end(), Extracted),
        ("file-in-a-new-directory-under-two-names", raw().dir("lib").symlink("lib64", "lib").file("lib64/d/f", "old").file("lib/d/f", &large).end(), Extracted),
        ("hard-link-under-two-names", raw().dir("lib").symlink("lib64", "lib").file("lib/f", "x").hard_link("lib64/g", "lib64/f").file("lib/g", "new").end(), Extracted),
        ("file-in-the-place-of-a-link-under-two-names", raw().symlink("here", ".").dir("e").symlink("d", "e").file("d/a", "x").file("here/d", "y").end(), Extracted),
        ("link-in-the-place-of-a-link-under-two-names", raw().symlink("here", ".").dir("e").dir("g").symlink("d", "e").file("d/a", "x").symlink("here/d", "g").file("d/b", "y").end(), Extracted),
        ("link-in-the-place-of-a-directory", raw().with(header("d", b'5').mode("0000777").mtime("00000000001"), b"").symlink("d", "../../../outside").end(), Extracted),
        ("extended-attributes", raw().pax(b'x', &[("SCHILY.xattr.user.a", "b"), ("LIBARCHIVE.xattr.user.c", "ZA"), ("SCHILY.acl.access", "user::rwx,group::rwx,other::rwx")]).file("f", "x").end(), Extracted),
        ("hard-link-to-an-earlier-file", raw().file("f", "x").hard_link("g", "f").hard_link("h", "./g").end(), Extracted),
        ("file-over-a-hard-link", raw().file("f", "old").hard_link("g", "f").file("g", "new").end(), Extracted),
        ("hard-link-to-itself", raw().file("f", "x").hard_link("f", "f").end(), Extracted),
        ("symlinks-anywhere", raw().symlink("a", "/etc/passwd").symlink("b", "../../x").symlink("c", "no/such").symlink("d", "d").end(), Extracted),
        ("directory-with-a-slash-too-many", raw().with(header("d//", b'5'), b"").file("d//f", "x").end(), Extracted),
        ("file-named-like-a-directory", raw().with(header("d/", b'0'), b"").end(), Extracted),
        ("read-only-directory", raw().with(header("d", b'5').mode("0000555"), b"").file("d/f", "x").end(), Extracted),
        ("empty", raw().end(), Extracted),
        ("garbage-behind-the-end", raw().file("f", "x").bytes([0; 1024]).bytes("garbage").cut(), Extracted),
        ("archive-behind-the-end", raw().file("f", "x").bytes([0; 1024]).file("g", "y").end(), Extracted),
        ("member-behind-one-empty-block", raw().file("f", "x").bytes([0; 512]).file("g", "y").end(), Extracted),
        ("one-empty-block-at-the-end", raw().file("f", "x").bytes([0; 512]).cut(), Extracted),
        ("no-end", raw().file("f", "x").cut(), Refused("mark of its end")),
        ("no-end-compressed", gz(&raw().file("f", "x").file("g", "y").cut()), Extracted),
        ("no-end-and-no-member-compressed", gz(&raw().file("f", "x").long(b'L', "n").cut()), Refused("has no member")),
        ("ends-in-a-header-compressed", gz(&raw().file("f", "x").bytes(&raw().file("g", "y").cut()[..300]).cut()), Refused("ends early")),
        ("ends-in-padding-compressed", gz(&raw().bytes(&raw().file("f", "x").cut()[..700]).cut()), Refused("ends before a member")),
        ("ends-in-a-header", raw().file("f", "x").bytes(&raw().file("g", "y").cut()[..300]).cut(), Refused("ends early")),
        ("ends-in-content", raw().file("f", "x").with(header("g", b'0').size(2000), [7; 512]).cut(), Refused("ends before a member")),
        ("ends-in-padding", raw().bytes(&raw().file("f", "x").cut()[..700]).cut(), Refused("ends before a member")),
        ("ends-in-a-name", raw().bytes(&raw().long(b'L', "n".repeat(600)).cut()[..1024]).cut(), Refused("ends before a member")),
        ("directory-over-a-file", raw().file("d", "x").dir("d").file("d/f", "y").end(), Extracted),
        ("file-over-a-full-directory", raw().file("d/f", "x").file("d", "y").end(), Refused("not empty")),
        ("member-below-a-file", raw().file("f", "x").file("f/g", "y").end(), Refused("not a directory")),
        ("hard-link-to-a-later-file", raw().hard_link("g", "f").file("f", "x").end(), Refused("not in the archive before it")),
        ("hard-link-to-nothing", raw().hard_link("g", "no/such").end(), Refused("not in the archive before it")),
        ("hard-link-to-a-symlink", raw().symlink("s", "f").hard_link("g", "s").end(), Refused("not a regular file")),
        ("hard-link-to-a-directory", raw().dir("d").hard_link("g", "d").end(), Refused("not a regular file")),
        ("hard-link-without-a-target", raw().hard_link("g", "").end(), Refused("usable target")),
        ("symlink-without-a-target", raw().symlink("g", "").end(), Refused("usable target")),
        ("device", raw().with(device(b'3'), b"").end(), Refused("devices")),
        ("block-device", raw().with(device(b'4'), b"").end(), Refused("devices")),
        ("named-pipe", raw().with(header("p", b'6'), b"").end(), Refused("pipes")),
        ("cve-2018-20990-file-over-a-hard-link-to-the-outside", raw().hard_link("x", "../../../canary").file("x", "dead").end(), Refused("`..`")),
        ("cve-2021-38511-directories-through-a-symlink", raw().symlink("s", "../../..").file("s/exploit/foo/bar", "dead").end(), Refused("leads out")),
        ("cve-2026-5223-file-beside-the-root", raw().symlink("pkg", "..").file("pkg/canary", "dead").end(), Refused("leads out")),
        ("gh-149486-symlinks-without-a-name", raw().symlink("", "..").symlink("", "../..").symlink("", "../../canary").file("canary", "dead").end(), Refused("no name")),
        ("cve-2025-4517-links-longer-than-path-max", path_max.end(), Refused("leads out")),
        ("directories-deeper-than-their-names", deeper_than_allowed.end(), Refused("leads deeper than")),
        ("cve-2022-36113-symlink-named-like-a-file-of-ours", raw().symlink(".spool", "../../../canary").file(".spool", "x").end(), Extracted),
        ("cve-2026-33056-directory-over-a-symlink", raw().symlink("d", "../../../outside").with(header("d", b'5').mode("0000777"), b"").file("d/f", "x").end(), Extracted),
        ("symlink-of-two-hops", raw().symlink("a", ".").symlink("b", "a/../../..").file("b/canary", "dead").end(), Refused("leads out")),
        ("hard-link-through-a-symlink", raw().file("f", "x").symlink("s", "../../..").hard_link("s/canary", "f").end(), Refused("leads out")),
        ("symlink-through-a-symlink", raw().symlink("s", "../../..").symlink("s/canary", "f").end(), Refused("leads out")),
        ("symlink-loop", raw().symlink("a", "b").symlink("b", "a").file("a/f", "x").end(), Refused("leads nowhere")),
    ]
}

/// Sparse files.
#[rustfmt::skip]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn sparse() -> Vec<Row> {
    let data = |byte: u8| [byte; 512];
    let old = |entries: &[(u64, u64)], real: u64, extended: bool| {
        let size: u64 = entries.iter().map(|(_, size)| size).sum();
        let packed = usize::try_from(size).expect("a small file");
        let header = header("f", b'S')
            .gnu()
            .size(packed)
            .field(483, format!("{real:011o}"));
        let header = header.field(482, [u8::from(extended)]);
        entries
            .iter()
            .enumerate()
            .fold(header, |header, (n, (offset, size))| {
                header.field(386 + 24 * n, format!("{offset:011o}\0{size:011o}"))
            })
    };
    let more = format!(
        "{:\0<504}\0\0\0\0\0\0\0\0",
        format!("{:011o}\0{:011o}\0{:011o}\0{:011o}", 16384, 7, 20000, 0)
    );
    let three = [data(1), data(2), data(3), data(4)].concat();
    let with_more = old(
        &[(0, 512), (2048, 512), (4096, 512), (8192, 512)],
        20000,
        true,
    )
    .size(2055);
    let by_pax = |map: &str| {
        let records = [
            ("GNU.sparse.name", "real"),
            ("GNU.sparse.size", "5000"),
            ("GNU.sparse.numblocks", "2"),
            ("GNU.sparse.map", map),
        ];
        raw()
            .pax(b'x', &records)
            .file("GNUSparseFile.0/real", [&data(1)[..], b"end"].concat())
            .end()
    };
    let offsets = [
        ("GNU.sparse.size", "5000"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "0"),
        ("GNU.sparse.numbytes", "512"),
        ("GNU.sparse.offset", "4096"),
        ("GNU.sparse.numbytes", "3"),
    ];
    let by_content = |map: &str, real: &str| {
        let records = [
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "real"),
            ("GNU.sparse.realsize", real),
        ];
        let content = [format!("{map:\0<512}").as_bytes(), &data(1), b"end"].concat();
        raw()
            .pax(b'x', &records)
            .file("GNUSparseFile.0/real", content)
            .file("next", "x")
            .end()
    };
    vec![
        ("sparse-old", raw().with(old(&[(0, 512), (4096, 512), (9000, 0)], 9000, false), [data(1), data(2)].concat()).file("next", "x").end(), Extracted),
        ("sparse-old-of-nothing", raw().with(old(&[(9000, 0)], 9000, false), b"").file("next", "x").end(), Extracted),
        ("sparse-old-with-a-longer-map", raw().bytes(raw().with(with_more, b"").cut()).bytes(&more).bytes(&three).bytes([5; 7]).bytes([0; 505]).file("next", "x").end(), Extracted),
        ("sparse-0.0", raw().pax(b'x', &offsets).file("f", [&data(1)[..], b"end"].concat()).file("next", "x").end(), Extracted),
        ("sparse-0.1", by_pax("0,512,4096,3"), Extracted),
        ("sparse-1.0", by_content("2\n0\n512\n4096\n3\n", "5000"), Extracted),
        ("sparse-1.0-that-ends-with-content", by_content("2\n0\n512\n4096\n3\n", "4099"), Extracted),
        ("sparse-1.0-that-begins-with-a-hole", by_content("2\n512\n512\n4096\n3\n", "5000"), Extracted),
        ("sparse-old-that-overlaps", raw().with(old(&[(0, 512), (100, 512)], 9000, false), [data(1), data(2)].concat()).end(), Refused("overlap")),
        ("sparse-old-beyond-its-end", raw().with(old(&[(0, 512), (8999, 512)], 9000, false), [data(1), data(2)].concat()).end(), Refused("outside of it")),
        ("sparse-old-in-ustar", raw().with(old(&[(0, 512)], 9000, false).field(257, b"ustar\x0000"), data(1)).end(), Refused("malformed")),
        ("sparse-0.1-of-another-length", by_pax("0,512,4096,4"), Refused("not what the archive has")),
        ("sparse-0.1-out-of-order", by_pax("4096,512,0,3"), Refused("not in order")),
        ("sparse-0.1-malformed", by_pax("0,512,4096"), Refused("malformed")),
        ("sparse-1.0-without-an-end", by_content(&"9".repeat(600)[..512], "5000"), Refused("malformed")),
        ("sparse-1.0-of-too-many-segments", by_content("18446744073709551615\n", "5000"), Refused("too many segments")),
        ("sparse-1.0-shorter-than-announced", by_content("1\n0\n512\n", "5000"), Refused("not what the archive has")),
        ("sparse-1.0-beyond-64-bits", by_content("2\n0\n512\n18446744073709551615\n3\n", "5000"), Refused("outside of it")),
        ("sparse-of-8-exbibytes", by_content("2\n0\n512\n4096\n3\n", "9223372036854775808"), Refused("larger than files can be")),
        ("sparse-2.0", raw().pax(b'x', &[("GNU.sparse.major", "2"), ("GNU.sparse.realsize", "9")]).file("f", "x").end(), Refused("not known")),
        ("sparse-directory", raw().pax(b'x', &[("GNU.sparse.size", "0")]).dir("d").end(), Refused("is not a file")),
        ("sparse-by-a-global-record", raw().pax(b'g', &[("GNU.sparse.major", "1")]).file("f", "x").end(), Refused("global record")),
    ]
}

fn all() -> Vec<Row> {
    [names(), fields(), members(), sparse()].concat()
}

fn is_refused(end: End) -> bool {
    matches!(end, Refused(_))
}

#[test]
fn what_is_refused_says_why_and_leaves_nothing() {
    for (name, archive, end) in all() {
        let Refused(why) = end else { continue };
        let trap = Trap::new();
        let outcome = trap.fetch(&[("odd.tar", archive, Value::Null)]);
        assert_eq!(outcome.status.code(), Some(5), "{name}: {outcome:?}");
        assert!(outcome.stderr.contains(why), "{name}: {outcome:?}");
        assert!(
            outcome.stderr.contains("public/odd.tar"),
            "{name}: {outcome:?}"
        );
        assert!(outcome.stderr.len() < 2000, "{name}: {outcome:?}");
        let left = trap.sandbox.fetched();
        assert!(left.is_empty(), "{name} left:\n{left}");
    }
}

#[test]
fn nothing_harms_what_is_outside() {
    for (_, archive, _) in all() {
        // A canary beside what the archive is extracted to is one level away, or two with a `dest`.
        for dest in [Value::Null, json!("d"), json!("d/e")] {
            Trap::new().fetch(&[("odd.tar", archive.clone(), dest)]);
        }
    }
}

#[test]
fn leading_slashes_are_removed_with_one_warning_per_archive() {
    let tar = raw().file("/a", "x").file("//b", "y").symlink("/c", "a");
    let zip = zip_of(&[file("/a", "x"), file("//b", "y"), symlink("/c", "a")]);
    for (name, archive) in [("odd.tar", tar.end()), ("odd.zip", zip)] {
        let dests = [Value::Null, json!("d")];
        let trap = Trap::new();
        let outcome = trap.fetch(&dests.map(|dest| (name, archive.clone(), dest)));
        assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
        let warnings = outcome.stderr.matches("leading `/` is removed").count();
        assert_eq!(warnings, 1, "{outcome:?}");
        let paths = trap.sandbox.fetched().paths().join(" ");
        assert_eq!(paths, "a b c d d/a d/b d/c");
    }
}

#[test]
fn extended_attributes_and_access_lists_are_not_restored() {
    let records = [
        ("SCHILY.xattr.user.a", "b"),
        ("LIBARCHIVE.xattr.user.c", "ZA"),
        (
            "SCHILY.acl.access",
            "user::rwx,user:1:rwx,group::rwx,mask::rwx,other::rwx",
        ),
    ];
    let archive = raw().pax(b'x', &records).file("f", "x").end();
    let trap = Trap::new();
    let outcome = trap.fetch(&[("odd.tar", archive, Value::Null)]);
    assert_eq!(outcome.status.code(), Some(0), "{outcome:?}");
    let file = trap.sandbox.path("fetches/f");
    let attributes = rustix::fs::listxattr(&file, &mut [0; 1000]).expect("list attributes");
    assert_eq!(attributes, 0);
}

/// The archives that are checked in, for other programs to be tried on. To write them anew, set `UPDATE_TESTDATA`.
#[test]
fn what_is_refused_is_in_testdata() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hostile/tar");
    let path = |name: &str| directory.join(format!("{name}.tar"));
    let refused: Vec<_> = all().into_iter().filter(|row| is_refused(row.2)).collect();
    if std::env::var_os("UPDATE_TESTDATA").is_some() {
        fs::create_dir_all(&directory).expect("make the directory");
        for (name, archive, _) in &refused {
            fs::write(path(name), archive).expect("write an archive");
        }
    }
    for (name, archive, _) in &refused {
        let there = fs::read(path(name)).unwrap_or_default();
        assert!(there == *archive, "{name}.tar is not what is made here");
    }
    let count = fs::read_dir(&directory)
        .expect("list the directory")
        .count();
    assert_eq!(
        count,
        refused.len(),
        "files without a test in {}",
        directory.display()
    );
}

/// Extracts archives with several programs.
struct Judges {
    sandbox: Sandbox,
}

impl Judges {
    fn new() -> Self {
        Self {
            sandbox: Sandbox::new(),
        }
    }

    /// What a program that extracts `../a.tar` makes in an empty directory; none if it fails.
    fn judge(&self, words: &[&str]) -> Option<Tree> {
        let directory = self.emptied("judge");
        // Mutated sizes must not fill the disk.
        let script = "umask 022; ulimit -f 20000; exec \"$@\"";
        let run = self.sandbox.program("sh").args(["-c", script, "sh"]);
        let run = run.args(words).current_dir(directory).env("LC_ALL", "C");
        let outcome = run.run();
        let tree = Tree::of(self.sandbox.path("judge"));
        outcome.status.success().then(|| comparable(tree))
    }

    fn emptied(&self, name: &str) -> PathBuf {
        let directory = self.sandbox.path(name);
        remove_tree(&directory);
        fs::create_dir(&directory).expect("make a directory");
        directory
    }

    /// What we make of an archive; none if it is refused, and then nothing may be left.
    fn ours(&self, archive: &[u8]) -> (Option<Tree>, Outcome) {
        let fetches = self.emptied("fetches");
        self.sandbox.write("a.tar", archive);
        let artifact = format!("store/task/{TASK_A}/artifacts/public/a.tar");
        self.sandbox.write(&artifact, archive);
        let list = json!([{"task": TASK_A, "artifact": "public/a.tar"}]).to_string();
        let script = "umask 022; ulimit -f 20000; exec \"$@\"";
        let run = self.sandbox.program("sh").args(["-c", script, "sh"]);
        let run = run.args([env!("CARGO_BIN_EXE_fetch-content"), "task-artifacts"]);
        let run = run.args(["--store", "store", "--dest", "fetches"]);
        let outcome = run.env("MOZ_FETCHES", list).run();
        let tree = Tree::of(&fetches);
        if outcome.status.success() {
            return (Some(comparable(tree)), outcome);
        }
        let codes = [Some(5), Some(6)];
        assert!(codes.contains(&outcome.status.code()), "{outcome:?}");
        assert!(tree.is_empty(), "left:\n{tree}{outcome:?}");
        (None, outcome)
    }

    /// What GNU tar and bsdtar make of the archive that we had last.
    fn others(&self) -> [Option<Tree>; 2] {
        let gnu = ["tar", "-xf", "../a.tar", "--no-same-owner"];
        let gnu = self.judge(&[&gnu[..], &["--delay-directory-restore"]].concat());
        let bsd = ["bsdtar", "-xf", "../a.tar", "--no-same-owner"];
        [gnu, self.judge(&bsd)]
    }
}

/// A tree without the times of directories: those that archives do not have are from just now.
fn comparable(tree: Tree) -> Tree {
    tree.without_directory_mtimes()
}

#[test]
fn what_is_extracted_is_what_gnu_tar_or_bsdtar_make_of_it() {
    let test = "what_is_extracted_is_what_gnu_tar_or_bsdtar_make_of_it";
    if !have_programs(test, &["tar", "bsdtar"]) {
        return;
    }
    let judges = Judges::new();
    for (name, archive, end) in all() {
        if is_refused(end) {
            continue;
        }
        let (ours, outcome) = judges.ours(&archive);
        let ours = ours.unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        assert_eq!(ours.is_empty(), name == "empty", "{name}: {outcome:?}");
        expect_one_of(name, &ours, &judges.others());
    }
}

/// What GNU tar and bsdtar extract to the same tree, and we do not at all: no sane tool makes it, and others read it in
/// another way, or it is nothing for a tree of files, or it may have been cut off.
const REFUSED_ALL_THE_SAME: &[&str] = &[
    "two-long-names",
    "targets-that-differ",
    "nul-in-a-pax-path",
    "nul-in-a-long-name",
    "nul-in-a-target",
    "cve-2025-62518-pax-size-hides-members",
    "pax-size-shows-members",
    "unknown-type",
    "file-named-like-a-directory-with-content",
    "symlink-with-content",
    "no-end",
    "hard-link-to-a-symlink",
    "device",
    "block-device",
    "named-pipe",
    "sparse-old-in-ustar",
    "sparse-by-a-global-record",
];

#[test]
fn little_is_refused_that_gnu_tar_and_bsdtar_agree_on() {
    let test = "little_is_refused_that_gnu_tar_and_bsdtar_agree_on";
    if !have_programs(test, &["tar", "bsdtar"]) {
        return;
    }
    let judges = Judges::new();
    let mut agreed = Vec::new();
    for (name, archive, _) in all().into_iter().filter(|row| is_refused(row.2)) {
        // Deeper than a test can look.
        let deep = [
            "-bytes",
            "-components",
            "directories-deeper",
            "cve-2025-4517",
        ];
        if deep.iter().any(|what| name.contains(what)) {
            continue;
        }
        judges.sandbox.write("a.tar", archive);
        let [gnu, bsd] = judges.others();
        if gnu.is_some() && gnu == bsd {
            agreed.push(name);
        }
    }
    assert_eq!(agreed, REFUSED_ALL_THE_SAME);
}

/// Files and directories of all kinds of modes, and a full directory that nobody may write to.
fn archive_of_modes() -> Vec<u8> {
    let modes = [
        "0777", "0666", "0775", "0660", "0444", "4755", "2711", "6777",
    ];
    let archive = modes.iter().fold(raw(), |tar, mode| {
        let mode = format!("000{mode}");
        tar.with(header(&mode, b'0').size(1).mode(&mode), b"x")
            .with(header(format!("d{mode}"), b'5').mode(&mode), b"")
    });
    let closed = header("closed", b'5').mode("0000555");
    archive.with(closed, b"").file("closed/f", "x").end()
}

/// A script that runs a command.
const WITH_UMASK_022: &str = "umask 022; exec \"$@\"";

#[test]
fn modes_are_those_that_gnu_tar_gives_the_same_user() {
    let test = "modes_are_those_that_gnu_tar_gives_the_same_user";
    if !have_programs(test, &["tar"]) {
        return;
    }
    let judges = Judges::new();
    let (ours, outcome) = judges.ours(&archive_of_modes());
    let ours = ours.unwrap_or_else(|| panic!("{outcome:?}"));
    let run = judges.sandbox.program("sh");
    let run = run.args(["-c", WITH_UMASK_022, "sh"]);
    expect_modes_of_gnu_tar(run, judges.emptied("theirs"), ours);
}

/// Somebody who is not root even if the tests are run by root.
#[test]
fn modes_are_those_that_gnu_tar_gives_an_ordinary_user() {
    let test = "modes_are_those_that_gnu_tar_gives_an_ordinary_user";
    if !is_root(test) || !have_programs(test, &["tar", "setpriv"]) {
        return;
    }
    let (_, id) = SOMEBODY;
    let sandbox = open_sandbox();
    let artifact = format!("store/task/{TASK_A}/artifacts/public/a.tar");
    for path in ["a.tar", &artifact] {
        sandbox.write(path, archive_of_modes());
    }
    // The program may be where only root can go.
    fs::copy(env!("CARGO_BIN_EXE_fetch-content"), sandbox.path("program")).expect("copy");
    for directory in ["fetches", "theirs"] {
        fs::create_dir_all(sandbox.path(directory)).expect("make a directory");
        give(sandbox.path(directory), id, id);
    }
    give(sandbox.path(""), id, id);
    let somebody = || {
        let id = id.to_string();
        let run = sandbox
            .program("setpriv")
            .args(["--reuid", &id, "--regid", &id]);
        run.args(["--clear-groups", "sh", "-c", WITH_UMASK_022, "sh"])
    };
    let list = json!([{"task": TASK_A, "artifact": "public/a.tar"}]).to_string();
    for _ in ["new", "merged with what is there"] {
        let run = somebody().args(["./program", "task-artifacts", "--store", "store"]);
        let run = run.args(["--dest", "fetches"]).env("MOZ_FETCHES", &list);
        run.run().expect_code(0);
    }
    let ours = comparable(Tree::of(sandbox.path("fetches")));
    expect_modes_of_gnu_tar(somebody(), sandbox.path("theirs"), ours);
}

/// Panics unless a tree is what GNU tar, started by `run`, makes of `../a.tar`.
fn expect_modes_of_gnu_tar(run: Invocation<'_>, theirs: PathBuf, mut ours: Tree) {
    let run = run.args(["tar", "-xf", "../a.tar", "--no-same-owner"]);
    let run = run.current_dir(&theirs).run();
    assert!(run.status.success(), "{run:?}");
    let mut theirs = comparable(Tree::of(theirs));
    // GNU tar leaves set-id bits to the user, and we to nobody.
    for tree in [&mut ours, &mut theirs] {
        tree.drop_set_id_bits();
    }
    theirs.assert_same(&ours, "GNU tar");
}

#[test]
fn archives_of_all_programs_are_what_gnu_tar_or_bsdtar_make_of_them() {
    let test = "archives_of_all_programs_are_what_gnu_tar_or_bsdtar_make_of_them";
    if !have_programs(test, &["tar", "bsdtar", "gzip", "bzip2", "xz", "zstd"]) {
        return;
    }
    let judges = Judges::new();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archives");
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("list the archives") {
        let path = entry.expect("an archive").path();
        let name = path.display().to_string();
        if !name.contains(".tar") {
            continue;
        }
        let (ours, outcome) = judges.ours(&fs::read(&path).expect("read an archive"));
        let ours = ours.unwrap_or_else(|| panic!("{name}: {outcome:?}"));
        expect_one_of(&name, &ours, &judges.others());
        count += 1;
    }
    assert!(count >= 28, "{count} archives");
}

/// Panics unless a tree is that of GNU tar or of bsdtar, and of both where they agree.
fn expect_one_of(what: &str, ours: &Tree, others: &[Option<Tree>; 2]) {
    let [gnu, bsd] = others;
    let same = |other: &Option<Tree>| other.as_ref() == Some(ours);
    let diff = |other: &Option<Tree>| match other {
        Some(tree) => tree.diff(ours),
        None => "refused\n".to_owned(),
    };
    assert!(
        same(gnu) || same(bsd),
        "{what}:\n{ours}against GNU tar (-):\n{}against bsdtar (-):\n{}",
        diff(gnu),
        diff(bsd)
    );
}

/// What a bit of damage is put into: archives by programs, and one with every kind of header and member.
fn samples() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/archives");
    let names = [
        "tar-sparse-0.0",
        "tar-sparse-0.1",
        "tar-sparse-1.0",
        "tar-sparse-gnu",
        "bsdtar-pax",
    ];
    let by_programs = names.into_iter().map(|name| {
        let packed = File::open(directory.join(format!("{name}.tar.xz"))).expect("open an archive");
        let mut archive = Vec::new();
        let read = liblzma::read::XzDecoder::new(packed).read_to_end(&mut archive);
        read.expect("unpack an archive");
        archive
    });
    by_programs
        .chain([synthetic(), synthetic(), synthetic()])
        .collect()
}

fn synthetic() -> Vec<u8> {
    let old = header("s", b'S').gnu().size(512).field(483, "00000002000");
    let old = old
        .field(386, "00000000000\x0000000001000")
        .field(410, "00000002000\x0000000000000");
    raw()
        .dir("d")
        .file("d/f", "file")
        .pax(
            b'x',
            &[
                ("path", "d/by-pax"),
                ("mtime", "1234567890.5"),
                ("size", "4"),
            ],
        )
        .file("p", "paxx")
        .long(b'L', "d/by-gnu")
        .with(header("l", b'0').gnu().size(3), b"gnu")
        .symlink("d/s", "f")
        .hard_link("h", "d/f")
        .with(header("v", b'0').v7().size(2), b"v7")
        .with(old, [7; 512])
        .with(header("tail", b'0').field(345, "pre").size(600), [8; 600])
        .end()
}

/// How many damaged archives are tried.
const CASES: usize = 300;

/// Damage: where, and to which byte. Mostly in fields of headers that mean something, and to bytes that do.
fn damage() -> impl Strategy<Value = (proptest::sample::Index, usize, u8)> {
    let field = prop_oneof![
        0..20_usize,
        Just(99),
        100..108_usize,
        124..148_usize,
        156..170_usize,
        257..265_usize,
        345..500_usize,
        0..512_usize,
    ];
    let telling = b"\0 /.0123457LKxgXSVM9\n=\x80\xff".to_vec();
    let byte = prop_oneof![proptest::sample::select(telling), any::<u8>()];
    (any::<proptest::sample::Index>(), field, byte)
}

#[test]
fn damaged_archives_end_like_those_of_gnu_tar_or_bsdtar_or_are_refused() {
    let test = "damaged_archives_end_like_those_of_gnu_tar_or_bsdtar_or_are_refused";
    if !have_programs(test, &["tar", "bsdtar"]) {
        return;
    }
    // The same cases in every run.
    let mut runner = TestRunner::deterministic();
    let judges = Judges::new();
    let (samples, mut extracted) = (samples(), 0);
    let cases = proptest::collection::vec(damage(), 1..3);
    for case in 0..CASES {
        let tree = cases.new_tree(&mut runner).expect("a case");
        let damage = tree.current();
        let mut archive = samples[case % samples.len()].clone();
        for &(block, at, byte) in &damage {
            // Content is longer than headers, but headers are in front of it.
            let block = block.index((archive.len() / 512).min(40));
            archive[block * 512 + at] = byte;
            // Of a block of content this damages a bit more.
            if byte % 8 != 0 {
                fix_checksum(&mut archive, block * 512);
            }
        }
        let (Some(ours), _) = judges.ours(&archive) else {
            continue;
        };
        if ours.paths() == ["a.tar"] {
            // It does not begin like an archive any more, and so it is a file.
            continue;
        }
        extracted += 1;
        let what = format!("case {case}: {damage:?}");
        expect_one_of(&what, &ours, &judges.others());
    }
    assert!(extracted > 20, "only {extracted} were extracted at all");
}
