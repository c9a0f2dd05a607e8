//! `--cache-from`: images that fetches may be taken from.

use super::{export::REGISTRY, registry::reference};
use crate::{
    batch::Shortcut,
    cli::{args, ui::Ui},
    error::{Error, Result},
    fetch::Context,
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
};

/// Looks at the images that were named; nothing if there are none. Those that cannot be used are warned of.
pub(in crate::cli) async fn imports(
    args: &args::Import,
    connection: &Connection,
    context: &Arc<Context>,
    ui: &Arc<Ui>,
) -> Result<Option<Arc<dyn Shortcut>>> {
    if args.cache_from.is_empty() {
        return Ok(None);
    }
    let directory = args.cache_directory.trim_start_matches('/');
    let directory = RelPath::parse(directory.as_bytes())
        .map_err(|err| Error::usage(format!("--cache-directory {err}")))?;
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
