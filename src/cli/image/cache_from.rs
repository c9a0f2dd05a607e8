//! `--cache-from`: images that fetches may be taken from.

use super::{export::REGISTRY, registry::reference};
use crate::{
    cli::{args, ui::Ui},
    error::{Error, Result},
    fetch::{Context, Shortcut},
    http::RetryPolicy,
    oci::{
        Blobs, Layout, Tagged,
        import::Imports,
        registry::{Connection, Remote, Repository},
    },
    rel_path::RelPath,
    stream::bridge::run_blocking,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// Looks at the images that were named; nothing if there are none. Those that cannot be used are warned of.
pub(in crate::cli) async fn imports(
    args: &args::Import,
    connection: &Connection,
    context: &Context,
    ui: &Arc<Ui>,
) -> Result<Option<Arc<dyn Shortcut>>> {
    if args.cache_from.is_empty() {
        return Ok(None);
    }
    let directory = args.cache_directory.trim_start_matches('/');
    let directory = RelPath::parse(directory.as_bytes())
        .map_err(|err| Error::usage(format!("--cache-directory {err}")))?;
    let (connection, context) = (&brief(connection), &brief_in(context));
    let mut images: Vec<Arc<dyn Blobs>> = Vec::new();
    for named in &args.cache_from {
        if let Some(name) = named.strip_prefix(REGISTRY) {
            let repository = Repository::reading(&reference(name)?, connection)?;
            let remote = Remote::new(repository, Arc::clone(context), ui.listen(named));
            images.push(Arc::new(remote));
            continue;
        }
        let named = named.clone();
        match run_blocking(move || open(&named)).await {
            Ok(image) => images.push(Arc::new(image)),
            Err(err) => ui.warning(&format!("no cache is used: {}", crate::error::chain(&err))),
        }
    }
    let warn = |text: String| ui.warning(&text);
    let imports = Imports::open(images, &args.trust_cache, directory, &warn).await;
    Ok(Some(Arc::new(imports)))
}

/// Attempts at most, seconds for a manifest, and seconds that a registry may ask to wait.
const ATTEMPTS: u32 = 3;
const TOTAL: Duration = Duration::from_secs(30);
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Returns how a registry is asked that need not answer: there is a source for everything.
fn brief(connection: &Connection) -> Connection {
    Connection {
        retry: in_time(&few(&connection.retry)),
        ..connection.clone()
    }
}

/// The same for blobs, which take the time that they take.
fn brief_in(context: &Context) -> Arc<Context> {
    Arc::new(Context {
        retry: few(&context.retry),
        ..context.clone()
    })
}

fn in_time(retry: &RetryPolicy) -> RetryPolicy {
    let total = retry.total.map_or(TOTAL, |total| total.min(TOTAL));
    RetryPolicy {
        total: Some(total),
        ..retry.clone()
    }
}

fn few(retry: &RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        attempts: retry.attempts.min(ATTEMPTS),
        retry_after_max: retry.retry_after_max.min(RETRY_AFTER),
        ..retry.clone()
    }
}

/// Opens a layout, whose name may have a tag at its end.
fn open(named: &str) -> Result<Tagged> {
    let path = Path::new(named);
    let (path, tag) = match named.rsplit_once(':') {
        Some((before, tag)) if !path.exists() && !tag.contains('/') => {
            (PathBuf::from(before), Some(tag.to_owned()))
        }
        _ => (path.to_owned(), None),
    };
    Ok(Tagged {
        layout: Arc::new(Layout::open(&path)?),
        tag,
    })
}

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, Duration, RetryPolicy, TOTAL, few, in_time};

    #[test]
    fn registries_get_less_time_than_was_typed_and_never_more() {
        let usual = in_time(&few(&RetryPolicy::default()));
        assert_eq!((usual.attempts, usual.total), (ATTEMPTS, Some(TOTAL)));
        assert!(usual.retry_after_max < TOTAL);
        let typed = RetryPolicy {
            attempts: 1,
            total: Some(Duration::from_secs(2)),
            retry_after_max: Duration::from_secs(1),
            ..RetryPolicy::default()
        };
        let less = in_time(&few(&typed));
        assert_eq!((less.attempts, less.total), (1, typed.total));
        assert_eq!(less.retry_after_max, typed.retry_after_max);
        // A layer takes the time that it takes.
        assert_eq!(few(&RetryPolicy::default()).total, None);
    }
}
