//! One zip archive for each way in which they contradict themselves, hide something or are damaged, and harmless ones
//! that look like it. They are also in `testdata/hostile/zip/`, where `README-zip.md` says what is special about each.

use super::zips::{
    DESCRIPTOR, Entry, Head, UTF8, deflate_stored, deflate_zeros, descriptor, directory, entry,
    extra, link, packed_entry, unicode_path, unicode_path_of, unsigned_descriptor, wide_descriptor,
    zip, zip_with, zip64_extra, zip64_with,
};

/// What has to become of an archive.
#[derive(Clone, Copy)]
pub(crate) enum Verdict {
    /// These paths, and no others.
    Tree(&'static [&'static str]),
    /// An error with this text in it.
    Refused(&'static str),
}

use Verdict::{Refused, Tree};

/// An archive of its own kind.
pub(crate) struct Class {
    /// The file is called `NAME.zip`.
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) verdict: Verdict,
}

fn class(name: &'static str, bytes: Vec<u8>, verdict: Verdict) -> Class {
    Class {
        name,
        bytes,
        verdict,
    }
}

/// [`PACKED`], packed by `xz -0 --check=crc32`.
const XZ: &str = "fd377a585a0000016922de36020021010c0000008f98419ce0002c00165d0038184899cd5c1c2509\
                  3094797e6421f60dc5a0f40000000000dac5420600012e2d72e05e6e9042990d010000000001595a";

/// What is packed in most classes.
const PACKED: &[u8] = b"packed content\npacked content\npacked content\n";

/// All classes.
pub(crate) fn classes() -> Vec<Class> {
    [
        names(),
        contradictions(),
        descriptors(),
        overlaps(),
        ends(),
        tables(),
        zip64(),
        zip64_places(),
        zip64_ends(),
        content(),
        methods(),
        types(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn one(name: impl AsRef<[u8]>) -> Vec<u8> {
    zip(&[entry(name, "content")])
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn names() -> Vec<Class> {
    let parent = "has a `..` component";
    let with_path = |flags: u16, name: &'static str, path: Vec<u8>| {
        zip(&[entry(name, "content").both(|head| {
            head.flags |= flags;
            head.extra.clone_from(&path);
        })])
    };
    vec![
        class("name-parent", one("a/../../canary"), Refused(parent)),
        class("name-absolute", one("/tmp/a"), Tree(&["tmp", "tmp/a"])),
        class("name-nul", one("a\0b"), Refused("has a NUL byte")),
        class("name-empty", one(""), Refused("a member has no name")),
        class(
            "name-root",
            one("./."),
            Refused("would replace the destination itself"),
        ),
        class(
            "name-root-directory",
            zip(&[directory("./"), entry("a", "a")]),
            Tree(&["a"]),
        ),
        class(
            "name-backslash-dos",
            zip(&[entry("a\\b", "content").packed_on_dos()]),
            Tree(&["a", "a/b"]),
        ),
        class(
            "name-backslash-parent",
            zip(&[entry("..\\canary", "content").packed_on_dos()]),
            Refused(parent),
        ),
        class(
            "name-backslash-unix",
            one("..\\canary"),
            Tree(&["..\\canary"]),
        ),
        class(
            "name-code-page-437",
            zip(&[entry(b"caf\x82", "content").packed_on_dos()]),
            Tree(&["caf\u{e9}"]),
        ),
        class("name-not-utf-8", one(b"caf\xe9"), Tree(&["caf\\xe9"])),
        class(
            "name-unicode-path",
            with_path(0, "caf_", unicode_path(b"caf_", "caf\u{e9}")),
            Tree(&["caf\u{e9}"]),
        ),
        class(
            "name-unicode-path-version-0",
            with_path(0, "caf_", unicode_path_of(0, b"caf_", "caf\u{e9}")),
            Tree(&["caf\u{e9}"]),
        ),
        class(
            "name-unicode-path-version-2",
            with_path(0, "caf_", unicode_path_of(2, b"caf_", "caf\u{e9}")),
            Tree(&["caf_"]),
        ),
        class(
            "name-unicode-path-stale",
            with_path(0, "caf_", unicode_path(b"before", "caf\u{e9}")),
            Tree(&["caf_"]),
        ),
        class(
            "name-unicode-path-second",
            with_path(
                UTF8,
                "caf\u{e9}",
                unicode_path("caf\u{e9}".as_bytes(), "evil"),
            ),
            Refused("it has two names in UTF-8"),
        ),
        class(
            "name-unicode-path-parent",
            with_path(0, "safe", unicode_path(b"safe", "../canary")),
            Refused(parent),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn contradictions() -> Vec<Class> {
    let contradict = Refused("its two headers contradict each other");
    let file = || entry("a", "content");
    vec![
        class(
            "local-name",
            zip(&[file().local(|h| h.name = b"b".to_vec())]),
            contradict,
        ),
        class(
            "local-size",
            zip(&[file().local(|h| h.size = 6)]),
            contradict,
        ),
        class(
            "local-packed-size",
            zip(&[file().local(|h| h.packed_size = 6)]),
            contradict,
        ),
        class(
            "local-crc",
            zip(&[file().local(|h| h.crc ^= 1)]),
            contradict,
        ),
        class(
            "local-method",
            zip(&[file().local(|h| h.method = 8)]),
            contradict,
        ),
        class(
            "local-flags",
            zip(&[file().local(|h| h.flags = 1)]),
            contradict,
        ),
        class(
            "local-descriptor-flag",
            zip(&[file().streamed(descriptor).central(|h| h.flags = 0)]),
            contradict,
        ),
        class(
            "local-unicode-path",
            zip(&[file().local(|h| h.extra = unicode_path(b"a", "b"))]),
            contradict,
        ),
        class(
            "local-missing",
            {
                let mut second = entry("b", "content");
                second.offset = Some(39);
                second.after = b"padding".to_vec();
                zip(&[file(), second])
            },
            Refused("it is not where the archive's table of contents says"),
        ),
        class(
            "local-elsewhere",
            {
                let mut second = entry("b", "content");
                second.offset = Some(33);
                zip(&[entry("a", "long content, in which b is said to be"), second])
            },
            Refused("it overlaps"),
        ),
        class(
            "local-extra",
            zip(&[file().local(|h| h.extra = extra(0xcafe, b"only here"))]),
            Tree(&["a"]),
        ),
        class(
            "extra-too-long",
            zip(&[file().both(|h| h.extra = b"UT\xff\x00\x01abcd".to_vec())]),
            Refused("an extra field is longer than all of them together"),
        ),
        class(
            "extra-twice",
            zip(&[file().both(|h| h.extra = unicode_path(b"a", "b").repeat(2))]),
            Refused("an extra field is there twice"),
        ),
        class(
            "extra-padding",
            zip(&[file().both(|h| h.extra = vec![0; 3])]),
            Tree(&["a"]),
        ),
    ]
}

fn descriptors() -> Vec<Class> {
    let lies = Refused("what follows its content does not have the sizes and the CRC-32");
    let file = || packed_entry("a", 8, b"content", &deflate_stored(b"content"));
    let lying = |head: &_| {
        let mut bytes = descriptor(head);
        bytes[12] ^= 1;
        bytes
    };
    vec![
        class(
            "descriptor",
            zip(&[file().streamed(descriptor)]),
            Tree(&["a"]),
        ),
        class(
            "descriptor-unsigned",
            zip(&[file().streamed(unsigned_descriptor)]),
            Tree(&["a"]),
        ),
        class(
            "descriptor-wide",
            zip(&[file().streamed(wide_descriptor)]),
            Tree(&["a"]),
        ),
        class(
            "descriptor-redundant",
            zip(&[file().both(|head| head.flags |= DESCRIPTOR)]),
            Tree(&["a"]),
        ),
        class("descriptor-lies", zip(&[file().streamed(lying)]), lies),
        class(
            "descriptor-missing",
            zip(&[file().streamed(|_| Vec::new())]),
            lies,
        ),
        class(
            "descriptor-redundant-lies",
            {
                let mut file = file().both(|head| head.flags |= DESCRIPTOR);
                file.after = lying(&file.central);
                zip(&[file])
            },
            lies,
        ),
    ]
}

fn overlaps() -> Vec<Class> {
    let overlaps = Refused("it overlaps with the next member or the table of contents");
    let quoted = {
        // The content of the first is a stored block that holds the header of the second, and goes on behind it.
        let kernel = deflate_zeros(40);
        let zeros = vec![0; 1 + 258 * 40];
        let second = packed_entry("b", 8, &zeros, &kernel);
        let header = &zip(std::slice::from_ref(&second))[..31];
        let content = [header, &zeros].concat();
        let length = u16::try_from(header.len()).expect("a short header");
        let quote = [
            &[0],
            &length.to_le_bytes()[..],
            &(!length).to_le_bytes(),
            header,
        ]
        .concat();
        let mut first = packed_entry("a", 8, &content, &[&quote[..], &kernel].concat());
        first.packed = quote[..5].to_vec();
        zip(&[first, second])
    };
    let same = {
        let copy = |name: &str| {
            let mut copy = entry(name, "content");
            copy.offset = Some(0);
            copy
        };
        zip(&[copy("a"), copy("a")])
    };
    vec![
        class("overlap-quoted", quoted, overlaps),
        class("overlap-same", same, overlaps),
        class(
            "overlap-table",
            zip(&[entry("a", "content").both(|h| (h.size, h.packed_size) = (60, 60))]),
            overlaps,
        ),
        class(
            "overlap-extra",
            // Without the extra fields before it, the member would just fit.
            zip(&[
                packed_entry("a", 8, b"content", &deflate_stored(b"content"))
                    .local(|h| h.extra = extra(0xcafe, &[0; 40]))
                    .both(|h| h.packed_size += 40),
            ]),
            overlaps,
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn ends() -> Vec<Class> {
    let hidden =
        Refused("the archive begins with a member that its table of contents does not have");
    let two = Refused("the archive has two end records");
    let (first, second) = (one("first"), one("second"));
    vec![
        class(
            "end-missing",
            first[..first.len() - 1].to_vec(),
            Refused("no end record"),
        ),
        class(
            "end-comment",
            zip_with(&[entry("a", "a")], |end| {
                end.comment = b"a comment".to_vec();
            }),
            Tree(&["a"]),
        ),
        class(
            "end-comment-cut",
            zip_with(&[entry("a", "a")], |end| end.comment_length = Some(1)),
            Refused("its comment is shorter than announced"),
        ),
        class(
            "end-comment-archive",
            zip_with(&[entry("a", "a")], |end| end.comment.clone_from(&second)),
            two,
        ),
        class(
            "end-trailing",
            [&first[..], b"and something behind it"].concat(),
            Tree(&["first"]),
        ),
        class(
            "end-two-behind",
            // One in the comment of another that ends elsewhere: only who goes from the end finds it.
            zip_with(&[entry("a", "a")], |end| {
                end.comment.clone_from(&second);
                end.comment_length = Some(u16::try_from(second.len() - 1).expect("short"));
            }),
            hidden,
        ),
        class("end-concatenated", [&first[..], &second].concat(), hidden),
        class(
            "end-concatenated-behind-a-mark",
            [b"PK00", &first[..], &second].concat(),
            hidden,
        ),
        class(
            "end-empty-concatenated",
            [&first[..], &zip(&[])].concat(),
            hidden,
        ),
        class("end-empty", zip(&[]), Tree(&[])),
        class(
            "end-nested-cut",
            // What is left is a whole archive, but it is the member of another.
            {
                let outer = zip(&[entry("inner.zip", &second), entry("b", "b")]);
                outer[..outer.len() - 30].to_vec()
            },
            hidden,
        ),
        class(
            "end-nested",
            zip(&[entry("inner.zip", &second)]),
            Tree(&["inner.zip"]),
        ),
        class(
            "end-one-disk-of-one",
            [b"PK00", &first[..]].concat(),
            Tree(&["first"]),
        ),
        class(
            "end-disks",
            zip_with(&[entry("a", "a")], |end| end.disk = 1),
            Refused("several disks"),
        ),
    ]
}

fn tables() -> Vec<Class> {
    let misplaced = Refused("the archive's table of contents is not where its end record says");
    vec![
        class(
            "table-count",
            zip_with(&[entry("a", "a"), entry("b", "b")], |end| end.entries = 1),
            Refused("has 2 members, which is not what its end record says"),
        ),
        class(
            "table-size",
            zip_with(&[entry("a", "a")], |end| end.size -= 1),
            Refused("the archive's table of contents"),
        ),
        class(
            "table-offset",
            zip_with(&[entry("a", "a")], |end| end.offset += 1),
            misplaced,
        ),
        class(
            "table-cut",
            zip(&[entry("a", "a").central(|h| h.extra = vec![0; 3])])
                .into_iter()
                .enumerate()
                // The length of the extra field.
                .map(|(at, byte)| if at == 32 + 30 { 200 } else { byte })
                .collect(),
            Refused("the archive's table of contents is cut off"),
        ),
        class(
            "table-disk",
            {
                let mut file = entry("a", "a");
                file.disk = 1;
                zip(&[file])
            },
            Refused("it is on another disk"),
        ),
        class(
            "table-duplicate",
            zip(&[entry("a", "first"), entry("b", "b"), entry("a", "second")]),
            Tree(&["a", "b"]),
        ),
        class(
            "table-duplicate-damaged",
            zip(&[
                entry("a", "first").both(|head| head.crc ^= 1),
                entry("./a", "second"),
            ]),
            Refused("another CRC-32"),
        ),
        class(
            "table-unlisted",
            {
                // A member that only those see who read from the beginning, between two that all see.
                let mut first = entry("a", "a");
                first.after = one("hidden")[..43].to_vec();
                zip(&[first, entry("b", "b")])
            },
            Tree(&["a", "b"]),
        ),
    ]
}

/// Offsets and disks that are in the Zip64 field, which the end records' own counterparts need not be.
fn zip64_places() -> Vec<Class> {
    let first = || entry("a", "content");
    let start = (zip(&[first()]).len() - zip(&[]).len() - 47) as u64;
    let archive = |offset: Option<u32>, disk: u16, field: &[u8]| {
        let second = Entry {
            offset,
            disk,
            ..entry("b", "more")
        };
        zip(&[first(), second.central(|head| head.extra = extra(1, field))])
    };
    let far = |start: u64| archive(Some(u32::MAX), 0, &start.to_le_bytes());
    let on_disk = |disk: u32| archive(None, 0xffff, &disk.to_le_bytes());
    let both = [&start.to_le_bytes()[..], &[0; 4]].concat();
    let missing = Refused("a Zip64 field is missing or too short");
    vec![
        class("zip64-offset", far(start), Tree(&["a", "b"])),
        class(
            "zip64-offset-elsewhere",
            far(start + 1),
            Refused("it is not where the archive's table of contents says"),
        ),
        class("zip64-offset-beyond", far(u64::MAX), Refused("it overlaps")),
        class(
            "zip64-offset-missing",
            archive(Some(u32::MAX), 0, b""),
            missing,
        ),
        class("zip64-disk", on_disk(0), Tree(&["a", "b"])),
        class(
            "zip64-disk-other",
            on_disk(1),
            Refused("it is on another disk of the archive"),
        ),
        class("zip64-disk-missing", archive(None, 0xffff, b""), missing),
        class(
            "zip64-offset-and-disk",
            archive(Some(u32::MAX), 0xffff, &both),
            Tree(&["a", "b"]),
        ),
    ]
}

/// An archive with Zip64 end records that something is done to, from the first of them on.
fn with_end_records(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = zip64_with(&[entry("a", "content")], |_, _, _| {});
    let records = bytes.windows(4).position(|window| window == b"PK\x06\x06");
    let mut ends = bytes.split_off(records.expect("end records"));
    change(&mut ends);
    bytes.extend(ends);
    bytes
}

/// Zip64 end records and their locator, which can be found in two ways.
fn zip64_ends() -> Vec<Class> {
    const LENGTH: usize = 56;
    vec![
        // The first is as long as both, and the second is where one is looked for without the locator.
        class(
            "zip64-end-twice",
            with_end_records(|ends| {
                let second = ends[..LENGTH].to_vec();
                ends[4] += u8::try_from(LENGTH).expect("a small number");
                ends.splice(LENGTH..LENGTH, second);
            }),
            Refused("the archive has two Zip64 end records"),
        ),
        class(
            "zip64-end-longer",
            with_end_records(|ends| {
                ends[4] += 4;
                ends.splice(LENGTH..LENGTH, *b"more");
            }),
            Tree(&["a"]),
        ),
        class(
            "zip64-end-too-long",
            with_end_records(|ends| ends[4] += 1),
            Refused("the archive's Zip64 end record is not where its locator says"),
        ),
        class(
            "zip64-locator-disks",
            with_end_records(|ends| ends[LENGTH + 16] = 2),
            Refused("archives on several disks are not supported"),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn zip64() -> Vec<Class> {
    let full = 0xffff_ffff;
    let file = || entry("a", "content");
    let missing = Refused("a Zip64 field is missing or too short");
    let wide = |sizes: [u64; 2]| {
        move |head: &mut Head| {
            (head.size, head.packed_size) = (full, full);
            head.extra = zip64_extra(&sizes);
        }
    };
    vec![
        class(
            "zip64",
            zip64_with(&[file().both(wide([7, 7]))], |_, _, _| {}),
            Tree(&["a"]),
        ),
        class(
            "zip64-sizes-only",
            zip(&[file().both(wide([7, 7]))]),
            Tree(&["a"]),
        ),
        class(
            "zip64-missing",
            zip(&[file().both(|h| (h.size, h.packed_size) = (full, full))]),
            missing,
        ),
        class(
            "zip64-short",
            zip(&[file().both(|h| {
                (h.size, h.packed_size) = (full, full);
                h.extra = zip64_extra(&[7]);
            })]),
            missing,
        ),
        class(
            "zip64-contradicts",
            zip(&[file().local(wide([8, 7])).central(wide([7, 7]))]),
            Refused("its two headers contradict each other"),
        ),
        class(
            "zip64-huge",
            zip(&[file().both(wide([u64::MAX, 7])).both(|h| h.method = 8)]),
            Refused("the archive unpacks to more than"),
        ),
        class(
            "zip64-huge-packed",
            zip(&[file().both(wide([7, u64::MAX])).both(|h| h.method = 8)]),
            Refused("it overlaps"),
        ),
        class(
            "zip64-superfluous",
            zip(&[file().both(|h| h.extra = zip64_extra(&[99, 99]))]),
            Tree(&["a"]),
        ),
        class(
            "zip64-end-contradicts",
            zip64_with(&[file()], |narrow, _, _| narrow.entries = 2),
            Refused("the archive's two end records contradict each other"),
        ),
        class(
            "zip64-end-elsewhere",
            zip64_with(&[file()], |_, _, at| *at += 1),
            Refused("the archive's table of contents is not where its end record says"),
        ),
        class(
            "zip64-end-offset",
            zip64_with(&[file()], |_, wide, _| wide.offset -= 1),
            Refused("the archive's table of contents is not where its end record says"),
        ),
        class(
            "zip64-end-disks",
            zip64_with(&[file()], |_, wide, _| wide.disk = 1),
            Refused("the archive's two end records contradict each other"),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn content() -> Vec<Class> {
    let deflated = || packed_entry("a", 8, PACKED, &deflate_stored(PACKED));
    let bomb = |announced: u32| {
        let zeros = vec![0; 1 + 258 * 8192];
        packed_entry("bomb", 8, &zeros, &deflate_zeros(8192)).both(|head| head.size = announced)
    };
    let encrypted = |name, flags| {
        class(
            name,
            zip(&[entry("a", "content").both(|head| head.flags = flags)]),
            Refused("cannot unpack `a`: encrypted members cannot be extracted"),
        )
    };
    vec![
        class(
            "content-crc",
            zip(&[deflated().both(|head| head.crc ^= 1)]),
            Refused("another CRC-32"),
        ),
        class(
            "content-crc-stored",
            zip(&[entry("a", "content").both(|head| head.crc ^= 1)]),
            Refused("another CRC-32"),
        ),
        class(
            "content-short",
            zip(&[deflated().both(|head| head.size += 1)]),
            Refused("ends 1 bytes before its announced end"),
        ),
        class(
            "content-long",
            zip(&[deflated().both(|head| head.size -= 1)]),
            Refused("the archive is damaged"),
        ),
        class(
            "content-stored-sizes",
            zip(&[entry("a", "content").both(|head| head.size = 8)]),
            Refused("it is stored as it is, but has 8 bytes and 7 in the archive"),
        ),
        class(
            "content-damaged",
            zip(&[packed_entry("a", 8, PACKED, b"\xff\xff\xff\xff")]),
            Refused("the archive is damaged"),
        ),
        class(
            "content-cut",
            zip(&[packed_entry("a", 8, PACKED, &deflate_stored(PACKED)[..20])]),
            Refused("the archive is damaged"),
        ),
        class("bomb", zip(&[bomb(1 + 258 * 8192)]), Tree(&["bomb"])),
        class(
            "bomb-lies",
            zip(&[bomb(1 << 20 | 1)]),
            Refused("the content has more than the announced 1048577 bytes"),
        ),
        class(
            "content-long-xz",
            zip(&[packed_entry("a", 95, PACKED, &hex(XZ)).both(|head| head.size -= 1)]),
            Refused("the content has more than the announced 44 bytes"),
        ),
        class(
            "bomb-lies-small",
            zip(&[bomb(100)]),
            Refused("the archive is damaged"),
        ),
        encrypted("encrypted", 1),
        encrypted("encrypted-strongly", 0x41),
        encrypted("encrypted-strongly-alone", 0x40),
        encrypted("encrypted-table", 0x2000),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn methods() -> Vec<Class> {
    let unsupported = |name, method, text| {
        class(
            name,
            zip(&[packed_entry("a", method, PACKED, b"packed")]),
            Refused(text),
        )
    };
    let supported = |name, method, packed: &[u8]| {
        class(
            name,
            zip(&[packed_entry("a", method, PACKED, packed)]),
            Tree(&["a"]),
        )
    };
    let lzma = hex(
        "090405000038184899cd5c1c25093094797e6421f60dc6200f17ffffc4594000",
        // Version 9.4, five bytes of properties: lc=3 lp=0 pb=2, and a dictionary of 64 KiB.
    );
    let lzma = [&lzma[..4], &[0x5d, 0, 0, 1, 0], &lzma[4..]].concat();
    let mut lzma_huge = lzma.clone();
    lzma_huge[5..9].copy_from_slice(&[0xff; 4]);
    let zstd = |window: &[u8]| {
        let block = u32::try_from(PACKED.len() << 3 | 1).expect("a small block");
        [
            b"\x28\xb5\x2f\xfd",
            window,
            &block.to_le_bytes()[..3],
            PACKED,
        ]
        .concat()
    };
    vec![
        supported("method-stored", 0, PACKED),
        supported("method-deflate", 8, &deflate_stored(PACKED)),
        supported("method-deflate64", 9, &deflate_stored(PACKED)),
        supported(
            "method-bzip2",
            12,
            &hex(
                "425a6831314159265359b3764c7b0000135180001040002e09c400200022bfd541a0f508069a688a4529c75b759461e4b3e2ee48a70a12166ec98f60",
            ),
        ),
        supported("method-lzma", 14, &lzma),
        supported("method-zstd", 93, &zstd(&[0x20, 45])),
        supported("method-xz", 95, &hex(XZ)),
        class(
            "method-lzma-huge",
            zip(&[packed_entry("a", 14, PACKED, &lzma_huge)]),
            Refused("a window or dictionary of more than"),
        ),
        class(
            "method-zstd-huge",
            // A window of 1 GiB.
            zip(&[packed_entry("a", 93, PACKED, &zstd(&[0, 20 << 3]))]),
            Refused("a window or dictionary of more than"),
        ),
        unsupported(
            "method-implode",
            6,
            "cannot unpack `a`: compression method 6 (Implode)",
        ),
        unsupported(
            "method-ppmd",
            98,
            "cannot unpack `a`: compression method 98 (PPMd)",
        ),
        unsupported(
            "method-aes",
            99,
            "cannot unpack `a`: compression method 99 (AES encryption)",
        ),
        unsupported(
            "method-unknown",
            77,
            "cannot unpack `a`: compression method 77 (unknown)",
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn types() -> Vec<Class> {
    let below = Refused("which is not a directory");
    let target = Refused("symbolic link without a usable target");
    vec![
        class(
            "link-outside",
            zip(&[link("l", "../../canary")]),
            Tree(&["l"]),
        ),
        class(
            "link-then-below",
            zip(&[directory("d/"), link("l", "d"), entry("l/f", "content")]),
            below,
        ),
        class(
            "link-outside-then-below",
            zip(&[link("l", ".."), entry("l/canary", "dead")]),
            below,
        ),
        class("link-empty", zip(&[link("l", "")]), target),
        class("link-nul", zip(&[link("l", "a\0b")]), target),
        class(
            "link-long",
            zip(&[link("l", "t".repeat(4097))]),
            Refused("the target of the link has 4097 bytes"),
        ),
        class(
            "link-replaced",
            zip(&[link("l", "../canary"), entry("l", "content")]),
            Tree(&["l"]),
        ),
        class(
            "file-then-below",
            zip(&[entry("f", "f"), entry("f/g", "g")]),
            below,
        ),
        class(
            "directory-content",
            zip(&[entry("d/", "content").mode(0o040_755)]),
            Tree(&["d"]),
        ),
        class("directory-link", zip(&[link("d/", "..")]), Tree(&["d"])),
        class(
            "device",
            zip(&[entry("null", "").mode(0o020_666)]),
            Refused("devices are not extracted"),
        ),
        class(
            "fifo",
            zip(&[entry("pipe", "").mode(0o010_644)]),
            Refused("named pipes are not extracted"),
        ),
        class(
            "fifo-content",
            zip(&[entry("-", "content").mode(0o010_644)]),
            Tree(&["-"]),
        ),
        class(
            "set-id",
            zip(&[entry("program", "#!").mode(0o106_755)]),
            Tree(&["program"]),
        ),
        class(
            "deep",
            zip(&[entry("d/".repeat(300) + "f", "content")]),
            Refused("the name has more than 256 components"),
        ),
        class(
            "name-long",
            zip(&[entry(vec!["d".repeat(200); 21].join("/"), "content")]),
            Refused("the name has 4220 bytes"),
        ),
    ]
}

fn hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| u8::try_from(char::from(byte).to_digit(16).expect("hex")).expect("hex");
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}
