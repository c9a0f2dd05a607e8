//! Zip archives by other tools, odd ones and damaged ones: where unzip and bsdtar agree on a tree, ours is that tree;
//! where they differ, ours is one of theirs, or the archive is refused. Times of symlinks are not zip's business.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::hostile_zip::extracted;
use crate::support::archives::noise;
use crate::support::hostile_zips::classes;
use crate::support::sandbox::Sandbox;
use crate::support::skip::have_programs;
use crate::support::tree::Tree;
use crate::support::zips::{
    UTF8, deflate_stored, descriptor, directory, entry, link, packed_entry, zip, zip64_with,
};

const TOOLS: [&str; 3] = ["unzip", "bsdtar", "bash"];

/// What another tool makes of an archive.
struct Theirs {
    /// Whether it finds nothing wrong; unzip's warnings are none.
    content: bool,
    tree: Tree,
}

fn theirs(sandbox: &Sandbox, archive: &[u8], words: &[&str], warning: i32) -> Theirs {
    sandbox.write("theirs.zip", archive);
    let out = sandbox.path("theirs");
    if out.exists() {
        make_removable(&out);
        fs::remove_dir_all(&out).expect("clean up");
    }
    fs::create_dir(&out).expect("make a directory");
    // A size that is not checked becomes a file of many gigabytes: the limit, in KiB, ends whoever makes one.
    let limited = r#"ulimit -f 16384; exec "$@""#;
    let outcome = sandbox
        .program("bash")
        .args(["-c", limited, "limited"])
        .args(words)
        .args([sandbox.path("theirs.zip")])
        .env("TZ", "UTC")
        .env("LC_ALL", "C.UTF-8")
        .current_dir(&out)
        .run();
    let code = outcome.status.code();
    Theirs {
        content: code == Some(0) || code == Some(warning),
        tree: Tree::of(&out).without_mtimes(),
    }
}

fn make_removable(dir: &Path) {
    let _ = fs::set_permissions(dir, fs::Permissions::from_mode(0o755));
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            make_removable(&entry.path());
        }
    }
}

/// How we and the others stand to each other.
#[derive(Debug, PartialEq)]
enum Standing {
    /// All three made the same tree.
    Agreed,
    /// Two differ, and we are with one of them.
    Sided,
    /// We refuse; whether the others agree on a tree.
    Refused { agreed: bool },
    /// Ours is nobody's.
    Alone(String),
}

/// Extracts an archive with all three. Times are left out: directories that are not in it have that of the extraction.
fn compare(archive: &[u8]) -> Standing {
    compare_as(archive, |tree| tree)
}

/// The same, of archives that have no modes: every tool makes up its own.
fn compare_without_modes(archive: &[u8]) -> Standing {
    compare_as(archive, Tree::without_modes)
}

fn compare_as(archive: &[u8], comparable: fn(Tree) -> Tree) -> Standing {
    let sandbox = Sandbox::new();
    let theirs = |words: &[&str], warning| {
        let theirs = theirs(&sandbox, archive, words, warning);
        let tree = comparable(theirs.tree);
        Theirs { tree, ..theirs }
    };
    let unzip = theirs(&["unzip", "-q", "-o"], 1);
    let bsdtar = theirs(&["bsdtar", "-xf"], 0);
    let agreed = unzip.content && bsdtar.content && unzip.tree == bsdtar.tree;
    let outcome = extracted(&sandbox, archive);
    let ours = comparable(sandbox.fetched().without_mtimes());
    make_removable(&sandbox.fetches());
    make_removable(&sandbox.path("theirs"));
    if outcome.status.code() == Some(5) && ours.is_empty() {
        return Standing::Refused { agreed };
    }
    let with = |theirs: &Theirs| theirs.content && theirs.tree == ours;
    if outcome.status.success() && with(&unzip) && with(&bsdtar) {
        Standing::Agreed
    } else if outcome.status.success() && !agreed && (with(&unzip) || with(&bsdtar)) {
        Standing::Sided
    } else {
        Standing::Alone(format!(
            "{outcome:?}unzip ({}):\n{}bsdtar ({}):\n{}",
            unzip.content, unzip.tree, bsdtar.content, bsdtar.tree
        ))
    }
}

/// Classes that the others agree on, and that are refused all the same.
const REFUSED_ALL_THE_SAME: &[&str] = &[
    // Both cut names at a NUL byte.
    "name-nul",
    // Both believe the table of contents, and not what a reader of a stream sees.
    "local-descriptor-flag",
    "extra-twice",
    "descriptor-lies",
    "descriptor-redundant-lies",
    "end-concatenated",
    "end-concatenated-behind-a-mark",
    "end-empty-concatenated",
    // Both go from the end, and not by the length of the comment.
    "end-comment-cut",
    "end-comment-archive",
    "end-two-behind",
    "end-nested-cut",
    "zip64-end-twice",
    // Neither looks at the number of the disk.
    "table-disk",
    "zip64-disk-missing",
    "zip64-disk-other",
    "link-nul",
    // Both look at the first flag of encryption only.
    "encrypted-strongly-alone",
    "encrypted-table",
    // Both make an empty file of it.
    "fifo",
    // They have no limits.
    "deep",
    "name-long",
];

/// Classes that no other tool here can read, or which none reads rightly.
const ALONE: &[&str] = &["name-code-page-437"];

#[test]
fn every_class_is_extracted_as_others_do_or_refused() {
    if !have_programs("every_class_is_extracted_as_others_do_or_refused", &TOOLS) {
        return;
    }
    let (mut refused, mut alone, mut details) = (Vec::new(), Vec::new(), String::new());
    for class in classes() {
        match compare(&class.bytes) {
            Standing::Refused { agreed: true } => refused.push(class.name),
            Standing::Alone(trees) => {
                alone.push(class.name);
                details += &trees;
            }
            Standing::Agreed | Standing::Sided | Standing::Refused { agreed: false } => {}
        }
    }
    assert_eq!(alone, ALONE, "{details}");
    refused.sort_unstable();
    let mut expected = REFUSED_ALL_THE_SAME.to_vec();
    expected.sort_unstable();
    assert_eq!(refused, expected);
}

/// Ways to make `a.zip` of the directory `sample`: a shell command, after the programs it takes. To a pipe, tools write
/// sizes behind the content and, not knowing them, in the form for large files.
const MAKERS: &[(&[&str], &str)] = &[
    (&["zip"], "zip -qry - sample | cat >a.zip"),
    (&["zip"], "zip -qry -fz a.zip sample"),
    (&["zip"], "cat sample/text | zip -q a.zip -"),
    (&["zip"], "cat sample/text | zip -q - - | cat >a.zip"),
    (
        &["zip"],
        "zip -qry0X a.zip sample; echo comment | zip -qz a.zip; zip -qd a.zip sample/text",
    ),
    (
        &["zip"],
        "zip -qry -Z bzip2 a.zip sample; zip -qr a.zip sample/text",
    ),
    (&["7z"], "7z a -tzip -snl -mm=Deflate64 a.zip sample"),
    (&["7z"], "7z a -tzip -snl -mm=BZip2 a.zip sample"),
    (&["7z"], "7z a -tzip -snl -mm=LZMA a.zip sample"),
    (
        &["7z"],
        "7z a -tzip -snl -mcu=on a.zip sample; 7z d a.zip sample/text",
    ),
    (&["bsdtar"], "bsdtar --format=zip -cf - sample | cat >a.zip"),
    (
        &["bsdtar"],
        "bsdtar --format=zip --options zip:compression=store,zip:zip64 -cf a.zip sample",
    ),
    (&["python3"], "python3 -m zipfile -c a.zip sample"),
    (&["python3"], "python3 make.py ZIP_DEFLATED | cat >a.zip"),
    (&["python3"], "python3 make.py ZIP_STORED | cat >a.zip"),
    (&["python3"], "python3 make.py ZIP_LZMA | cat >a.zip"),
];

/// Writes a zip to a pipe, with and without room for large members.
const MAKE_PY: &str = "
import sys, zipfile
with zipfile.ZipFile(sys.stdout.buffer, 'w', getattr(zipfile, sys.argv[1])) as archive:
    for large in False, True:
        with archive.open(f'sample/{large}', 'w', force_zip64=large) as member:
            member.write(open('sample/text', 'rb').read())
    archive.mkdir('sample/directory') if hasattr(archive, 'mkdir') else None
    archive.writestr('sample/\u{e9}', 'content')
";

#[test]
fn what_tools_make_is_extracted_as_others_do() {
    let name = "what_tools_make_is_extracted_as_others_do";
    if !have_programs(name, &TOOLS) {
        return;
    }
    for (programs, script) in MAKERS {
        if !have_programs(&format!("{name}: {script}"), programs) {
            continue;
        }
        let sandbox = Sandbox::new();
        let text = b"some text, more than once. ".repeat(1000);
        sandbox.write("make.py", MAKE_PY);
        sandbox.write("sample/text", &text);
        sandbox.write("sample/large", [noise(4_500_000, 1), text].concat());
        sandbox.write("sample/na\u{ef}ve", "content");
        sandbox.write("sample/empty", "");
        fs::create_dir(sandbox.path("sample/directory")).expect("make a directory");
        symlink("text", sandbox.path("sample/link")).expect("make a symlink");
        let program = sandbox.write("sample/program", "#!/bin/sh\n");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("set a mode");
        let made = sandbox.program("bash").args(["-euc", script]);
        let made = made.env("LC_ALL", "C.UTF-8").run();
        assert!(made.status.success(), "{made:?}");
        let standing = compare(&sandbox.read("a.zip"));
        let taken = matches!(standing, Standing::Agreed | Standing::Sided);
        assert!(taken, "{script}: {standing:?}");
    }
}

/// Which of the [`originals`] was made on DOS.
const DOS_ORIGINAL: u64 = 2;

/// Archives to damage: few members of every kind, as tools write them.
fn originals() -> Vec<Vec<u8>> {
    let text = b"text text text";
    let deflated = |name: &str| packed_entry(name, 8, text, &deflate_stored(text));
    let members = [
        directory("dir/"),
        deflated("dir/file"),
        entry("program", "#!").mode(0o100_755),
        link("link", "dir/file"),
        entry("r\u{e9}sum\u{e9}", "content").both(|head| head.flags |= UTF8),
    ];
    let streamed = [
        deflated("one").streamed(descriptor),
        deflated("two").streamed(descriptor),
    ];
    vec![
        zip(&members),
        zip(&streamed),
        zip(&[
            entry("a/b", "b").packed_on_dos(),
            entry("C", "c").packed_on_dos(),
        ]),
        zip64_with(&members[1..3], |_, _, _| {}),
    ]
}

/// Damages an archive in one or two places.
fn mutate(original: &[u8], random: &mut fastrand::Rng) -> Vec<u8> {
    // By its first bytes it is taken for an archive at all.
    let (magic, rest) = original.split_at(4);
    let mut bytes = rest.to_vec();
    for _ in 0..random.usize(1..=2) {
        let at = random.usize(..bytes.len());
        let length = random.usize(1..=8).min(bytes.len() - at);
        match random.u8(..8) {
            0 => bytes[at] = random.u8(..),
            1 => bytes[at] ^= 1 << random.u32(..8),
            2 => bytes[at] = bytes[at].wrapping_add(1),
            3 => bytes[at..at + length].fill(*random.choice(&[0, 0xff]).expect("two")),
            4 => drop(bytes.drain(at..at + length)),
            5 => {
                let copy = bytes[at..at + length].to_vec();
                let to = random.usize(..=bytes.len());
                bytes.splice(to..to, copy);
            }
            6 => {
                // One header's field in the place of another's.
                let from = random.usize(..=bytes.len() - length);
                bytes.copy_within(from..from + length, at);
            }
            _ => bytes.truncate(at.max(8)),
        }
    }
    [magic, &bytes].concat()
}

#[test]
fn damaged_archives_become_what_another_tool_makes_of_them_or_are_refused() {
    let name = "damaged_archives_become_what_another_tool_makes_of_them_or_are_refused";
    if !have_programs(name, &TOOLS) {
        return;
    }
    let rounds = std::env::var("ROUNDS").map_or(40, |rounds| rounds.parse().expect("a number"));
    let (mut accepted, mut refused) = (0, 0);
    for (number, original) in (0_u64..).zip(originals()) {
        let compare = if number == DOS_ORIGINAL {
            compare_without_modes
        } else {
            compare
        };
        let whole = compare(&original);
        let taken = matches!(whole, Standing::Agreed | Standing::Sided);
        assert!(taken, "original {number}: {whole:?}");
        let mut random = fastrand::Rng::with_seed(number);
        for round in 0..rounds {
            let damaged = mutate(&original, &mut random);
            match compare(&damaged) {
                Standing::Agreed | Standing::Sided => accepted += 1,
                Standing::Refused { .. } => refused += 1,
                Standing::Alone(trees) => panic!(
                    "original {number}, round {round}: {}\n{trees}",
                    damaged.escape_ascii()
                ),
            }
        }
    }
    // Neither is the rule, or the test would show nothing.
    assert!(accepted >= 5 && refused >= 50, "{accepted} {refused}");
}
