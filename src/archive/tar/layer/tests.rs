#![expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]

use super::apply;
use crate::archive::{LayerPacking, Limits, apply_layer, format::Compression};
use std::{fs, io::Cursor, path::Path};
use tar::{Builder, EntryType, Header};

/// Returns a tar. A name that ends with a slash is a directory, `name -> target` a link; files hold `content`.
fn layer(names: &[&str], content: &str) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for name in names {
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        if let Some((name, target)) = name.split_once(" -> ") {
            header.set_entry_type(EntryType::Symlink);
            builder.append_link(&mut header, name, target).unwrap();
            continue;
        }
        let is_directory = name.ends_with('/');
        let is_mark = name.rsplit('/').next().unwrap().starts_with(".wh.");
        let content = if is_directory || is_mark { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_entry_type(if is_directory {
            EntryType::Directory
        } else {
            EntryType::Regular
        });
        // As it is: `..` is what some of these are about.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn listed(root: &Path, at: &Path, all: &mut Vec<String>) {
    let mut names: Vec<_> = fs::read_dir(at)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    for path in names {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            all.push(format!("{name}/"));
            listed(root, &path, all);
        } else if kind.is_symlink() {
            all.push(format!(
                "{name} -> {}",
                fs::read_link(&path).unwrap().display()
            ));
        } else {
            all.push(format!("{name} {}", fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Applies layers, whose files hold the number of their layer, and returns what is there then.
fn applied(layers: &[&[&str]]) -> Result<Vec<String>, String> {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    fs::create_dir(&root).unwrap();
    fs::write(temp.path().join("outside"), "").unwrap();
    for (number, names) in layers.iter().enumerate() {
        let tar = layer(names, &number.to_string());
        let done = apply(&tar[..], Compression::None, &root, &Limits::default());
        assert!(temp.path().join("outside").exists(), "{names:?}");
        done.map_err(|err| err.to_string())?;
    }
    let mut all = Vec::new();
    listed(&root, &root, &mut all);
    Ok(all)
}

#[test]
fn upper_layers_replace_and_remove_what_lower_ones_brought() {
    let lower: &[&str] = &["a", "d/", "d/a", "d/b", "d/e/", "d/e/f", "l -> d", "z"];
    for (upper, expected) in [
        (
            &["a", "n"][..],
            &[
                "a 1", "d/", "d/a 0", "d/b 0", "d/e/", "d/e/f 0", "l -> d", "n 1", "z 0",
            ][..],
        ),
        (
            &[".wh.a", ".wh.z", ".wh.nothing", "d/.wh.e"],
            &["d/", "d/a 0", "d/b 0", "l -> d"],
        ),
        (&[".wh.d", ".wh.l", ".wh.nowhere"], &["a 0", "z 0"]),
        (
            &["d/.wh..wh..opq", "d/b"],
            &["a 0", "d/", "d/b 1", "l -> d", "z 0"],
        ),
        (
            &["d/", "d/b", "d/.wh..wh..opq"],
            &["a 0", "d/", "d/b 1", "l -> d", "z 0"],
        ),
        // A mark says nothing of its own layer, wherever in that it is.
        (
            &["d/e/f", "d/e/g", "d/.wh.e", "a", ".wh.a"],
            &[
                "a 1", "d/", "d/a 0", "d/b 0", "d/e/", "d/e/f 1", "d/e/g 1", "l -> d", "z 0",
            ],
        ),
        (
            &["d/x/y/", ".wh.d"],
            &["a 0", "d/", "d/x/", "d/x/y/", "l -> d", "z 0"],
        ),
        // Other kinds of things take their places.
        (&["d"], &["a 0", "d 1", "l -> d", "z 0"]),
        (
            &["d -> a", "l/", "l/f"],
            &["a 0", "d -> a", "l/", "l/f 1", "z 0"],
        ),
        (
            &["a/", "a/b"],
            &[
                "a/", "a/b 1", "d/", "d/a 0", "d/b 0", "d/e/", "d/e/f 0", "l -> d", "z 0",
            ],
        ),
        (
            &["l/.wh.b", ".wh.l"],
            &["a 0", "d/", "d/a 0", "d/e/", "d/e/f 0", "z 0"],
        ),
        (
            &["nowhere/.wh.a", "nowhere/.wh..wh..opq", ".wh..wh..opq"],
            &[],
        ),
    ] {
        assert_eq!(applied(&[lower, upper]).unwrap(), expected, "{upper:?}");
    }
}

#[test]
fn marks_in_the_lowest_layer_remove_nothing_and_are_not_there() {
    assert_eq!(
        applied(&[&[".wh.a", "a", "d/.wh..wh..opq", "d/b"]]).unwrap(),
        ["a 0", "d/", "d/b 0"]
    );
}

#[test]
fn nothing_outside_is_removed() {
    for (lower, upper, problem) in [
        (&[][..], &["../.wh.outside"][..], "`..` component"),
        (&["a"], &[".wh..."], "it marks nothing that can be removed"),
        (&["a"], &[".wh.."], "it marks nothing that can be removed"),
        (&["a"], &[".wh."], "it marks nothing that can be removed"),
        (
            &["a"],
            &[".wh.a/b"],
            "it is inside of what marks something as removed",
        ),
        (&["a"], &[".wh..wh.plnk"], "it is a mark that is not known"),
        (
            &["a"],
            &[".wh.a -> b"],
            "what marks something as removed is no empty file",
        ),
        (
            &["a"],
            &[".wh.a/"],
            "what marks something as removed is no empty file",
        ),
        (
            &["l -> .."],
            &["l/.wh.outside"],
            "is a symbolic link that leads out of the tree",
        ),
        (
            &["l -> .."],
            &["l/.wh..wh..opq"],
            "is a symbolic link that leads out of the tree",
        ),
        (
            &["l -> /"],
            &["l/.wh.outside"],
            "is a symbolic link that leads out of the tree",
        ),
        (
            &["l -> ../outside"],
            &["l/x"],
            "is a symbolic link that leads out of the tree",
        ),
    ] {
        let err = applied(&[lower, upper]).unwrap_err();
        assert!(err.contains(problem), "{upper:?}: {err}");
    }
    // The link goes, and not what it leads to.
    assert_eq!(
        applied(&[&["l -> ../outside"], &[".wh.l"]]).unwrap(),
        [""; 0]
    );
}

#[test]
fn all_layers_of_a_result_have_one_budget() {
    let tar = |number: usize| layer(&[&format!("a{number}"), &format!("b{number}")], "content");
    let size = tar(0).len() as u64;
    for (bytes, entries, fit) in [
        (3 * size, 6, 3),
        (3 * size, 5, 2),
        (3 * size, 4, 2),
        (3 * size - 1, 6, 2),
        (2 * size, 6, 2),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let mut limits = Limits {
            expanded_size: bytes,
            expansion: 0,
            entries,
            ..Limits::default()
        };
        let mut apply = |number| {
            let layer = Cursor::new(tar(number));
            apply_layer(layer, LayerPacking::None, temp.path(), &mut limits)
        };
        let fitting = (0..3).take_while(|number| apply(*number).is_ok());
        assert_eq!(fitting.count(), fit, "{bytes} bytes, {entries} entries");
    }
}

#[test]
fn what_is_reached_through_a_link_of_a_lower_layer_keeps_its_order() {
    let lower = layer(&["lib/", "lib64 -> lib"], "");
    let large = "new".repeat(100_000);
    let mut upper = layer(&["lib64/f"], "old");
    // Without the mark of its end.
    upper.truncate(upper.len() - 1024);
    upper.extend(layer(&["lib/f"], &large));
    let temp = tempfile::tempdir().unwrap();
    for tar in [lower, upper] {
        apply(&tar[..], Compression::None, temp.path(), &Limits::default()).unwrap();
    }
    let content = fs::read_to_string(temp.path().join("lib/f")).unwrap();
    assert!(content == large, "{} bytes", content.len());
}
