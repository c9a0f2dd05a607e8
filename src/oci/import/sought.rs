//! [`Sought`]: one thing that is looked for in images: what it is called there, and how it is told from anything else.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::Staged,
    fs::{self, Context as _, Dir, Staging},
    oci::{
        Digest, DigestWriter,
        cache::{Cache, Outcome},
        content,
        key::{self, Add, Base, Own},
    },
    rel_path::RelPath,
};
use rustix::fs::{FileType, Mode};
use std::{
    collections::HashSet,
    ffi::OsStr,
    io,
    path::{Path, PathBuf},
};

/// The permissions of a directory that nothing says anything of.
const DIRECTORY_MODE: u32 = 0o755;

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Sought {
    /// The name of the file that was fetched.
    pub(super) name: String,
    /// Its digest.
    pub(super) sha256: Sha256Digest,
    /// The directory in the image that it is in, or what it was unpacked to.
    pub(super) directory: RelPath,
    /// Whether it was to be unpacked, if it is an archive.
    pub(super) extract: bool,
    /// What of the layers is taken.
    pub(super) believed: Believed,
}

/// What of some layers is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Believed {
    /// The file, if its digest is right.
    File,
    /// Beside that, what it was unpacked to, if that has this hash.
    Tree(Sha256Digest),
    /// Beside that, whatever it was unpacked to.
    Unpacked,
}

/// Refuses so many bytes in a file, or in files together.
type CheckSize = dyn Fn(u64) -> Result<()>;

/// Returns whether a name is that of an archive: what that was unpacked to proves nothing, so it need not be read.
pub(super) fn promises_archive(name: &str) -> bool {
    let endings = [".tgz", ".tbz2", ".txz", ".tzst", ".zip", ".whl", ".jar"];
    name.contains(".tar") || endings.iter().any(|ending| name.ends_with(ending))
}

impl Sought {
    /// Returns results that are said to be this, each once, the newest of each record first.
    pub(super) fn outcomes<'a>(&self, cache: &'a Cache) -> impl Iterator<Item = &'a Outcome> {
        let directory = key::directory(&self.directory);
        let own = key::own(&Own {
            directory: &directory,
            extract: self.extract,
            name: &self.name,
            sha256: self.sha256,
        });
        let add = Add {
            file_name: &self.name,
            dest: &directory,
            unpack: self.extract,
        };
        let sources = key::http_source(&self.name, &self.sha256);
        let sources: HashSet<usize> = cache.roots(sources).collect();
        let selector = key::selector(&format!("/{}", self.name));
        let mut records: Vec<usize> = cache.roots(own).collect();
        records.extend(cache.on_top(key::add(&add, Base::Scratch), selector, &sources));
        let mut known = HashSet::new();
        records
            .into_iter()
            .flat_map(|record| &cache.entries[record].outcomes)
            .filter(move |outcome| known.insert(*outcome))
    }

    /// Takes what is looked for out of what layers make.
    pub(super) fn pick(&self, root: &Path, staging: &Staging, check: &CheckSize) -> Result<Staged> {
        let mut directory = Dir::open(root)?;
        for part in self.directory.components() {
            directory = directory.open_child(part)?;
        }
        let name = OsStr::new(&self.name);
        let is_alone = || Ok::<_, Error>(directory.names()? == [name]);
        let is_file = || {
            let found = directory.look(name)?;
            Ok::<_, Error>(matches!(found, Some((FileType::RegularFile, _))))
        };
        let is_file_only = self.believed == Believed::File;
        if is_file_only || (is_alone()? && is_file()?) {
            match self.pick_file(&directory, staging, check) {
                // An archive with a file of its own name.
                Err(Error::Damaged { .. }) if !is_file_only => {}
                picked => return picked,
            }
        }
        let path = directory.path().to_owned();
        if let Believed::Tree(expected) = self.believed {
            self.check_tree(&path, &expected, check)?;
        }
        // It becomes the destination, or what is in it does.
        directory.set_own_mode(Mode::from_raw_mode(DIRECTORY_MODE))?;
        Ok(staged(path))
    }

    /// Compares what something was unpacked to.
    fn check_tree(&self, tree: &Path, expected: &Sha256Digest, check: &CheckSize) -> Result<()> {
        if !content::is_comparable() {
            let problem = "what it unpacks to can be compared with the lock where the umask is 022";
            return Err(Error::usage(problem));
        }
        let actual = content::of_tree(tree, check)?;
        if actual == *expected {
            return Ok(());
        }
        Err(Error::Damaged {
            place: format!("what {} unpacks to in the layers", self.name),
            problem: format!("has the tree hash {actual}, the lock has {expected}"),
        })
    }

    /// Copies a file, which is proven by that.
    fn pick_file(&self, directory: &Dir, staging: &Staging, check: &CheckSize) -> Result<Staged> {
        let name = OsStr::new(&self.name);
        let path = directory.path().join(name);
        let place = || format!("{} in the layers", self.name);
        if !matches!(directory.look(name)?, Some((FileType::RegularFile, _))) {
            return Err(Error::Damaged {
                place: place(),
                problem: "is no file".into(),
            });
        }
        let new = staging.fresh()?;
        let mut content = directory.open_file(name)?;
        check(content.metadata().context("look at", &path)?.len())?;
        let mut file = DigestWriter::new(fs::create_new(&new.join(name))?);
        let copied = io::copy(&mut content, &mut file);
        copied.map_err(|source| Error::Fs {
            action: "copy",
            path,
            source,
        })?;
        let (_, actual, _) = file.finish();
        if actual == Digest(self.sha256) {
            return Ok(staged(new));
        }
        let _ = fs::remove_tree(&new);
        Err(Error::Damaged {
            place: place(),
            problem: format!("has the digest {actual}, wanted is sha256:{}", self.sha256),
        })
    }
}

fn staged(directory: PathBuf) -> Staged {
    Staged {
        directory,
        warnings: Vec::new(),
        unpacked: None,
    }
}
