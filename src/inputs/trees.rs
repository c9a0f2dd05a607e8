//! [`Trees`]: what archives unpack to, kept beside the store, so that an archive is unpacked once.
//!
//! A tree may share files with the directories it was linked into. Whoever changes such a file changes the tree, too; so
//! a tree has a print of all of its names, sizes and times, and is made anew when that is not right any more.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::Staged,
    fs::{self, Staging},
    stream::bridge::run_blocking,
};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// The name of the unpacked directory, and of what is known about it.
const TREE: &str = "tree";
const RECORD: &str = "tree.json";

/// All trees of a store.
pub(super) struct Trees {
    root: PathBuf,
}

/// What is known about a tree.
#[derive(Serialize, Deserialize)]
struct Record {
    print: String,
    warnings: Vec<String>,
}

/// A tree that is there and right.
pub(super) struct Tree {
    directory: PathBuf,
    warnings: Vec<String>,
}

impl Trees {
    /// Keeps trees in a directory, which need not be there.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Returns what content unpacks to. `make` unpacks it in the staging area that it is given, if it is not here.
    pub(super) async fn tree<F>(
        &self,
        sha256: &Sha256Digest,
        make: impl FnOnce(Arc<Staging>) -> F,
    ) -> Result<Tree>
    where
        F: Future<Output = Result<Staged>>,
    {
        let place = self.root.join(sha256.to_string());
        let here = place.clone();
        if let Some(tree) = run_blocking(move || known(&here)).await? {
            return Ok(tree);
        }
        let staging = Arc::new(Staging::inside(&self.root)?);
        staging.keep_parent();
        let Staged {
            directory,
            warnings,
        } = make(Arc::clone(&staging)).await?;
        run_blocking(move || {
            let new = staging.fresh()?;
            fs::rename(&directory, &new.join(TREE))?;
            let record = Record {
                print: fs::print_of(&new.join(TREE))?,
                warnings,
            };
            let json =
                serde_json::to_string(&record).map_err(|err| Error::usage(err.to_string()))?;
            fs::write(&new.join(RECORD), &json)?;
            // Another process may have been faster, or what is there is not right any more.
            if let Some(theirs) = known(&place)? {
                return Ok(theirs);
            }
            if fs::is_directory(&place) {
                fs::remove_tree(&place)?;
            }
            match fs::rename(&new, &place) {
                Ok(()) => Ok(Tree {
                    directory: place.join(TREE),
                    warnings: record.warnings,
                }),
                Err(err) => known(&place)?.ok_or(err),
            }
        })
        .await
    }
}

/// Returns the tree at a place, if there is one that nobody has changed.
fn known(place: &Path) -> Result<Option<Tree>> {
    let directory = place.join(TREE);
    if !fs::is_directory(&directory) {
        return Ok(None);
    }
    let Ok(json) = fs::read_to_string(&place.join(RECORD)) else {
        return Ok(None);
    };
    let Ok(Record { print, warnings }) = serde_json::from_str(&json) else {
        return Ok(None);
    };
    let is_right = fs::print_of(&directory)? == print;
    Ok(is_right.then_some(Tree {
        directory,
        warnings,
    }))
}

impl Tree {
    /// Makes a copy in a staging area; with `may_link`, one that shares files if it cannot share blocks.
    pub(super) async fn place(self, staging: &Arc<Staging>, may_link: bool) -> Result<Staged> {
        let staging = Arc::clone(staging);
        run_blocking(move || {
            let directory = staging.fresh()?;
            if may_link {
                fs::link_tree(&self.directory, &directory)?;
            } else {
                fs::copy_tree(&self.directory, &directory)?;
            }
            Ok(Staged {
                directory,
                warnings: self.warnings,
            })
        })
        .await
    }
}
