//! Archives made to do harm: nothing outside of the destination changes, and nothing is left of them inside.
//!
//! Each test has canaries beside the destination: a file and a directory that the archives try to reach.

use std::fs;
use std::os::unix::fs::symlink as make_symlink;

use serde_json::{Value, json};

use crate::support::archives::{
    Member, block_device, char_device, dir, fifo, file, gz, hard_link, noise, symlink, tar_of,
    zip_of,
};
use crate::support::sandbox::{Outcome, Sandbox, TASK_A, artifact};
use crate::support::server::{Reply, Server};
use crate::support::tree::{Kind, Tree};

/// A sandbox with canaries, and a server.
pub(crate) struct Trap {
    pub(crate) sandbox: Sandbox,
    server: Server,
    before: Tree,
}

impl Trap {
    pub(crate) fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.write("canary", "alive");
        sandbox.write("outside/canary", "alive");
        let before = sandbox.tree();
        Self {
            sandbox,
            server: Server::start(),
            before,
        }
    }

    /// An absolute path in the sandbox as a name for members.
    fn absolute(&self, relative: &str) -> String {
        self.sandbox.path(relative).display().to_string()
    }

    /// Fetches artifacts of these contents in this order, and checks the canaries.
    pub(crate) fn fetch(&self, artifacts: &[(&str, Vec<u8>, Value)]) -> Outcome {
        let entries: Vec<_> = artifacts
            .iter()
            .map(|(name, content, dest)| {
                let name = format!("public/{name}");
                self.server
                    .serve(&artifact(TASK_A, &name), Reply::ok(content));
                let mut entry = json!({"task": TASK_A, "artifact": name, "extract": true});
                if !dest.is_null() {
                    entry["dest"] = dest.clone();
                }
                entry
            })
            .collect();
        let outcome = self
            .sandbox
            .task_artifacts(&self.server, &json!(entries))
            .run();
        self.expect_unharmed(&outcome);
        outcome
    }

    /// Panics if anything outside of `fetches` is not as it was.
    fn expect_unharmed(&self, outcome: &Outcome) {
        for path in ["canary", "outside/canary", "outside"] {
            let (then, now) = (self.before.at(path), self.sandbox.tree());
            assert_eq!(then, now.at(path), "{outcome:?}");
        }
        let tree = self.sandbox.tree();
        let strays: Vec<_> = tree
            .paths()
            .into_iter()
            .filter(|path| !path.starts_with("fetches") && !self.before.paths().contains(path))
            .collect();
        assert!(strays.is_empty(), "strays {strays:?}: {outcome:?}");
    }

    /// A single archive is refused as hostile and leaves nothing.
    fn expect_refused(&self, what: &str, name: &str, archive: Vec<u8>) {
        let outcome = self.fetch(&[(name, archive, Value::Null)]);
        assert_eq!(outcome.status.code(), Some(5), "{what}: {outcome:?}");
        assert_eq!(outcome.lines("error:").len(), 1, "{what}: {outcome:?}");
        assert!(outcome.error().contains(name), "{what}: {outcome:?}");
        let left = self.sandbox.fetched();
        assert!(left.is_empty(), "{what} left:\n{left}");
    }
}

/// The archive of these members as tar, tar.gz and, where zip has such members, zip.
fn archives(members: &[Member], zip: bool) -> Vec<(&'static str, Vec<u8>)> {
    let tar = tar_of(members);
    let mut archives = vec![("a.tar.gz", gz(&tar)), ("a.tar", tar)];
    if zip {
        archives.push(("a.zip", zip_of(members)));
    }
    archives
}

#[test]
fn members_that_climb_out_are_refused() {
    for name in [
        "../canary",
        "../new",
        "a/../../new",
        "./../new",
        "..",
        "a/..",
        "../",
        "../../../../../../../../../../tmp/fetch-content-escaped",
        "outside/../../outside/canary",
    ] {
        let members = [file("first", "1"), file(name, "dead")];
        for (archive_name, archive) in archives(&members, true) {
            let trap = Trap::new();
            trap.expect_refused(
                &format!("{archive_name} with {name}"),
                archive_name,
                archive,
            );
        }
    }
}

#[test]
fn directories_that_climb_out_are_refused() {
    for name in ["../newdir/", "../outside/", "a/../../outside/"] {
        let members = [dir(name).mode(0o777), file("after", "a")];
        for (archive_name, archive) in archives(&members, true) {
            let trap = Trap::new();
            trap.expect_refused(
                &format!("{archive_name} with {name}"),
                archive_name,
                archive,
            );
        }
    }
}

#[test]
fn absolute_names_lose_their_slashes() {
    let trap = Trap::new();
    let canary = trap.absolute("canary");
    if canary.len() > 98 {
        return; // does not fit in a plain header
    }
    for name in [canary.clone(), format!("//{canary}")] {
        for (archive_name, archive) in archives(&[file(&name, "inside")], true) {
            let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
            assert!(outcome.status.success(), "{archive_name} {outcome:?}");
            let inside = format!("fetches/{}", canary.trim_start_matches('/'));
            assert_eq!(trap.sandbox.read(&inside), b"inside");
            fs::remove_dir_all(trap.sandbox.fetches()).expect("clean up");
        }
    }
}

#[test]
fn nothing_is_written_through_a_symlink() {
    let trap = Trap::new();
    let outside = trap.absolute("outside");
    for target in ["../outside", "../../outside", "../../../outside", &*outside] {
        for members in [
            vec![symlink("d", target), file("d/new", "dead")],
            vec![symlink("d", target), file("d/canary", "dead")],
            vec![symlink("d", target), dir("d/"), file("d/new", "dead")],
            vec![symlink("d", target), dir("d/newdir/")],
            vec![symlink("d", target), symlink("d/new", "x")],
            vec![
                dir("s/"),
                symlink("s/d", target),
                file("s/d/canary", "dead"),
            ],
        ] {
            for (archive_name, archive) in archives(&members, true) {
                let trap = Trap::new();
                let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
                // Refusing is right; so is a directory in place of the link, as GNU tar makes one.
                let code = outcome.status.code();
                assert!(matches!(code, Some(0 | 5)), "{members:?} {outcome:?}");
                if code == Some(5) {
                    assert!(trap.sandbox.fetched().is_empty(), "{outcome:?}");
                }
            }
        }
    }
}

#[test]
fn nothing_is_written_through_two_symlinks() {
    // While it is extracted, the archive is deeper than it will be.
    for up in (1..=4).map(|levels| vec![".."; levels].join("/")) {
        for members in through_two_symlinks(&up) {
            for (archive_name, archive) in archives(&members, true) {
                let trap = Trap::new();
                trap.expect_refused(&format!("{members:?}"), archive_name, archive);
            }
        }
    }
}

fn through_two_symlinks(up: &str) -> [Vec<Member>; 5] {
    [
        vec![
            symlink("a", "."),
            symlink("b", format!("a/{up}")),
            file("b/new", "dead"),
        ],
        vec![
            symlink("a", up),
            symlink("b", "a/outside"),
            file("b/canary", "dead"),
        ],
        vec![
            dir("d/"),
            symlink("d/up", ".."),
            symlink("e", format!("d/up/{up}")),
            file("e/outside/canary", "dead"),
        ],
        vec![symlink("a", up), file("a/../canary", "dead")],
        vec![
            symlink("a", "b"),
            symlink("b", format!("{up}/outside")),
            file("a/canary", "dead"),
        ],
    ]
}

#[test]
fn a_file_over_a_symlink_replaces_the_link() {
    for target in ["../canary", "../outside/canary", "../new"] {
        let members = [symlink("f", target), file("f", "inside")];
        for (archive_name, archive) in archives(&members, false) {
            let trap = Trap::new();
            let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
            if outcome.status.success() {
                let tree = trap.sandbox.fetched();
                assert!(
                    matches!(tree.at("f").kind, Kind::File { size: 6, .. }),
                    "{tree}"
                );
            } else {
                assert_eq!(outcome.status.code(), Some(5), "{outcome:?}");
            }
        }
    }
}

#[test]
fn symlinks_that_point_outside_are_kept_but_not_followed() {
    let trap = Trap::new();
    let canary = trap.absolute("canary");
    let members = [
        symlink("relative", "../canary"),
        symlink("absolute", &canary),
        symlink("dir", "../outside"),
        symlink("far", "../../../../../../../etc/passwd"),
    ];
    for (archive_name, archive) in archives(&members, true) {
        let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
        assert!(outcome.status.success(), "{archive_name}: {outcome:?}");
        let tree = trap.sandbox.fetched();
        let target = canary.clone();
        assert_eq!(tree.at("absolute").kind, Kind::Symlink { target });
        assert_eq!(tree.paths(), ["absolute", "dir", "far", "relative"]);
    }
}

#[test]
fn hard_links_to_the_outside_are_refused() {
    let trap = Trap::new();
    let canary = trap.absolute("canary");
    let targets = [
        "../canary",
        "../outside/canary",
        "a/../../canary",
        "..",
        &*canary,
    ];
    for target in targets {
        for members in [
            vec![hard_link("link", target)],
            vec![hard_link("link", target), file("link", "dead")],
            vec![dir("a/"), hard_link("a/link", target)],
        ] {
            let archive = tar_of(&members);
            let trap = Trap::new();
            trap.expect_refused(&format!("{members:?}"), "a.tar", archive);
        }
    }
}

#[test]
fn hard_links_do_not_follow_symlinks() {
    for members in [
        vec![
            symlink("s", "../canary"),
            hard_link("h", "s"),
            file("h", "dead"),
        ],
        vec![
            symlink("s", "../outside"),
            hard_link("h", "s/canary"),
            file("h", "dead"),
        ],
        vec![
            symlink("s", "../outside"),
            hard_link("h", "s"),
            file("h/canary", "dead"),
        ],
        vec![symlink("s", "../canary"), hard_link("h", "s").mode(0o777)],
    ] {
        let trap = Trap::new();
        let outcome = trap.fetch(&[("a.tar", tar_of(&members), Value::Null)]);
        let code = outcome.status.code();
        assert!(matches!(code, Some(0 | 5)), "{members:?} {outcome:?}");
        let tree = trap.sandbox.tree();
        let canary = tree.at("canary");
        assert_eq!(canary.same_as, None, "{members:?} {outcome:?}");
        for path in tree.paths() {
            let same_as = tree.at(path).same_as.as_deref();
            assert!(
                !matches!(same_as, Some("canary" | "outside/canary")),
                "{members:?} {outcome:?}"
            );
        }
    }
}

#[test]
fn a_hard_link_to_nothing_is_refused() {
    let members = [file("a", "a"), hard_link("link", "no/such/member")];
    Trap::new().expect_refused("dangling hard link", "a.tar", tar_of(&members));
}

#[test]
fn devices_and_fifos_are_refused() {
    for member in [char_device("null"), block_device("disk"), fifo("pipe")] {
        let members = [file("first", "1"), member];
        for (archive_name, archive) in archives(&members, true) {
            let trap = Trap::new();
            trap.expect_refused(&format!("{members:?}"), archive_name, archive);
        }
    }
}

#[test]
fn set_id_bits_are_dropped() {
    let members = [
        file("suid", "#!").mode(0o4755),
        file("sgid", "#!").mode(0o2711),
        file("both", "#!").mode(0o6777),
        dir("d/").mode(0o2775),
        file("d/in", "x").mode(0o644),
    ];
    for (archive_name, archive) in archives(&members, true) {
        let trap = Trap::new();
        let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
        assert!(outcome.status.success(), "{archive_name}: {outcome:?}");
        let tree = trap.sandbox.fetched();
        for path in tree.paths() {
            let mode = tree.at(path).mode.expect("no symlinks here");
            assert_eq!(mode & 0o6000, 0, "{archive_name}: {path} {mode:o}");
        }
        assert_eq!(tree.at("suid").mode, Some(0o755), "{archive_name}");
        assert_eq!(tree.at("sgid").mode, Some(0o711), "{archive_name}");
    }
}

#[test]
fn foreign_owners_are_not_restored() {
    use std::os::unix::fs::MetadataExt;
    let mut archive = tar_of(&[file("a", "a")]);
    archive[108..116].copy_from_slice(b"0002322\0"); // uid 1234
    archive[116..124].copy_from_slice(b"0002322\0"); // gid 1234
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|byte| u32::from(*byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let trap = Trap::new();
    let outcome = trap.fetch(&[("a.tar", archive, Value::Null)]);
    assert!(outcome.status.success(), "{outcome:?}");
    let ours = fs::metadata(trap.sandbox.path("canary")).expect("the canary");
    let theirs = fs::metadata(trap.sandbox.path("fetches/a")).expect("the member");
    assert_eq!((theirs.uid(), theirs.gid()), (ours.uid(), ours.gid()));
}

#[test]
fn the_root_is_not_replaced() {
    for name in [".", "./", "", "./.", "/"] {
        for member in [
            file(name, "dead"),
            symlink(name, "../outside"),
            hard_link(name, "first"),
        ] {
            let members = [file("first", "1"), member, file("canary", "inside")];
            let trap = Trap::new();
            let what = format!("{members:?}");
            let outcome = trap.fetch(&[("a.tar", tar_of(&members), Value::Null)]);
            // A tar file named `x/` is a directory by old custom; for `./` that is harmless.
            let code = outcome.status.code();
            assert!(matches!(code, Some(0 | 5)), "{what}: {outcome:?}");
            let root = fs::symlink_metadata(trap.sandbox.fetches());
            if let Ok(root) = root {
                assert!(root.is_dir(), "{what}: {outcome:?}");
            }
        }
    }
}

#[test]
fn a_directory_for_the_root_is_harmless() {
    let members = [dir("./").mode(0o000), dir("."), file("./a", "a")];
    let trap = Trap::new();
    let outcome = trap.fetch(&[("a.tar", tar_of(&members), Value::Null)]);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(trap.sandbox.fetched().paths(), ["a"]);
    let mode = trap.sandbox.tree().at("fetches").mode;
    assert_eq!(mode.map(|mode| mode & 0o700), Some(0o700), "{outcome:?}");
}

#[test]
fn a_later_archive_is_not_merged_through_an_earlier_ones_symlink() {
    let trap = Trap::new();
    let absolute = trap.absolute("outside");
    for target in ["../outside", &*absolute] {
        for later in [
            vec![dir("d/"), file("d/new", "dead")],
            vec![dir("d/"), file("d/canary", "dead")],
            vec![dir("d/").mode(0o777)],
        ] {
            let trap = Trap::new();
            let outcome = trap.fetch(&[
                ("one.tar", tar_of(&[symlink("d", target)]), Value::Null),
                ("two.tar", tar_of(&later), Value::Null),
            ]);
            assert!(outcome.status.success(), "replaced: {outcome:?}");
            assert_eq!(trap.sandbox.fetched().at("d").kind, Kind::Dir);
        }
    }
}

#[test]
fn a_dest_does_not_lead_through_a_symlink_of_an_earlier_archive() {
    let trap = Trap::new();
    let outcome = trap.fetch(&[
        (
            "one.tar",
            tar_of(&[symlink("d", "../outside")]),
            Value::Null,
        ),
        ("two.tar", tar_of(&[file("canary", "dead")]), json!("d")),
        ("three.tar", tar_of(&[file("new", "dead")]), json!("d/e")),
    ]);
    assert!(outcome.status.code().is_some(), "{outcome:?}");
}

#[test]
fn a_dest_does_not_lead_through_a_symlink_that_was_there() {
    let trap = Trap::new();
    fs::create_dir(trap.sandbox.fetches()).expect("the destination");
    make_symlink("../outside", trap.sandbox.path("fetches/d")).expect("a symlink");
    for dest in ["d", "d/e"] {
        trap.fetch(&[
            ("one.tar", tar_of(&[file("canary", "dead")]), json!(dest)),
            ("two.tar", tar_of(&[file("new", "dead")]), json!(dest)),
        ]);
    }
}

#[test]
fn an_archive_does_not_reach_what_was_published_before_through_links() {
    let trap = Trap::new();
    fs::create_dir(trap.sandbox.fetches()).expect("the destination");
    make_symlink("../canary", trap.sandbox.path("fetches/f")).expect("a symlink");
    make_symlink("../outside", trap.sandbox.path("fetches/d")).expect("a symlink");
    let members = [file("f", "new"), file("d/canary", "new")];
    let outcome = trap.fetch(&[("a.tar", tar_of(&members), Value::Null)]);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(trap.sandbox.read("fetches/f"), b"new");
    assert_eq!(trap.sandbox.fetched().at("d").kind, Kind::Dir);
}

#[test]
fn an_archive_cannot_play_staging() {
    // A name like a staging directory's is a name like any other; it must not confuse the clean-up.
    let members = [
        dir(".fetch-content.AAAAAA/"),
        file(".fetch-content.AAAAAA/a", "a"),
        symlink(".fetch-content.BBBBBB", "../outside"),
    ];
    let trap = Trap::new();
    trap.fetch(&[("a.tar", tar_of(&members), Value::Null)]);
    let outcome = trap.fetch(&[("b.tar", tar_of(&[file("b", "b")]), Value::Null)]);
    assert!(outcome.status.success(), "{outcome:?}");
}

#[test]
fn stale_staging_that_is_a_symlink_is_not_followed() {
    let trap = Trap::new();
    fs::create_dir(trap.sandbox.fetches()).expect("the destination");
    let fake = trap.sandbox.path("fetches/.fetch-content.abcdef");
    make_symlink("../outside", fake).expect("a symlink");
    let outcome = trap.fetch(&[("a.tar", tar_of(&[file("a", "a")]), Value::Null)]);
    assert!(outcome.status.success(), "{outcome:?}");
}

#[test]
fn backslashes_are_no_separators() {
    let members = [
        file("..\\canary", "x"),
        file("C:\\canary", "x"),
        file("a\\b", "x"),
    ];
    for (archive_name, archive) in archives(&members, true) {
        let trap = Trap::new();
        let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
        assert!(matches!(outcome.status.code(), Some(0 | 5)), "{outcome:?}");
    }
}

#[test]
fn a_member_below_a_file_is_refused_or_replaces_it() {
    let members = [file("a", "file"), file("a/b", "below")];
    for (archive_name, archive) in archives(&members, true) {
        let trap = Trap::new();
        let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
        assert!(matches!(outcome.status.code(), Some(0 | 5)), "{outcome:?}");
    }
}

#[test]
fn control_characters_in_names_do_not_reach_the_terminal() {
    let name = b"../\x1b[31mred\x07\nerror: forged";
    for (archive_name, archive) in archives(&[file(name, "x")], true) {
        let trap = Trap::new();
        let outcome = trap.fetch(&[(archive_name, archive, Value::Null)]);
        let outcome = outcome.expect_code(5);
        assert_eq!(outcome.lines("error:").len(), 1, "{outcome:?}");
        outcome.expect_not_in_stderr(&["\u{1b}", "\u{7}"]);
    }
}

#[test]
fn a_repack_of_a_hostile_archive_writes_nothing_but_dest() {
    let members = [
        symlink("d", "../outside"),
        file("d/canary", "dead"),
        file("../new", "dead"),
        hard_link("h", "../canary"),
    ];
    let trap = Trap::new();
    let archive = gz(&tar_of(&members));
    trap.server.serve("/a.tar.gz", Reply::ok(&archive));
    let url = trap.server.url("/a.tar.gz");
    for options in [&[][..], &["--add-prefix", "p/"]] {
        let outcome = trap
            .sandbox
            .static_url(&archive, &url, "fetches/a.tar.zst")
            .args(options)
            .run();
        trap.expect_unharmed(&outcome);
    }
}

#[test]
fn a_refusal_early_in_a_large_archive_is_the_error() {
    // The transfer is still going on when the archive is refused.
    let members = [file("../new", "dead"), file("large", noise(6_000_000, 1))];
    for (archive_name, archive) in archives(&members, true) {
        Trap::new().expect_refused(archive_name, archive_name, archive);
    }
}
