//! [`Failures`]: what becomes of a verb some of whose tasks fail.

use crate::{
    cli::{report, ui::Ui},
    error::{Error, Kind, Result},
};

/// The tasks of a run that have failed.
#[derive(Default)]
pub(super) struct Failures(Vec<Kind>);

impl Failures {
    /// Tells of a failure at once.
    pub(super) fn note(&mut self, err: &Error, ui: &Ui) {
        report(ui, err);
        self.0.push(err.kind());
    }

    /// Ends a run of so many tasks.
    ///
    /// # Errors
    /// [`Error::Some`] if any has failed.
    pub(super) fn end(&self, of: usize) -> Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some(&kind) => Err(Error::Some {
                failed: self.0.len(),
                of,
                kind,
            }),
        }
    }
}
