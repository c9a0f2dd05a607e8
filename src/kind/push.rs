//! [`Push`]: what taskgraph knows of the commit that tasks are created for.

use super::{
    fields::Fields,
    finding::{Finding, Found},
    index::Parameters,
    source,
};
use crate::error::{self, Result};
use std::path::Path;

/// The push that tasks are created for, by taskgraph's names.
#[derive(Clone, Debug, Default)]
pub struct Push {
    /// The project, such as `mozilla-central`.
    pub project: String,
    /// The address of who pushed.
    pub owner: String,
    /// The repository that it went to.
    pub base_repository: String,
    /// The repository that has the commit.
    pub head_repository: String,
    /// The commit.
    pub head_rev: String,
    /// The number of the push.
    pub pushlog_id: String,
    /// `git` or `hg`.
    pub repository_type: String,
    /// The task that creates the others; empty if there is none.
    pub decision_task: String,
}

impl Push {
    /// Takes what taskgraph takes for a push of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            owner: "nobody@mozilla.com".into(),
            pushlog_id: "0".into(),
            repository_type: "git".into(),
            ..Self::default()
        }
    }

    /// Reads taskgraph's `parameters.yml`.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] when the file cannot be read or a parameter is of the wrong type.
    pub fn from_file(file: &Path) -> Result<(Self, Parameters)> {
        Ok(Self::found(file)?)
    }

    fn found(file: &Path) -> Found<(Self, Parameters)> {
        let (node, _) = source::read(file)?;
        let fields = Fields::of(&node, "")?;
        let text = |key| fields.required_text(key).map(str::to_owned);
        let level = fields.required_text("level")?;
        let build_date = fields.required_int("build_date")?;
        let parameters = Parameters {
            level: level
                .parse()
                .map_err(|err| Finding::at(&node, error::chain(&err)))?,
            tasks_for: text("tasks_for")?,
            build_date: i64::try_from(build_date)
                .map_err(|_range| Finding::at(&node, format!("{build_date} is no date")))?,
        };
        let push = Self {
            project: text("project")?,
            owner: text("owner")?,
            base_repository: text("base_repository")?,
            head_repository: text("head_repository")?,
            head_rev: text("head_rev")?,
            pushlog_id: text("pushlog_id")?,
            repository_type: text("repository_type")?,
            decision_task: String::new(),
        };
        Ok((push, parameters))
    }

    /// Returns the project as Treeherder knows it.
    pub(super) fn treeherder_project(&self, parameters: &Parameters) -> (String, &'static str) {
        if !parameters.tasks_for.starts_with("github-pull-request") {
            return (self.project.clone(), "");
        }
        let base = self.base_repository.rsplit('/').next().unwrap_or_default();
        (base.strip_suffix(".git").unwrap_or(base).to_owned(), "-pr")
    }

    /// Returns where people can look at a directory of the commit.
    pub(super) fn source(&self, path: &str) -> Found<String> {
        let (repository, rev) = (&self.head_repository, &self.head_rev);
        match self.repository_type.as_str() {
            "hg" => Ok(format!("{repository}/file/{rev}/{path}")),
            "git" if repository.is_empty() => Ok(String::new()),
            "git" => {
                let site = if let Some(rest) = repository.strip_prefix("git@github.com:") {
                    format!(
                        "https://github.com/{}",
                        rest.strip_suffix(".git").unwrap_or(rest)
                    )
                } else if repository.starts_with("https://github.com/") {
                    repository
                        .strip_suffix('/')
                        .unwrap_or(repository)
                        .to_owned()
                } else {
                    let text = format!(
                        "Don't know how to determine file URL for non-githubrepo: {repository}"
                    );
                    return Err(Finding::nowhere(text));
                };
                Ok(format!("{site}/blob/{rev}/{path}"))
            }
            other => Err(Finding::nowhere(format!(
                "`{other}` is no type of repository: expected git or hg"
            ))),
        }
    }
}
