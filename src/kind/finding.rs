//! [`Finding`]: something that is wrong or odd in the files of a task graph, and where.

use super::yaml::{Node, Place};
use crate::error::Error;
use std::fmt;

/// Something that is wrong or odd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Option<Place>,
    /// The label of the task it concerns.
    pub task: Option<String>,
    /// What.
    pub text: String,
    /// What can be done about it.
    pub hint: Option<String>,
}

/// The result of reading something in the files of a task graph.
pub(super) type Found<T> = Result<T, Finding>;

impl Finding {
    pub(super) fn new(place: &Place, text: impl Into<String>) -> Self {
        Self {
            place: Some(place.clone()),
            task: None,
            text: text.into(),
            hint: None,
        }
    }

    /// Makes one about a file that cannot be read, or anything else that knows its own place.
    pub(super) fn nowhere(text: impl Into<String>) -> Self {
        Self {
            place: None,
            task: None,
            text: text.into(),
            hint: None,
        }
    }

    pub(super) fn at(node: &Node, text: impl Into<String>) -> Self {
        Self::new(&node.place, text)
    }

    /// Adds which task it concerns, if that is not known yet.
    pub(super) fn of_task(mut self, label: &str) -> Self {
        self.task.get_or_insert_with(|| label.to_owned());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if let Some(task) = &self.task {
            write!(f, "{task}: ")?;
        }
        f.write_str(&self.text)
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Usage {
            what: finding.to_string(),
            hint: finding.hint,
        }
    }
}
