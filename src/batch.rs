//! Many fetches: bounded concurrency, the first fatal error ends all, and publishing in the order of the list when
//! everything has arrived.

use crate::{
    digest::Sha256Digest,
    error::{Error, Result},
    fetch::{Context, Request, Shortcut, Staged, Wanted, fetch},
    fs::{self, Dir, Staging},
    http::Source,
    observe::{Event, Observer},
    rel_path::RelPath,
    stream::bridge::{ended_well, run_blocking},
};
use futures::{
    FutureExt,
    future::{BoxFuture, maybe_done},
};
use std::{cmp::Reverse, collections::HashMap, path::Path, sync::Arc};
use tokio::{sync::Semaphore, task::JoinSet};

/// One thing of a list, which may be wanted in several places.
pub struct Item {
    /// What to fetch.
    pub request: Request,
    /// Where it is, beside the sources of the request, if that takes asking somebody.
    pub locate: Option<Locate>,
    /// Where it goes: for each of the request's placings the position in the list, and the path below the destination.
    pub places: Vec<(usize, RelPath)>,
    /// Its size in bytes, if that is known beforehand.
    pub size: Option<u64>,
    /// The hash of what it unpacks to, if that is known beforehand.
    pub tree: Option<Sha256Digest>,
    /// Who watches it.
    pub observer: Arc<dyn Observer>,
    /// Where else it may be.
    pub shortcut: Option<Arc<dyn Shortcut>>,
}

/// Finds out where something is, which is not asked for before its turn has come and no shortcut has it.
pub type Locate = Box<dyn FnOnce() -> BoxFuture<'static, Result<Source>> + Send + Sync>;

impl Item {
    /// Takes it from its shortcut, or fetches it. There is one result for each of the request's placings.
    ///
    /// # Errors
    /// Those of the fetch; nothing of it is left.
    pub async fn get(&mut self, context: &Context) -> Result<Vec<Staged>> {
        if let Some(staged) = self.take(context).await {
            return Ok(staged);
        }
        if let Some(locate) = self.locate.take() {
            self.request.sources.push(locate().await?);
        }
        fetch(&self.request, context, &*self.observer).await
    }

    /// Takes it from its shortcut, if that has it.
    pub async fn take(&self, context: &Context) -> Option<Vec<Staged>> {
        let places: Vec<RelPath> = self.places.iter().map(|(_, dest)| dest.clone()).collect();
        let wanted = Wanted {
            request: &self.request,
            places: &places,
            tree: self.tree,
            observer: &*self.observer,
        };
        self.shortcut.as_ref()?.take(wanted, context).await
    }

    /// Says where what was made of it goes.
    fn placed(self, staged: Vec<Staged>) -> Vec<Placed> {
        let placed = self.places.into_iter().zip(staged);
        let placed = placed.map(|((position, dest), staged)| Placed {
            position,
            name: self.request.name.clone(),
            dest,
            observer: Arc::clone(&self.observer),
            staged,
        });
        placed.collect()
    }
}

/// Fetches all items, and publishes them when every one of them is complete and verified.
///
/// # Errors
/// [`Error::Fetch`] for the first fetch that fails for good. The others are cancelled then, and nothing is published.
///
/// # Cancel safety
/// When dropped, transfers end at once; jobs that write end at their next chunk and remove what they made.
pub async fn run(items: Vec<Item>, context: Arc<Context>, transfers: usize) -> Result<()> {
    let mut running = start(items, transfers, |mut item| {
        let context = Arc::clone(&context);
        async move {
            match item.get(&context).await {
                Ok(staged) => Ok(item.placed(staged)),
                Err(source) => Err(Error::Fetch {
                    name: item.request.name,
                    source: Box::new(source),
                }),
            }
        }
    });
    let mut placed = Vec::new();
    while let Some(ended) = running.join_next().await {
        placed.extend(ended_well(ended)??);
    }
    publish_all(placed, context).await
}

/// Takes all items from their shortcuts, and publishes them when every one of them is there.
///
/// # Errors
/// [`Error::Missing`] with all that no shortcut has. Nothing is published then.
pub async fn take(items: Vec<Item>, context: Arc<Context>, transfers: usize) -> Result<()> {
    let of = items.len();
    let mut running = start(items, transfers, |item| {
        let context = Arc::clone(&context);
        async move {
            Ok(match item.take(&context).await {
                Some(staged) => Ok(item.placed(staged)),
                None => Err((item.places.first().map(|place| place.0), item.request.name)),
            })
        }
    });
    let (mut placed, mut missing) = (Vec::new(), Vec::new());
    while let Some(ended) = running.join_next().await {
        match ended_well(ended)?? {
            Ok(taken) => placed.extend(taken),
            Err(item) => missing.push(item),
        }
    }
    if !missing.is_empty() {
        missing.sort();
        let names = missing.into_iter().map(|(_, name)| name).collect();
        return Err(Error::Missing { names, of });
    }
    publish_all(placed, context).await
}

/// Begins work on all items, as many at a time as there may be transfers. What is dropped ends.
fn start<T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
    mut items: Vec<Item>,
    transfers: usize,
    work: impl Fn(Item) -> F,
) -> JoinSet<Result<T>> {
    let turns = Arc::new(Semaphore::new(transfers.min(Semaphore::MAX_PERMITS)));
    // What takes longest must not begin last.
    items.sort_by_key(|item| Reverse(item.size));
    let mut running = JoinSet::new();
    for item in items {
        let mut turn = Box::pin(maybe_done(Arc::clone(&turns).acquire_owned()));
        // Stands in line from here on, in whatever order tasks begin.
        let _ = turn.as_mut().now_or_never();
        let work = work(item);
        running.spawn(async move {
            turn.as_mut().await;
            let turn = turn.as_mut().take_output();
            let _turn = turn.and_then(Result::ok).ok_or(Error::Cancelled)?;
            work.await
        });
    }
    running
}

async fn publish_all(mut placed: Vec<Placed>, context: Arc<Context>) -> Result<()> {
    placed.sort_by_key(|placed| placed.position);
    run_blocking(move || publish(&placed, &context.staging)).await
}

/// What waits to be published.
pub(crate) struct Placed {
    /// Its place in the list.
    pub(crate) position: usize,
    /// What people call it.
    pub(crate) name: String,
    /// Where it goes, below the destination.
    pub(crate) dest: RelPath,
    /// Who watches it.
    pub(crate) observer: Arc<dyn Observer>,
    /// What it is.
    pub(crate) staged: Staged,
}

/// Moves everything to where it belongs, in the order of the list, and tells who took whose place.
pub(crate) fn publish(placed: &[Placed], staging: &Staging) -> Result<()> {
    let mut owners = Owners::default();
    for Placed {
        name,
        dest,
        observer,
        staged,
        ..
    } in placed
    {
        let warn = |text| observer.on_event(&Event::Warning(text));
        staged.warnings.iter().cloned().for_each(warn);
        let mut older = 0;
        let mut on_move = |path: &RelPath, replaced: Option<&Path>| {
            let owner = owners.of(path);
            match (owner, replaced) {
                (Some(owner), Some(replaced)) => warn(format!(
                    "`{}` is provided by more than one fetch, {name} replaces what {owner} brought",
                    replaced.display()
                )),
                (None, Some(_)) => older += 1,
                (_, None) => {}
            }
            owners.set(path.clone(), name);
            owner.is_some()
        };
        let from = Dir::open(&staged.directory)?;
        staging.keep_parent();
        let into = fs::descend(staging.parent(), dest, &mut on_move)?;
        fs::merge(&from, &into, dest, &mut on_move)?;
        if older > 0 {
            warn(format!(
                "{older} paths in the destination were there before this run and are replaced"
            ));
        }
    }
    Ok(())
}

/// Who brought which path. A directory that was moved as a whole stands for all that is in it.
#[derive(Default)]
struct Owners<'a>(HashMap<RelPath, &'a str>);

impl<'a> Owners<'a> {
    fn set(&mut self, path: RelPath, name: &'a str) {
        self.0.insert(path, name);
    }

    fn of(&self, path: &RelPath) -> Option<&'a str> {
        let mut path = path.clone();
        loop {
            if let Some(name) = self.0.get(&path) {
                return Some(name);
            }
            path = path.parent()?;
        }
    }
}
