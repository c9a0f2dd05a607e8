//! `fetch-content cache check`: what run-task would say.

use super::args;
use crate::{
    cachedir::{Finding, Tenant, audit, inspect},
    cli::ui::Ui,
    error::{Error, Result},
};

pub(super) fn run(args: &args::Check) -> Result<()> {
    let tenant = Tenant::from(&args.tenant);
    let (mut unusable, mut first) = (0, None);
    for path in &args.paths {
        let finding = inspect(path, &tenant)?;
        let lines = [finding.line(path, &tenant), finding.warning(path, &tenant)];
        for line in lines.iter().flatten() {
            Ui::data(line)?;
        }
        match &finding {
            Finding::Empty | Finding::Usable(_) => {}
            Finding::Inheritable(_) => Ui::data(&format!(
                "cache {} would be given to {}:{}, since the task's caches are untrusted",
                path.display(),
                tenant.user,
                tenant.group
            ))?,
            Finding::Refused(refusal) => {
                // A log that cannot be read is a refusal of its own.
                let log = audit::read(path).unwrap_or_default();
                Ui::data(&refusal.message(path, &tenant, &log))?;
                unusable += 1;
                first.get_or_insert(refusal.purges());
            }
        }
    }
    match first {
        None => Ok(()),
        Some(purge) => Err(Error::Caches {
            unusable,
            all: args.paths.len(),
            purge,
        }),
    }
}
