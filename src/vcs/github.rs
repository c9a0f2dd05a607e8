//! The shortcut for what is on GitHub: the archive that it makes of a commit, under the Python tool's conditions.
//!
//! Nobody says which bytes that archive must have: it is what GitHub sends for the commit over TLS, whole by its length
//! and by the checksum of gzip. A checkout by git, whose objects are checked by their hashes, is what there is without
//! the shortcut.

use crate::{
    archive::{Placing, Repack},
    error::{self, Result},
    fetch::{self, Context, Staged},
    http::{Address, Attempts, RetryPolicy, Source},
    observe::{Event, Observer},
    vcs::wanted::Wanted,
    verify::Expected,
};
use url::Url;

/// What the shortcut's repositories begin with.
const GITHUB: &str = "https://github.com/";

/// Attempts to find out whether there are submodules: without an answer there is still git.
const ATTEMPTS: u32 = 3;

/// Fetches GitHub's archive of a commit and repacks it; `None` if git has to do it.
pub(super) async fn fetch(
    wanted: &Wanted<'_>,
    context: &Context,
    observer: &dyn Observer,
) -> Result<Option<Staged>> {
    if wanted.include_dot_git || !wanted.typed.starts_with(GITHUB) {
        return Ok(None);
    }
    let revision = wanted.revision.to_string();
    let (Some(modules), Some(archive)) = (
        page(wanted.typed, "blob", &revision, "/.gitmodules"),
        page(wanted.typed, "archive", &revision, ".tar.gz"),
    ) else {
        return Ok(None);
    };
    if has_submodules(modules, context, observer).await {
        return Ok(None);
    }
    let request = fetch::Request {
        name: wanted.repository.to_string(),
        sources: vec![Source::Url(Box::new(archive.into()))],
        expected: Expected::default().known(),
        signed: None,
        placings: vec![Placing::Repack(Repack {
            strip_components: 1,
            add_prefix: format!("{}/", String::from_utf8_lossy(wanted.prefix.as_bytes())),
            wrap_as: None,
        })],
        file_name: wanted.file_name.to_owned(),
    };
    match fetch::fetch(&request, context, observer).await {
        Ok(staged) => Ok(staged.into_iter().next()),
        // So it is for a private repository, for which git may have credentials.
        Err(err) if err.is_absence() => {
            warn(observer, &format!("{}; trying git", error::chain(&err)));
            Ok(None)
        }
        Err(err) => Err(err),
    }
}

/// Returns the address of something at a revision; `None` if the revision is not such that it can be in one.
fn page(repo: &str, what: &str, revision: &str, end: &str) -> Option<Url> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if !revision.bytes().all(plain)
        || revision
            .split('/')
            .any(|part| matches!(part, "" | "." | ".."))
    {
        return None;
    }
    let repo = repo.trim_end_matches('/');
    Url::parse(&format!("{repo}/{what}/{revision}{end}")).ok()
}

/// Asks for the file that tells of submodules. Whatever is no clear answer is taken for a yes.
async fn has_submodules(file: Url, context: &Context, observer: &dyn Observer) -> bool {
    let address = Address::from(file);
    let policy = RetryPolicy {
        attempts: ATTEMPTS.min(context.retry.attempts),
        ..context.retry.clone()
    };
    let attempts = Attempts::new(&policy, observer);
    let asked = attempts.run(|| async { context.client.get(&address).await.map(drop) });
    match asked.await {
        Ok(()) => true,
        Err(err) if err.is_absence() => false,
        Err(err) => {
            let cause = error::chain(&err);
            warn(
                observer,
                &format!("cannot tell whether there are submodules: {cause}; using git"),
            );
            true
        }
    }
}

fn warn(observer: &dyn Observer, text: &str) {
    observer.on_event(&Event::Warning(text.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::page;

    #[test]
    fn pages_are_below_the_repository() {
        let page = |revision| page("https://github.com/a/b//", "blob", revision, "/x");
        assert_eq!(
            page("release/1.0").unwrap().as_str(),
            "https://github.com/a/b/blob/release/1.0/x"
        );
        for revision in ["../../c", "a//b", "a?b", "main^", "a b", "a#b", "%2e%2e"] {
            assert_eq!(page(revision), None, "{revision}");
        }
    }
}
