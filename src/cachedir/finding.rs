//! [`Finding`]: what a task finds in a cache, and whether it may use it.

use super::{
    EXIT_CONFIGURATION, EXIT_PURGE, LOG, REQUIRES, REQUIRES_IN_THE_MAKING, Requirements, Tenant,
    audit,
};
use crate::{
    error::{Error, Result},
    fs::{Content, Dir},
};
use rustix::fs::FileType;
use std::{ffi::OsStr, fmt::Write, io, path::Path};

/// A `.cacherequires` of more bytes was not written by any run-task, whose own have about 30.
const LONGEST: u64 = 1 << 16;

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing: the task makes it its own.
    Empty,
    /// A cache that requires nothing that the task does not bring.
    Usable(Requirements),
    /// A cache of another user, which is given to the task's user since the task's caches are untrusted.
    Inheritable(Requirements),
    /// A cache that the task must not use.
    Refused(Refusal),
}

/// Why a task must not use a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no directory.
    NotADirectory,
    /// It requires something else.
    Mismatch(Requirements),
    /// There is something in it, but nothing that says what it requires.
    Missing,
    /// One of run-task's files in it is not what run-task makes.
    Tampered(&'static str),
}

/// Returns what a task finds in a cache. Nothing is changed.
///
/// # Errors
/// [`Error::Fs`] when the directory cannot be looked at.
pub fn inspect(path: &Path, tenant: &Tenant) -> Result<Finding> {
    Ok(match open(path)? {
        Some(cache) => look(&cache, tenant)?,
        None => Finding::Refused(Refusal::NotADirectory),
    })
}

/// Opens a directory; `None` if there is none.
pub(super) fn open(path: &Path) -> Result<Option<Dir>> {
    match Dir::open(path) {
        Ok(dir) => Ok(Some(dir)),
        Err(Error::Fs { source, .. })
            if matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(err) => Err(err),
    }
}

pub(super) fn look(cache: &Dir, tenant: &Tenant) -> Result<Finding> {
    let names = cache.names()?;
    if names.iter().all(|name| name == REQUIRES_IN_THE_MAKING) {
        return Ok(Finding::Empty);
    }
    let log = cache.look(OsStr::new(LOG))?;
    if log.is_some_and(|(kind, _)| kind != FileType::RegularFile) {
        return Ok(Finding::Refused(Refusal::Tampered(LOG)));
    }
    let required = match cache.read_child(REQUIRES, LONGEST)? {
        Content::Absent => return Ok(Finding::Refused(Refusal::Missing)),
        Content::NotAFile | Content::TooLong => {
            return Ok(Finding::Refused(Refusal::Tampered(REQUIRES)));
        }
        Content::Whole(bytes) => Requirements::parse(&bytes),
    };
    let lacking = required.lacking_in(&Requirements::of(tenant.owner));
    Ok(if lacking.is_empty() {
        Finding::Usable(required)
    } else if tenant.untrusted && tenant.is_root && lacking.is_only_about_owner() {
        Finding::Inheritable(required)
    } else {
        Finding::Refused(Refusal::Mismatch(required))
    })
}

impl Finding {
    /// Returns the line that run-task logs of a cache, or of its first step with it; a refusal may have none.
    #[must_use]
    pub fn line(&self, path: &Path, tenant: &Tenant) -> Option<String> {
        let path = path.display();
        match self {
            Self::Empty => Some(format!(
                "cache {path} is empty; writing requirements: {}",
                Requirements::of(tenant.owner)
            )),
            Self::Usable(found)
            | Self::Inheritable(found)
            | Self::Refused(Refusal::Mismatch(found)) => {
                Some(format!("cache {path} exists; requirements: {found}"))
            }
            Self::Refused(Refusal::NotADirectory | Refusal::Missing | Refusal::Tampered(_)) => None,
        }
    }

    /// Returns what is odd about a cache that can be used all the same.
    #[must_use]
    pub fn warning(&self, path: &Path, tenant: &Tenant) -> Option<String> {
        let Self::Usable(found) = self else {
            return None;
        };
        let absent = Requirements::of(tenant.owner).lacking_in(found);
        (!absent.is_empty()).then(|| {
            format!(
                "warning: cache {} does not say {absent}; its {REQUIRES} may have been cut off, and tasks of other \
                 users may have used it",
                path.display()
            )
        })
    }
}

impl Refusal {
    /// Returns the exit code of a task that is refused.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotADirectory => EXIT_CONFIGURATION,
            Self::Mismatch(_) | Self::Missing | Self::Tampered(_) => EXIT_PURGE,
        }
    }

    /// Returns whether a worker that deletes the cache and runs the task again helps.
    #[must_use]
    pub fn purges(&self) -> bool {
        self.exit_code() == EXIT_PURGE
    }

    /// Returns what is wrong and what can be done; the first line is run-task's. `log` is shown of a cache that others
    /// have used.
    #[must_use]
    pub fn message(&self, path: &Path, tenant: &Tenant, log: &[audit::Entry]) -> String {
        let shown = path.display();
        match self {
            Self::NotADirectory => {
                format!("error: cache {shown} is not a directory; this should never happen")
            }
            Self::Missing => format!(
                "error: cache {shown} is not empty and is missing a {REQUIRES} file; the cache names for this task are \
                 likely mis-configured or TASKCLUSTER_CACHES is not set properly"
            ),
            Self::Tampered(name) => format!(
                "error: {name} of cache {shown} is not a file that run-task made; a task that used the cache put \
                 something else in its place"
            ),
            Self::Mismatch(found) => mismatch(path, found, tenant, log),
        }
    }
}

fn mismatch(path: &Path, found: &Requirements, tenant: &Tenant, log: &[audit::Entry]) -> String {
    let ours = Requirements::of(tenant.owner);
    let mut text = format!(
        "error: requirements for populated cache {} differ from this task\n\
         cache requirements: {found}\n\
         our requirements:   {ours}\n",
        path.display()
    );
    if found.lacking_in(&ours).mentions_owner() {
        text.push_str(OTHER_OWNER);
    }
    text.push_str("\naudit log:\n");
    for entry in log {
        let _ = writeln!(text, "{entry}");
    }
    text
}

const OTHER_OWNER: &str = "
The cache is that of another user or group. Either tasks that run as different users share this cache, or a user has
another id in one image than in another one.

A cache keeps the ids of the first task that uses it. Let all tasks with this cache run as the same user and group, which
must have the same ids in all images; or give the caches different names.
";
