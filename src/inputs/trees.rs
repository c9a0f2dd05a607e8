//! [`Trees`]: what artifacts become in a fetch directory, kept beside the store, so that an archive is unpacked once.
//!
//! A tree may share files with the directories it was linked into. Whoever changes such a file changes the tree, too; so
//! a tree has a print of all of its names, sizes and times, which is taken again while it is linked, and is made anew when
//! that is not right any more.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::Staged,
    fs::{self, Print, Staging},
    stream::bridge::run_blocking,
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// The name of the unpacked directory, and of what is known about it.
const TREE: &str = "tree";
const RECORD: &str = "tree.json";

/// What a tree is of, and how it is wanted.
#[derive(Clone, Copy)]
pub(super) struct Of<'a> {
    pub(super) sha256: &'a Sha256Digest,
    /// What is no archive is a file of this name.
    pub(super) file_name: &'a str,
    pub(super) extract: bool,
    /// Whether files may be shared, if blocks cannot.
    pub(super) may_link: bool,
}

/// All trees of a store.
pub(super) struct Trees {
    root: PathBuf,
}

/// What is known about a tree.
#[derive(Serialize, Deserialize)]
struct Record {
    print: Print,
    warnings: Vec<String>,
}

impl Trees {
    /// Keeps trees in a directory, which need not be there.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// Puts into `staging` what the content of an artifact unpacks to, or the file itself. `make` does that in the staging
    /// area that it is given, if it was not done before.
    pub(super) async fn place<F>(
        &self,
        of: Of<'_>,
        staging: &Arc<Staging>,
        make: impl FnOnce(Arc<Staging>) -> F,
    ) -> Result<Staged>
    where
        F: Future<Output = Result<Staged>>,
    {
        let how = if of.extract { "unpacked" } else { "kept" };
        let place = self.root.join(of.sha256.to_string());
        let place = place.join(how).join(of.file_name);
        let may_link = of.may_link;
        let (here, to) = (place.clone(), Arc::clone(staging));
        let known = run_blocking(move || place_known(&here, &to, may_link));
        if let Some(placed) = known.await? {
            return Ok(placed);
        }
        let new = Arc::new(Staging::inside(&self.root)?);
        new.keep_parent();
        let staged = make(Arc::clone(&new)).await?;
        let to = Arc::clone(staging);
        run_blocking(move || {
            let tree = new.fresh()?;
            fs::rename(&staged.directory, &tree.join(TREE))?;
            let (directory, print) = place_tree(&tree, &to, may_link)?;
            let record = Record {
                print,
                warnings: staged.warnings,
            };
            let json =
                serde_json::to_string(&record).map_err(|err| Error::usage(err.to_string()))?;
            fs::write(&tree.join(RECORD), &json)?;
            fs::make_parent(&place)?;
            // Another process may have been faster; its tree is as good as this one.
            let _ = fs::rename(&tree, &place);
            Ok(Staged {
                directory,
                warnings: record.warnings,
                unpacked: None,
            })
        })
        .await
    }
}

/// Puts a tree into a staging area if it is there and nobody has changed it; removes what is there otherwise.
fn place_known(place: &Path, staging: &Staging, may_link: bool) -> Result<Option<Staged>> {
    let json = fs::read_to_string(&place.join(RECORD)).unwrap_or_default();
    if let Ok(Record { print, warnings }) = serde_json::from_str(&json) {
        match place_tree(place, staging, may_link) {
            Ok((directory, found)) if found == print => {
                return Ok(Some(Staged {
                    directory,
                    warnings,
                    unpacked: None,
                }));
            }
            Ok((directory, _)) => fs::remove_tree(&directory)?,
            // Something was removed, perhaps just now.
            Err(Error::Fs { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(err) => return Err(err),
        }
    }
    fs::remove_tree(place)?;
    Ok(None)
}

/// Makes a copy of a tree; with `may_link`, one that shares files if it cannot share blocks.
fn place_tree(tree: &Path, staging: &Staging, may_link: bool) -> Result<(PathBuf, Print)> {
    let directory = staging.fresh()?;
    let print = if may_link {
        fs::link_tree(&tree.join(TREE), &directory)?
    } else {
        fs::copy_tree(&tree.join(TREE), &directory)?
    };
    Ok((directory, print))
}
