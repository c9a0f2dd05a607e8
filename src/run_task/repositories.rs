//! The repositories of a task: which there are by `REPOSITORIES`, and what the options and variables about each of them
//! ask for.

use super::environment::{self, absolute};
use crate::{error, vcs::WorkingCopy};
use serde_json::{Map, Value};
use std::{
    env,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// A revision that stands for none, as that before the first push to a branch.
const NULL_REVISION: &str = "0000000000000000000000000000000000000000";

/// The variable that tells how many processes write files at once.
const WORKERS: &str = "RUN_TASK_GIT_CHECKOUT_WORKERS";

/// A key of `REPOSITORIES` and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// What the names of its options begin with.
    pub project: String,
    /// What people call it.
    pub name: String,
}

/// What the options say about a repository.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where its checkout is to be.
    pub checkout: Option<PathBuf>,
    /// Whether that is to have no history.
    pub shallow: bool,
    /// Whether it is to have a part of the files only.
    pub is_sparse: bool,
}

/// A checkout to be made before the command runs.
#[derive(Debug)]
pub struct Checkout {
    /// What the names of its variables begin with.
    pub prefix: String,
    /// What git is to do.
    pub copy: WorkingCopy,
    /// The secret with the ssh key.
    pub ssh_secret: Option<String>,
}

/// Reads `REPOSITORIES`, a JSON object from prefixes to names.
///
/// # Errors
/// What is wrong with it.
pub fn repositories() -> Result<Vec<Repository>, String> {
    let text = env::var_os("REPOSITORIES").filter(|text| !text.is_empty());
    parse(text.as_deref())
}

fn parse(text: Option<&OsStr>) -> Result<Vec<Repository>, String> {
    let Some(text) = text else {
        return Ok(vec![Repository {
            project: "vcs".to_owned(),
            name: "repository".to_owned(),
        }]);
    };
    let map: Map<String, Value> = serde_json::from_slice(text.as_bytes())
        .map_err(|err| format!("error: REPOSITORIES is not a JSON object: {err}"))?;
    let repositories = map.into_iter().map(|(project, name)| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if project.is_empty() || !project.bytes().all(is_plain) {
            let project = project.escape_debug();
            return Err(format!(
                "error: REPOSITORIES has the key `{project}`: letters, digits, `_` and `-` make a prefix of variables"
            ));
        }
        let name = name.as_str().unwrap_or(&project).to_owned();
        Ok(Repository { project, name })
    });
    repositories.collect()
}

impl Repository {
    /// What the names of its variables begin with.
    #[must_use]
    pub fn prefix(&self) -> String {
        self.project.to_uppercase()
    }

    /// Returns the checkout that options and environment ask for, if they do. Relative paths start at `here`.
    ///
    /// # Errors
    /// What is contradictory, missing, or cannot be done without Python or Mercurial.
    pub fn wanted(&self, options: &Options, here: &Path) -> Result<Option<Checkout>, String> {
        let prefix = self.prefix();
        let variable = |what: &str| format!("{prefix}_{what}");
        let text = |what: &str| environment::text(&variable(what));
        let sparse = environment::set_among([variable("SPARSE_PATTERNS")]);
        if options.is_sparse || !sparse.is_empty() {
            return Err(format!(
                "error: --{}-sparse-profile and {} are not supported: do without them, or use the Python run-task",
                self.project,
                variable("SPARSE_PATTERNS")
            ));
        }
        let (head_ref, head_revision) = (text("HEAD_REF")?, text("HEAD_REV")?);
        let checkout = options.checkout.as_deref();
        let Some(checkout) = checkout.filter(|path| !path.as_os_str().is_empty()) else {
            return match (head_ref, head_revision) {
                (Some(_), None) => {
                    Err("task should be defined in terms of non-symbolic revision".to_owned())
                }
                _ => Ok(None),
            };
        };
        refuse_unless_git(&variable("REPOSITORY_TYPE"))?;
        let directory = absolute(here, &at_home(checkout)?);
        let missing = |what: &str| format!("error: {} is not set", variable(what));
        if head_ref.is_none() && head_revision.is_none() {
            return Err(format!(
                "error: neither {} nor {} is set: git needs a ref, a revision, or both",
                variable("HEAD_REF"),
                variable("HEAD_REV")
            ));
        }
        let copy = WorkingCopy {
            directory,
            head_repository: text("HEAD_REPOSITORY")?.ok_or_else(|| missing("HEAD_REPOSITORY"))?,
            base_repository: text("BASE_REPOSITORY")?,
            base_revision: text("BASE_REV")?.filter(|revision| revision != NULL_REVISION),
            head_ref,
            head_revision,
            shallow: options.shallow,
            workers: environment::text(WORKERS)?.unwrap_or_else(|| "0".to_owned()),
        };
        copy.check()
            .map_err(|err| format!("error: {prefix}_…: {}", error::chain(&err)))?;
        Ok(Some(Checkout {
            copy,
            ssh_secret: text("SSH_SECRET_NAME")?,
            prefix,
        }))
    }
}

/// Returns the checkouts that a task wants, those that others are in before these.
///
/// # Errors
/// As [`Repository::wanted`].
pub fn checkouts(wanted: &[(Repository, Options)], here: &Path) -> Result<Vec<Checkout>, String> {
    let mut checkouts = Vec::new();
    for (repository, options) in wanted {
        checkouts.extend(repository.wanted(options, here)?);
    }
    checkouts.sort_by(|one: &Checkout, other| one.copy.directory.cmp(&other.copy.directory));
    Ok(checkouts)
}

/// Returns the variables that ask for what only the Python run-task can do.
#[must_use]
pub fn needing_python(repositories: &[&Repository]) -> Vec<String> {
    let requirements = repositories
        .iter()
        .map(|repository| format!("{}_PIP_REQUIREMENTS", repository.prefix()));
    let hooks = environment::HOOKS.into_iter().map(str::to_owned);
    environment::set_among(hooks.chain(requirements))
}

fn refuse_unless_git(variable: &str) -> Result<(), String> {
    match environment::text(variable)?.as_deref() {
        Some("git") => Ok(()),
        Some("hg") => Err(format!(
            "error: {variable} is `hg`, which is not supported: use the Python run-task"
        )),
        other => Err(format!(
            "error: {variable} is `{}`: type of VCS must be `git`, as the Python run-task also has `hg`",
            other.unwrap_or_default().escape_debug()
        )),
    }
}

/// Undoes a `~` at the beginning.
fn at_home(path: &Path) -> Result<PathBuf, String> {
    let mut components = path.components();
    let first = components.next().map(|first| first.as_os_str().as_bytes());
    match first {
        Some(b"~") => {
            let home = env::var_os("HOME").filter(|home| !home.is_empty());
            let home = home.ok_or_else(|| {
                format!("error: HOME is not set, and needed for {}", path.display())
            })?;
            Ok(Path::new(&home).join(components.as_path()))
        }
        Some([b'~', ..]) => Err(format!(
            "error: homes of other users are not looked up: give {} as an absolute path",
            path.display()
        )),
        _ => Ok(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Repository, at_home, parse};
    use std::{ffi::OsStr, path::Path};

    #[test]
    fn keys_are_prefixes() {
        let prefixes = |text| {
            let repositories = parse(text)?;
            let prefixes = repositories.iter().map(Repository::prefix);
            Ok::<_, String>(prefixes.collect::<Vec<_>>())
        };
        assert_eq!(prefixes(None).unwrap(), ["VCS"]);
        let text = OsStr::new(r#"{"comm": "Thunderbird", "gecko": "Firefox"}"#);
        assert_eq!(prefixes(Some(text)).unwrap(), ["COMM", "GECKO"]);
        let problem = prefixes(Some(OsStr::new("[]"))).unwrap_err();
        assert!(
            problem.starts_with("error: REPOSITORIES is not"),
            "{problem}"
        );
        for odd in [r#"{"": "x"}"#, r#"{"a b": "x"}"#, r#"{"a=": "x"}"#] {
            assert!(prefixes(Some(OsStr::new(odd))).is_err(), "{odd}");
        }
    }

    #[test]
    fn only_the_own_home_is_known() {
        assert_eq!(at_home(Path::new("a/~")).unwrap(), Path::new("a/~"));
        let home = std::env::var_os("HOME").unwrap_or_default();
        if !home.is_empty() {
            assert_eq!(
                at_home(Path::new("~/a/b")).unwrap(),
                Path::new(&home).join("a/b")
            );
        }
        assert!(at_home(Path::new("~root/a")).is_err());
    }
}
