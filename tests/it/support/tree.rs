//! Listing of a directory: what is there, in which mode, with which content and time. Two listings compare,
//! and their difference reads like a diff. Hidden entries are listed as well, so a left-over staging
//! directory cannot hide.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::archives::sha256_hex;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Dir,
    File { size: u64, sha256: String },
    Symlink { target: String },
    Other(&'static str),
}

/// One entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    /// Permission bits with set-id and sticky; `None` for symlinks, whose mode means nothing.
    pub(crate) mode: Option<u32>,
    /// Seconds and nanoseconds; `None` once left out of the comparison.
    pub(crate) mtime: Option<(i64, i64)>,
    /// The first path of the listing that is the same file.
    pub(crate) same_as: Option<String>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Dir => write!(f, "dir")?,
            Kind::File { size, sha256 } => write!(f, "file {size} {}", &sha256[..12])?,
            Kind::Symlink { target } => write!(f, "symlink -> {target}")?,
            Kind::Other(what) => write!(f, "{what}")?,
        }
        if let Some(mode) = self.mode {
            write!(f, " {mode:04o}")?;
        }
        if let Some((seconds, nanos)) = self.mtime {
            write!(f, " @{seconds}.{nanos:09}")?;
        }
        if let Some(first) = &self.same_as {
            write!(f, " = {first}")?;
        }
        Ok(())
    }
}

/// The entries below a directory by relative path; the directory itself is not among them.
/// Bytes that are not printable ASCII or UTF-8 are escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree {
    entries: BTreeMap<String, Entry>,
}

impl Tree {
    /// Lists a directory; one that does not exist is an empty tree.
    pub(crate) fn of(root: impl AsRef<Path>) -> Self {
        let mut tree = Self::default();
        if root.as_ref().is_dir() {
            tree.walk(root.as_ref(), "", &mut HashMap::new());
        }
        tree
    }

    /// The entry at a path; panics with the listing if there is none.
    pub(crate) fn at(&self, path: &str) -> &Entry {
        let entry = self.entries.get(path);
        entry.unwrap_or_else(|| panic!("no `{path}` in\n{self}"))
    }

    /// All paths, sorted.
    pub(crate) fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The listing without any times.
    pub(crate) fn without_mtimes(mut self) -> Self {
        for entry in self.entries.values_mut() {
            entry.mtime = None;
        }
        self
    }

    /// The listing without any modes.
    pub(crate) fn without_modes(mut self) -> Self {
        for entry in self.entries.values_mut() {
            entry.mode = None;
        }
        self
    }

    /// The listing without the times of symlinks.
    pub(crate) fn without_symlink_mtimes(mut self) -> Self {
        for entry in self.entries.values_mut() {
            if matches!(entry.kind, Kind::Symlink { .. }) {
                entry.mtime = None;
            }
        }
        self
    }

    /// The listing without the times of directories.
    pub(crate) fn without_directory_mtimes(mut self) -> Self {
        for entry in self.entries.values_mut() {
            if entry.kind == Kind::Dir {
                entry.mtime = None;
            }
        }
        self
    }

    /// Forgets set-id and sticky bits.
    pub(crate) fn drop_set_id_bits(&mut self) {
        for entry in self.entries.values_mut() {
            entry.mode = entry.mode.map(|mode| mode & 0o777);
        }
    }

    /// The listing with times in whole seconds.
    pub(crate) fn without_nanoseconds(mut self) -> Self {
        for entry in self.entries.values_mut() {
            entry.mtime = entry.mtime.map(|(seconds, _)| (seconds, 0));
        }
        self
    }

    /// The listing without the times of these paths.
    pub(crate) fn without_mtimes_of(mut self, paths: &[String]) -> Self {
        for path in paths {
            if let Some(entry) = self.entries.get_mut(path) {
                entry.mtime = None;
            }
        }
        self
    }

    /// The lines that differ: `-` only here, `+` only there. Empty if equal.
    pub(crate) fn diff(&self, other: &Self) -> String {
        let mut text = String::new();
        let mut paths: Vec<_> = self.entries.keys().chain(other.entries.keys()).collect();
        paths.sort();
        paths.dedup();
        for path in paths {
            let (left, right) = (self.entries.get(path), other.entries.get(path));
            if left == right {
                continue;
            }
            for (sign, entry) in [('-', left), ('+', right)] {
                if let Some(entry) = entry {
                    let _ = writeln!(text, "{sign} {path}: {entry}");
                }
            }
        }
        text
    }

    /// Panics with the difference unless `actual` equals this tree.
    pub(crate) fn assert_same(&self, actual: &Self, what: &str) {
        let diff = self.diff(actual);
        assert!(
            diff.is_empty(),
            "{what}: trees differ (- expected, + actual)\n{diff}"
        );
    }

    fn walk(&mut self, dir: &Path, prefix: &str, inodes: &mut HashMap<(u64, u64), String>) {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap_or_else(|err| panic!("cannot list {}: {err}", dir.display()))
            .filter_map(|entry| entry.ok().map(|entry| entry.file_name()))
            .collect();
        names.sort();
        for name in names {
            let path = dir.join(&name);
            let shown = format!("{prefix}{}", readable(name.as_bytes()));
            // Gone again is possible: staging directories of a running process are listed too.
            let Some(entry) = entry(&path, &shown, inodes) else {
                continue;
            };
            let is_dir = entry.kind == Kind::Dir;
            self.entries.insert(shown.clone(), entry);
            if is_dir && path.is_dir() {
                self.walk(&path, &format!("{shown}/"), inodes);
            }
        }
    }
}

impl fmt::Display for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (path, entry) in &self.entries {
            writeln!(f, "  {path}: {entry}")?;
        }
        Ok(())
    }
}

fn entry(path: &Path, shown: &str, inodes: &mut HashMap<(u64, u64), String>) -> Option<Entry> {
    let meta = fs::symlink_metadata(path).ok()?;
    let kind = kind(path, &meta)?;
    let shared = !meta.is_dir() && meta.nlink() > 1;
    let same_as = if shared {
        let first = inodes.entry((meta.dev(), meta.ino()));
        let first = first.or_insert_with(|| shown.to_owned());
        (first != shown).then(|| first.clone())
    } else {
        None
    };
    Some(Entry {
        mode: (!meta.is_symlink()).then(|| meta.mode() & 0o7777),
        mtime: Some((meta.mtime(), meta.mtime_nsec())),
        kind,
        same_as,
    })
}

fn kind(path: &Path, meta: &fs::Metadata) -> Option<Kind> {
    let file_type = meta.file_type();
    Some(if file_type.is_dir() {
        Kind::Dir
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).ok()?;
        Kind::Symlink {
            target: readable(target.as_os_str().as_bytes()),
        }
    } else if file_type.is_file() {
        let bytes = fs::read(path).ok()?;
        Kind::File {
            size: meta.len(),
            sha256: sha256_hex(&bytes),
        }
    } else if file_type.is_fifo() {
        Kind::Other("fifo")
    } else {
        Kind::Other("special file")
    })
}

/// The name as text: UTF-8 as it is, everything else and control characters escaped.
fn readable(name: &[u8]) -> String {
    match std::str::from_utf8(name) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => name.escape_ascii().to_string(),
    }
}
