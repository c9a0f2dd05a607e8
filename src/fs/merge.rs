//! Publishing: what was staged and verified is moved to where it belongs, by rename, without following a link.

use crate::{error::Result, fs::Dir, rel_path::RelPath};
use rustix::fs::{FileType, Mode};
use std::{ffi::OsStr, path::Path};

/// Hears of every name that is moved, by its path below the destination, and of where it is if something is replaced
/// there; returns whether that came from this run.
pub(crate) type OnMove<'a> = &'a mut dyn FnMut(&RelPath, Option<&Path>) -> bool;

/// Moves everything in `from` into `into`, a directory at `at` below the destination.
///
/// Directories on both sides are merged and take the mode of the source, as the Python tool does. Anything else on
/// both sides is replaced, but for a filled directory that was there before this run.
pub(crate) fn merge(from: &Dir, into: &Dir, at: &RelPath, on_move: OnMove<'_>) -> Result<()> {
    let mut names = from.names()?;
    names.sort();
    for name in names {
        let path = at.join(&name);
        let Some((kind, mode)) = from.look(&name)? else {
            continue;
        };
        let there = into.look(&name)?;
        if let (FileType::Directory, Some((FileType::Directory, old))) = (kind, there) {
            // Both have to be writable until everything is moved.
            from.set_mode(&name, mode | Mode::RWXU)?;
            into.set_mode(&name, old | Mode::RWXU)?;
            let (source, target) = (from.open_child(&name)?, into.open_child(&name)?);
            merge(&source, &target, &path, on_move)?;
            into.set_mode(&name, mode)?;
            continue;
        }
        let ours = on_move(&path, there.map(|_| into.path().join(&name)).as_deref());
        match there {
            Some((FileType::Directory, _)) if !ours => into.remove_empty_child(&name)?,
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
pub(crate) fn descend(root: &Dir, path: &RelPath, on_move: OnMove<'_>) -> Result<Dir> {
    let mut here = root.reopen()?;
    let mut at = RelPath::default();
    for name in path.components() {
        at = at.join(name);
        match here.look(name)? {
            Some((FileType::Directory, _)) => {}
            Some(_) => {
                let _ = on_move(&at, Some(&here.path().join(name)));
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
    use crate::{error::Error, fs::Dir, rel_path::RelPath};
    use std::{fs, os::unix::fs::symlink, path::Path};

    fn run(from: &Path, into: &Path, ours: bool) -> Result<Vec<String>, Error> {
        let mut replaced = Vec::new();
        let (from, into) = (Dir::open(from).unwrap(), Dir::open(into).unwrap());
        merge(&from, &into, &RelPath::default(), &mut |path, old| {
            replaced.extend(old.map(|_| path.to_string()));
            ours
        })?;
        Ok(replaced)
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

        assert_eq!(
            run(&from, &into, true).unwrap(),
            ["dir/both", "was-dir", "was-file"]
        );
        assert_eq!(fs::read_to_string(into.join("dir/both")).unwrap(), "new");
        assert!(
            into.join("dir/old").is_dir()
                && into.join("dir/new").is_dir()
                && into.join("was-file").is_dir()
        );
        assert!(into.join("was-dir").is_file());
    }

    #[test]
    fn a_filled_directory_of_somebody_else_makes_no_room_for_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let (from, into) = (temp.path().join("from"), temp.path().join("into"));
        fs::create_dir_all(&from).unwrap();
        fs::create_dir_all(into.join("src/precious")).unwrap();
        fs::write(from.join("src"), "file").unwrap();
        assert!(matches!(run(&from, &into, false), Err(Error::Fs { .. })));
        assert!(into.join("src/precious").is_dir());
        fs::remove_dir(into.join("src/precious")).unwrap();
        assert_eq!(run(&from, &into, false).unwrap(), ["src"]);
    }

    #[test]
    fn read_only_directories_are_merged_and_stay_so() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let (from, into) = (temp.path().join("from"), temp.path().join("into"));
        for (root, name) in [(&from, "new"), (&into, "old")] {
            fs::create_dir_all(root.join("ro")).unwrap();
            fs::write(root.join("ro").join(name), "").unwrap();
            fs::set_permissions(root.join("ro"), fs::Permissions::from_mode(0o555)).unwrap();
        }
        run(&from, &into, false).unwrap();
        assert_eq!(fs::read_dir(into.join("ro")).unwrap().count(), 2);
        let mode = fs::metadata(into.join("ro")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o555);
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
        assert_eq!(run(&from, &into, false).unwrap(), ["dir"]);
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        assert!(into.join("dir/f").is_file() && !into.join("dir").is_symlink());
    }
}
