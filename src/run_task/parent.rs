//! The directory that a checkout is made in: there, and the task user's.

use super::environment::absolute;
use crate::{
    error::{self, Error},
    fs::{self, Dir, Owner},
};
use std::{
    ffi::OsString,
    path::{Component, Path, PathBuf},
};

/// The most links in a path, as for the system.
const MOST_LINKS: usize = 40;

/// Where a checkout is to be, and what of that a worker keeps or provides.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The checkout itself: an absolute path.
    pub checkout: &'a Path,
    /// Caches and volumes.
    pub mounts: &'a [PathBuf],
    /// Where relative paths start.
    pub here: &'a Path,
}

/// Makes the directory that a checkout is made in, and gives it to `owner`, if that can be done now. Returns a warning, if
/// there is something to be warned of.
///
/// # Errors
/// What is wrong, as it is logged.
pub fn prepare_parent(place: Place<'_>, owner: Option<Owner>) -> Result<Option<String>, String> {
    let checkout = place.checkout;
    let shown = checkout.display();
    // A checkout is cleaned, and would lose the files by which a cache is known.
    if checkout.join(".cacherequires").exists() {
        return Err(format!(
            "error: cannot perform vcs checkout into cache root: {shown}"
        ));
    }
    let failed = |err: Error| format!("error: {}", error::chain(&err));
    let parent = checkout
        .parent()
        .ok_or_else(|| format!("error: no checkout can be made at {shown}"))?;
    let mounts = place.mounts();
    let parent = resolve(parent, &mounts)?;
    fs::create_missing(&parent).map_err(failed)?;
    if let Some(owner) = owner {
        let parent = Dir::open(&parent).map_err(failed)?;
        owner.give(&parent).map_err(failed)?;
    }
    let real = parent.join(checkout.file_name().unwrap_or_default());
    let warning = format!(
        "WARNING: vcs checkout path ({shown}) not in cache or volume; performance will likely suffer"
    );
    Ok(innermost(&mounts, &real).is_none().then_some(warning))
}

impl Place<'_> {
    /// Returns caches and volumes, as they are without links.
    fn mounts(&self) -> Vec<PathBuf> {
        let mounts = self.mounts.iter().map(|mount| absolute(self.here, mount));
        mounts
            .map(|mount| mount.canonicalize().unwrap_or(mount))
            .collect()
    }
}

/// Returns the innermost mount that a path without links is in.
fn innermost<'a>(mounts: &'a [PathBuf], path: &Path) -> Option<&'a Path> {
    let around = mounts.iter().filter(|mount| path.starts_with(mount));
    around
        .max_by_key(|mount| mount.components().count())
        .map(PathBuf::as_path)
}

/// Follows the links in a path, whose last components need not exist. One in a mount may not lead out of it: another
/// task may have left the link there, and root would give away what it leads to. Those in front of mounts are the
/// image's.
fn resolve(path: &Path, mounts: &[PathBuf]) -> Result<PathBuf, String> {
    let mut left = reversed(path);
    let mut real = PathBuf::from("/");
    let mut left_by_link = Vec::new();
    let mut links = 0;
    while let Some(name) = left.pop() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let Ok(target) = next.read_link() else {
            real = next;
            continue;
        };
        links += 1;
        if links > MOST_LINKS {
            return Err(format!("error: too many links in {}", path.display()));
        }
        left_by_link.extend(innermost(mounts, &real));
        left.extend(reversed(&target));
        if target.is_absolute() {
            real = PathBuf::from("/");
        }
    }
    match left_by_link.iter().find(|mount| !real.starts_with(mount)) {
        None => Ok(real),
        Some(mount) => Err(format!(
            "error: a link in {} leads {} out of it: find the task that made it, and purge the cache",
            mount.display(),
            path.display()
        )),
    }
}

/// Returns the components of a path, the first one last.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(_) | Component::ParentDir => Some(component.as_os_str().to_owned()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make links directly")]
mod tests {
    use super::resolve;
    use std::{fs::create_dir_all, os::unix::fs::symlink, path::Path};

    #[test]
    fn links_lead_into_mounts_but_not_out_of_them() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        for directory in ["cache/co/deep", "other", "image"] {
            create_dir_all(root.join(directory)).unwrap();
        }
        for (link, target) in [
            ("image/in", "../cache/co"),
            ("image/new", "../cache/none"),
            ("cache/co/inside", "../co/deep"),
            ("cache/co/whole", &*root.join("cache").to_string_lossy()),
            ("cache/co/out", "../../other"),
            ("cache/co/up", "../.."),
            ("cache/co/nowhere", "/nowhere"),
            ("cache/co/back", "../../image/in/deep"),
            ("image/chain", "in/out"),
            ("loop", "loop"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        let mounts = [root.join("cache"), root.join("other")];
        let resolved = |path: &str| {
            let real = resolve(&root.join(path), &mounts);
            real.map(|real| {
                real.strip_prefix(&root)
                    .unwrap_or(Path::new("?"))
                    .to_owned()
            })
        };
        for (path, real) in [
            ("image/in/vcs", "cache/co/vcs"),
            ("image/new/vcs", "cache/none/vcs"),
            ("image/in/inside/a/b", "cache/co/deep/a/b"),
            ("cache/co/whole/x", "cache/x"),
            ("cache/co/back", "cache/co/deep"),
            ("nothing/at/all", "nothing/at/all"),
        ] {
            assert_eq!(resolved(path).as_deref(), Ok(Path::new(real)), "{path}");
        }
        for path in [
            "cache/co/out",
            "cache/co/out/deeper",
            "cache/co/up/image",
            "cache/co/nowhere/x",
            "image/in/out/x",
            "image/chain",
            "loop/x",
        ] {
            assert!(resolved(path).is_err(), "{path}");
        }
    }
}
