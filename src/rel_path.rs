//! [`RelPath`]: a path that cannot leave the directory it is used in, as far as its text goes. Symbolic links are the
//! business of [`crate::fs`], which resolves every component by descriptor.

use std::{ffi::OsStr, fmt, os::unix::ffi::OsStrExt, path::Path};

/// A relative path in normal form: no empty, `.` or `..` component, no NUL. May be empty (the directory itself).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RelPath(Vec<u8>);

/// Why a text is not a [`RelPath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelPathError {
    /// A `..` component.
    #[error("has a `..` component")]
    Parent,
    /// A NUL byte.
    #[error("has a NUL byte")]
    Nul,
    /// A leading slash, where the caller does not strip it.
    #[error("is absolute")]
    Absolute,
}

impl RelPath {
    /// Parses a name as archives have it: leading slashes, empty and `.` components are dropped.
    ///
    /// # Errors
    /// [`RelPathError::Parent`] and [`RelPathError::Nul`].
    pub fn strip_root(name: &[u8]) -> Result<Self, RelPathError> {
        if name.contains(&0) {
            return Err(RelPathError::Nul);
        }
        let mut path = Vec::with_capacity(name.len());
        for component in name.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return Err(RelPathError::Parent),
                component => {
                    if !path.is_empty() {
                        path.push(b'/');
                    }
                    path.extend_from_slice(component);
                }
            }
        }
        Ok(Self(path))
    }

    /// Parses a name that must be relative already.
    ///
    /// # Errors
    /// Every [`RelPathError`].
    pub fn parse(name: &[u8]) -> Result<Self, RelPathError> {
        if name.first() == Some(&b'/') {
            return Err(RelPathError::Absolute);
        }
        Self::strip_root(name)
    }

    /// Returns whether this is the directory itself.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the components, outermost first.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &OsStr> + Clone {
        self.0
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
            .map(OsStr::from_bytes)
    }

    /// Returns the path of the containing directory and the last component; `None` for the empty path.
    #[must_use]
    pub fn split_last(&self) -> Option<(RelPath, &OsStr)> {
        if self.0.is_empty() {
            return None;
        }
        let (parent, name) = match self.0.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => (&self.0[..slash], &self.0[slash + 1..]),
            None => (&[][..], &self.0[..]),
        };
        Some((RelPath(parent.to_vec()), OsStr::from_bytes(name)))
    }

    /// Returns the path of the containing directory; `None` for the empty path.
    #[must_use]
    pub fn parent(&self) -> Option<RelPath> {
        Some(self.split_last()?.0)
    }

    /// Returns this path with one more component.
    #[must_use]
    pub fn join(&self, name: &OsStr) -> RelPath {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        RelPath(path)
    }

    /// Returns the path of what is at another path below this one.
    #[must_use]
    pub fn join_all(&self, below: &Self) -> Self {
        let way = self.clone();
        below.components().fold(way, |way, name| way.join(name))
    }

    /// Returns the bytes of the path.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<Path> for RelPath {
    fn as_ref(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        shown_name(&self.0).fmt(f)
    }
}

/// How many bytes of a name are shown: of a longer one, so many at its beginning and at its end.
const SHOWN: usize = 120;

/// Shows a name from an archive to people: control characters and bytes that are not UTF-8 are escaped, and the middle
/// of a long name is left out.
pub(crate) fn shown_name(name: &[u8]) -> impl fmt::Display {
    ShownName(name)
}

struct ShownName<'a>(&'a [u8]);

impl fmt::Display for ShownName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0;
        if name.len() <= 2 * SHOWN {
            return escape(name, f);
        }
        let (head, tail) = (&name[..SHOWN], &name[name.len() - SHOWN..]);
        escape(head, f)?;
        write!(f, "[… {} bytes …]", name.len() - 2 * SHOWN)?;
        escape(tail, f)
    }
}

fn escape(name: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for chunk in name.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() {
                write!(f, "{}", char.escape_default())?;
            } else {
                write!(f, "{char}")?;
            }
        }
        chunk
            .invalid()
            .iter()
            .try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{RelPath, RelPathError, shown_name};
    use proptest::prelude::*;

    #[test]
    fn long_names_and_control_characters_are_not_shown() {
        assert_eq!(shown_name(b"a\x1b\xffb").to_string(), "a\\u{1b}\\xffb");
        assert_eq!(shown_name(&[b'n'; 240]).to_string(), "n".repeat(240));
        let shown = shown_name(&b"n".repeat(1_000_000)).to_string();
        assert!(
            shown.contains("999760 bytes") && shown.len() < 300,
            "{shown}"
        );
    }

    #[test]
    fn names_are_normalised() {
        for (name, path) in [
            ("a/b", "a/b"),
            ("./a//b/.", "a/b"),
            ("/etc/passwd", "etc/passwd"),
            ("", ""),
            ("./", ""),
        ] {
            assert_eq!(
                RelPath::strip_root(name.as_bytes()).unwrap().to_string(),
                path
            );
        }
    }

    #[test]
    fn escaping_names_are_refused() {
        assert_eq!(RelPath::strip_root(b"a/../b"), Err(RelPathError::Parent));
        assert_eq!(RelPath::strip_root(b".."), Err(RelPathError::Parent));
        assert_eq!(RelPath::strip_root(b"a\0b"), Err(RelPathError::Nul));
        assert_eq!(RelPath::parse(b"/a"), Err(RelPathError::Absolute));
    }

    #[test]
    fn control_characters_and_foreign_bytes_are_shown_escaped() {
        assert_eq!(
            RelPath::parse(b"a\x1b[31m\xff\xc3\xa9")
                .unwrap()
                .to_string(),
            "a\\u{1b}[31m\\xff\u{e9}"
        );
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_path_stays_inside(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(path) = RelPath::strip_root(&name) {
                prop_assert!(path.components().all(|part| part != ".." && part != "." && !part.is_empty()));
                prop_assert!(path.as_bytes().first() != Some(&b'/'));
                prop_assert_eq!(RelPath::parse(path.as_bytes()).unwrap(), path);
            }
        }
    }
}
