//! [`Limits`]: how much one archive may make of itself. The defaults leave room for anything honest; what hits one is
//! a bomb, or an archive for whose sake somebody who trusts it raises the limit.

use crate::{
    error::{Error, Result},
    fs::Mtime,
    rel_path::RelPath,
    size::ByteSize,
};

/// The variables that set the limits.
pub(crate) const MAX_EXPANDED_SIZE: &str = "FETCH_CONTENT_MAX_EXPANDED_SIZE";
pub(crate) const MAX_EXPANSION: &str = "FETCH_CONTENT_MAX_EXPANSION";
pub(crate) const MAX_ENTRIES: &str = "FETCH_CONTENT_MAX_ENTRIES";
pub(crate) const MAX_PATH_LENGTH: &str = "FETCH_CONTENT_MAX_PATH_LENGTH";
pub(crate) const MAX_PATH_DEPTH: &str = "FETCH_CONTENT_MAX_PATH_DEPTH";
pub(crate) const MAX_HEADER_SIZE: &str = "FETCH_CONTENT_MAX_HEADER_SIZE";
pub(crate) const MAX_WINDOW: &str = "FETCH_CONTENT_MAX_WINDOW";

/// Bytes of names that may be kept in memory for each entry that is allowed, on average.
const NAME: u64 = 64;

/// What an archive may be at most. The checks name the variable that raises the limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that every archive may unpack to, however small it is.
    pub expanded_size: u64,
    /// How many times its own size an archive may unpack to, where that is more.
    pub expansion: u64,
    /// Members.
    pub entries: u64,
    /// Bytes in the path of a member, or in the target of a link.
    pub path_length: usize,
    /// Components in the path of a member.
    pub path_depth: usize,
    /// Bytes of extended headers (GNU long names, PAX records) that describe one member.
    pub header_size: usize,
    /// Bytes that a decoder may look back, for which it needs as much memory.
    pub window: u64,
    /// Whether symbolic links may lead out of what is extracted. They are never followed there.
    pub external_symlinks: bool,
    /// Whether what has no time in its archive gets the epoch, and not the time of its making.
    pub untimed_is_epoch: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            expanded_size: 8 << 30,
            // Eight times what gzip makes of source code; zeros are packed to 1/1000 by gzip, to less by others.
            expansion: 100,
            // Twenty times the Linux kernel.
            entries: 2_000_000,
            // PATH_MAX: beyond it, no program can open the file by its path.
            path_length: 4096,
            // Directories are published and removed by descriptors, of which there are 1024 as a rule.
            path_depth: 256,
            header_size: 1 << 20,
            // What `zstd --ultra -22` uses, and the most that the `zstd` program takes without being told.
            window: 128 << 20,
            // Sysroots have absolute ones.
            external_symlinks: true,
            untimed_is_epoch: false,
        }
    }
}

impl Limits {
    /// Returns the time that a member gets, by that which it has.
    pub(crate) fn time(&self, found: Option<Mtime>) -> Option<Mtime> {
        found.or(self.untimed_is_epoch.then(Mtime::default))
    }

    /// Takes off what an archive made of itself, so that the next one has the rest.
    pub(crate) fn spend(&mut self, expanded: u64, entries: u64) {
        self.expanded_size = self.expanded_size.saturating_sub(expanded);
        self.entries = self.entries.saturating_sub(entries);
    }

    /// Refuses an archive of which `packed` bytes have become `expanded` ones.
    pub(crate) fn check_expanded(&self, expanded: u64, packed: u64) -> Result<()> {
        let allowed = self
            .expanded_size
            .max(packed.saturating_mul(self.expansion));
        if expanded <= allowed {
            return Ok(());
        }
        let problem = format!(
            "the archive unpacks to more than {}: {} and {} times its size of {} are allowed, whichever is more",
            ByteSize(allowed),
            ByteSize(self.expanded_size),
            self.expansion,
            ByteSize(packed),
        );
        Err(Error::limit(problem, MAX_EXPANDED_SIZE))
    }

    /// Refuses an archive of which `entries` members were seen.
    pub(crate) fn check_entries(&self, entries: u64) -> Result<()> {
        if entries <= self.entries {
            return Ok(());
        }
        let problem = format!("the archive has more than {} members", self.entries);
        Err(Error::limit(problem, MAX_ENTRIES))
    }

    /// Refuses an archive for whose sake names of so many bytes have to be remembered.
    pub(crate) fn check_names_kept(&self, bytes: u64) -> Result<()> {
        let allowed = self.entries.saturating_mul(NAME);
        if bytes <= allowed {
            return Ok(());
        }
        let problem = format!(
            "the names of directories and links in the archive take more than {}",
            ByteSize(allowed)
        );
        Err(Error::limit(problem, MAX_ENTRIES))
    }

    /// Refuses the path of a member.
    pub(crate) fn check_path(&self, path: &RelPath) -> Result<()> {
        self.check_name_length(path.as_bytes(), "name")?;
        if path.components().nth(self.path_depth).is_none() {
            return Ok(());
        }
        let problem = format!("the name has more than {} components", self.path_depth);
        Err(Error::limit(problem, MAX_PATH_DEPTH).of_member(path.as_bytes()))
    }

    /// Refuses the name of a member or the target of a link, which `what` tells.
    pub(crate) fn check_name_length(&self, name: &[u8], what: &str) -> Result<()> {
        if name.len() <= self.path_length {
            return Ok(());
        }
        let problem = format!(
            "the {what} has {} bytes, and {} are allowed",
            name.len(),
            self.path_length
        );
        Err(Error::limit(problem, MAX_PATH_LENGTH).of_member(name))
    }

    /// Refuses extended headers of so many bytes for one member.
    pub(crate) fn check_header_size(&self, bytes: u64) -> Result<()> {
        if bytes <= self.header_size as u64 {
            return Ok(());
        }
        let problem = format!(
            "a member has extended headers of {bytes} bytes, and {} are allowed",
            self.header_size
        );
        Err(Error::limit(problem, MAX_HEADER_SIZE))
    }

    /// Returns the error of a decoder that would have to look back further than is allowed.
    pub(crate) fn window_error(&self) -> Error {
        let problem = format!(
            "the archive takes a window or dictionary of more than {} to unpack",
            ByteSize(self.window)
        );
        Error::limit(problem, MAX_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::Limits;
    use crate::{
        error::{Error, Kind, Result},
        rel_path::RelPath,
    };

    fn limits() -> Limits {
        Limits {
            expanded_size: 1000,
            expansion: 10,
            entries: 5,
            path_length: 20,
            path_depth: 3,
            header_size: 100,
            window: 1 << 20,
            external_symlinks: true,
            untimed_is_epoch: false,
        }
    }

    #[test]
    fn what_is_allowed_is_allowed_to_the_last_byte() {
        let path = |text: &str| RelPath::parse(text.as_bytes()).unwrap();
        let limits = limits();
        let cases: [(Result<()>, Result<()>, &str); 7] = [
            (
                limits.check_expanded(1000, 1),
                limits.check_expanded(1001, 1),
                "FETCH_CONTENT_MAX_EXPANDED_SIZE",
            ),
            (
                limits.check_expanded(2000, 200),
                limits.check_expanded(2001, 200),
                "FETCH_CONTENT_MAX_EXPANDED_SIZE",
            ),
            (
                limits.check_entries(5),
                limits.check_entries(6),
                "FETCH_CONTENT_MAX_ENTRIES",
            ),
            (
                limits.check_names_kept(320),
                limits.check_names_kept(321),
                "FETCH_CONTENT_MAX_ENTRIES",
            ),
            (
                limits.check_path(&path("a/b/c")),
                limits.check_path(&path("a/b/c/d")),
                "FETCH_CONTENT_MAX_PATH_DEPTH",
            ),
            (
                limits.check_path(&path(&"n".repeat(20))),
                limits.check_path(&path(&"n".repeat(21))),
                "FETCH_CONTENT_MAX_PATH_LENGTH",
            ),
            (
                limits.check_header_size(100),
                limits.check_header_size(101),
                "FETCH_CONTENT_MAX_HEADER_SIZE",
            ),
        ];
        for (allowed, refused, variable) in cases {
            assert!(allowed.is_ok(), "{allowed:?}");
            let err: Error = refused.unwrap_err();
            assert_eq!(err.kind(), Kind::Archive);
            assert!(err.hint().unwrap().contains(variable), "{err:?}");
        }
    }

    #[test]
    fn huge_numbers_do_not_overflow() {
        assert!(limits().check_expanded(u64::MAX, u64::MAX).is_ok());
        assert!(limits().check_expanded(u64::MAX, 1).is_err());
    }
}
