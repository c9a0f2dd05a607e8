//! Publishing: what was staged and verified is moved to where it belongs, by rename, without following a link.

use crate::{error::Result, fs::Dir, rel_path::RelPath};
use rustix::fs::{FileType, Mode};
use std::{ffi::OsStr, path::Path};

/// Moves everything in `from` into `into`, a directory at `at` below the destination.
///
/// Directories on both sides are merged and take the mode of the source, as the Python tool does. Anything else on
/// both sides is replaced. `on_move` hears of every name that is moved, by its path below the destination, and of
/// where it is if something is replaced there.
pub(crate) fn merge(
    from: &Dir,
    into: &Dir,
    at: &RelPath,
    on_move: &mut dyn FnMut(&RelPath, Option<&Path>),
) -> Result<()> {
    let mut names = from.names()?;
    names.sort();
    for name in names {
        let path = at.join(&name);
        let Some((kind, mode)) = from.look(&name)? else {
            continue;
        };
        let there = into.look(&name)?;
        if kind == FileType::Directory && matches!(there, Some((FileType::Directory, _))) {
            from.set_mode(&name, mode | Mode::RWXU)?;
            let (source, target) = (from.open_child(&name)?, into.open_child(&name)?);
            merge(&source, &target, &path, on_move)?;
            into.set_mode(&name, mode)?;
            continue;
        }
        on_move(&path, there.map(|_| into.path().join(&name)).as_deref());
        match there {
            Some((FileType::Directory, _)) => into.remove_child(&name)?,
            Some(_) if kind == FileType::Directory => into.remove_child(&name)?,
            _ => {}
        }
        move_child(from, &name, (kind, mode), into)?;
    }
    Ok(())
}

/// Opens the directory at `path` below `root`, creating what is missing. What is in the way and no directory, a link
/// included, is replaced as in a [`merge`].
pub(crate) fn descend(
    root: &Dir,
    path: &RelPath,
    on_move: &mut dyn FnMut(&RelPath, Option<&Path>),
) -> Result<Dir> {
    let mut here = root.reopen()?;
    let mut at = RelPath::default();
    for name in path.components() {
        at = at.join(name);
        match here.look(name)? {
            Some((FileType::Directory, _)) => {}
            Some(_) => {
                on_move(&at, Some(&here.path().join(name)));
                here.remove_child(name)?;
                here.create_child(name)?;
            }
            None => here.create_child(name)?,
        }
        here = here.open_child(name)?;
    }
    Ok(here)
}

/// Renames one entry. A directory must be writable to change its parent, unless root moves it.
fn move_child(from: &Dir, name: &OsStr, (kind, mode): (FileType, Mode), into: &Dir) -> Result<()> {
    let locked = kind == FileType::Directory && !mode.contains(Mode::WUSR);
    if locked {
        from.set_mode(name, mode | Mode::WUSR)?;
    }
    from.rename_child(name, into, name)?;
    if locked {
        into.set_mode(name, mode)?;
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at the disk directly")]
mod tests {
    use super::merge;
    use crate::{fs::Dir, rel_path::RelPath};
    use std::{fs, os::unix::fs::symlink, path::Path};

    fn run(from: &Path, into: &Path) -> Vec<String> {
        let mut replaced = Vec::new();
        let (from, into) = (Dir::open(from).unwrap(), Dir::open(into).unwrap());
        merge(&from, &into, &RelPath::default(), &mut |path, old| {
            replaced.extend(old.map(|_| path.to_string()));
        })
        .unwrap();
        replaced
    }

    #[test]
    fn directories_merge_and_everything_else_is_replaced() {
        let temp = tempfile::tempdir().unwrap();
        let (from, into) = (temp.path().join("from"), temp.path().join("into"));
        fs::create_dir_all(from.join("dir/new")).unwrap();
        fs::create_dir_all(from.join("was-file")).unwrap();
        fs::write(from.join("dir/both"), "new").unwrap();
        fs::write(from.join("was-dir"), "file").unwrap();
        fs::create_dir_all(into.join("dir/old")).unwrap();
        fs::create_dir_all(into.join("was-dir/x")).unwrap();
        fs::write(into.join("dir/both"), "old").unwrap();
        fs::write(into.join("was-file"), "old").unwrap();

        assert_eq!(run(&from, &into), ["dir/both", "was-dir", "was-file"]);
        assert_eq!(fs::read_to_string(into.join("dir/both")).unwrap(), "new");
        assert!(
            into.join("dir/old").is_dir()
                && into.join("dir/new").is_dir()
                && into.join("was-file").is_dir()
        );
        assert!(into.join("was-dir").is_file());
    }

    #[test]
    fn a_link_in_the_destination_is_replaced_and_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let (from, into, outside) = (
            temp.path().join("from"),
            temp.path().join("into"),
            temp.path().join("outside"),
        );
        for dir in [&from.join("dir"), &into, &outside] {
            fs::create_dir_all(dir).unwrap();
        }
        fs::write(from.join("dir/f"), "new").unwrap();
        symlink(&outside, into.join("dir")).unwrap();
        assert_eq!(run(&from, &into), ["dir"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(into.join("dir/f").is_file() && !into.join("dir").is_symlink());
    }
}
