//! What the targets share: a place to extract to, with canaries beside it.

#![expect(clippy::disallowed_methods, reason = "it looks at the disk directly")]

use fetch_content::{Limits, fuzzing};
use std::{
    cell::RefCell,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Limits that small inputs can reach.
pub fn limits() -> Limits {
    Limits {
        expanded_size: 1 << 20,
        expansion: 2,
        entries: 200,
        path_length: 1000,
        path_depth: 20,
        header_size: 4096,
        window: 8 << 20,
        external_symlinks: true,
        untimed_is_epoch: false,
    }
}

/// A directory with a staging directory in it and canaries beside that.
pub struct Cage {
    root: TempDir,
    canary: (Vec<u8>, [i64; 4]),
}

thread_local! {
    static CAGE: RefCell<Option<Cage>> = const { RefCell::new(None) };
}

impl Cage {
    fn new() -> Self {
        // `run` says where, and cleans up: libFuzzer ends without a word.
        let root = TempDir::with_prefix("fuzz-").expect("a temporary directory");
        fs::write(root.path().join("canary"), "alive").expect("a canary");
        fs::create_dir(root.path().join("outside")).expect("a canary");
        fs::set_permissions(
            root.path().join("outside"),
            fs::Permissions::from_mode(0o750),
        )
        .expect("a canary");
        let mut cage = Self {
            root,
            canary: (Vec::new(), [0; 4]),
        };
        cage.canary = cage.look();
        cage
    }

    /// Runs `work` with the path of an empty directory, and panics if it changed anything beside that.
    pub fn with<T>(work: impl FnOnce(&Path) -> T) -> T {
        CAGE.with_borrow_mut(|cage| {
            let cage = cage.get_or_insert_with(Self::new);
            let stage = cage.root.path().join("stage");
            fs::create_dir(&stage).expect("a staging directory");
            let result = work(&stage);
            fuzzing::remove_tree(&stage).expect("remove what was extracted");
            assert!(cage.look() == cage.canary, "something outside has changed");
            result
        })
    }

    fn look(&self) -> (Vec<u8>, [i64; 4]) {
        let path = |name: &str| self.root.path().join(name);
        let file = fs::symlink_metadata(path("canary")).expect("the canary");
        let directory = fs::symlink_metadata(path("outside")).expect("the canary");
        let count = |path: PathBuf| fs::read_dir(path).expect("the canary").count();
        assert_eq!(
            count(self.root.path().to_owned()),
            2,
            "there is more than the canaries"
        );
        assert_eq!(count(path("outside")), 0, "a canary has something in it");
        let numbers = [
            file.mtime_nsec(),
            file.mode().into(),
            directory.mtime_nsec(),
            directory.mode().into(),
        ];
        (fs::read(path("canary")).expect("the canary"), numbers)
    }
}

/// Panics unless an error of the archive's, and nothing else, is why it was not extracted. Every other error would be
/// one of this machine, or of how the program sees it.
pub fn expect_archive_error(error: &fetch_content::Error) {
    let kind = error.kind();
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(cause) = source {
        // The names that a file system does not take are not known before it is asked.
        if let Some(err) = cause.downcast_ref::<io::Error>()
            && err.kind() == io::ErrorKind::InvalidFilename
        {
            return;
        }
        source = cause.source();
    }
    assert!(
        kind == fetch_content::error::Kind::Archive,
        "{error}: {error:?}"
    );
}

/// Sets the checksums right of everything that looks like a header, which no mutation would ever do.
#[must_use]
pub fn with_checksums(content: &[u8]) -> Vec<u8> {
    let mut archive = content.to_vec();
    for block in archive.chunks_exact_mut(512) {
        if &block[257..262] == b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
    archive
}
