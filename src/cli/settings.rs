//! Tunables from the environment, `FETCH_CONTENT_…`.

use crate::{
    archive::{Limits, limits},
    cli::args::{Tuning, positive},
    error::{Error, Result},
    fetch::{Context, placing_slots},
    fs::Staging,
    http::{Client, RetryPolicy, Settings},
    store::Location,
    task::{Credentials, Queue, Secrets},
};
use std::{
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Transfers at once, unless told otherwise. They wait for latency, not for a core: with 40 ms for each of two
/// answers in a row, 40 artifacts of 8 MB take 1.1 times as long with 8 and 2.1 times with 2 on two cores.
const TRANSFERS: usize = 16;

/// What the environment may tune.
#[derive(Clone)]
pub(super) struct Tunables {
    pub(super) transfers: usize,
    pub(super) retry: RetryPolicy,
    pub(super) http: Settings,
    pub(super) limits: Limits,
}

impl Tunables {
    /// Makes the client of a run.
    pub(super) fn client(&self) -> Result<Client> {
        Client::new(self.http.clone())
    }

    /// Returns what all fetches of a run share that began at `start` and works in `staging`.
    pub(super) fn context(self, client: Client, staging: Staging, start: Instant) -> Context {
        self.context_in(client, Arc::new(staging), start)
    }

    /// The same for a staging area that others work in, too.
    pub(super) fn context_in(
        self,
        client: Client,
        staging: Arc<Staging>,
        start: Instant,
    ) -> Context {
        Context {
            client,
            retry: self.retry,
            placing_slots: placing_slots(),
            limits: self.limits,
            staging,
            start,
        }
    }

    /// Takes what was typed, else the environment, else the defaults.
    pub(super) fn new(typed: &Tuning) -> Result<Self> {
        let (retry, http) = (RetryPolicy::default(), Settings::default());
        let time = |typed: Option<Duration>, variable, default| -> Result<Duration> {
            Ok(typed.or(milliseconds(variable)?).unwrap_or(default))
        };
        let transfers = match typed.concurrency {
            Some(typed) => typed,
            None => number("FETCH_CONTENT_CONCURRENCY")?.unwrap_or(TRANSFERS),
        };
        Ok(Self {
            transfers,
            retry: RetryPolicy {
                attempts: typed
                    .attempts
                    .or(number("FETCH_CONTENT_ATTEMPTS")?)
                    .unwrap_or(retry.attempts),
                base: time(typed.retry_base, "FETCH_CONTENT_RETRY_BASE_MS", retry.base)?,
                max: time(typed.retry_max, "FETCH_CONTENT_RETRY_MAX_MS", retry.max)?,
                retry_after_max: time(
                    typed.retry_after_max,
                    "FETCH_CONTENT_RETRY_AFTER_MAX_MS",
                    retry.retry_after_max,
                )?,
                total: typed
                    .total_timeout
                    .or(milliseconds("FETCH_CONTENT_TOTAL_TIMEOUT_MS")?)
                    .or(retry.total),
            },
            http: Settings {
                connect_timeout: time(
                    typed.connect_timeout,
                    "FETCH_CONTENT_CONNECT_TIMEOUT_MS",
                    http.connect_timeout,
                )?,
                stall_timeout: time(
                    typed.stall_timeout,
                    "FETCH_CONTENT_STALL_TIMEOUT_MS",
                    http.stall_timeout,
                )?,
                min_speed: typed
                    .min_speed
                    .or(number("FETCH_CONTENT_MIN_SPEED")?)
                    .unwrap_or(http.min_speed),
                connections: typed
                    .connections
                    .or(number("FETCH_CONTENT_CONNECTIONS")?)
                    .unwrap_or(http.connections),
                answers: transfers,
            },
            limits: limits()?,
        })
    }
}

fn limits() -> Result<Limits> {
    let limits = Limits::default();
    Ok(Limits {
        expanded_size: number(limits::MAX_EXPANDED_SIZE)?.unwrap_or(limits.expanded_size),
        expansion: number(limits::MAX_EXPANSION)?.unwrap_or(limits.expansion),
        entries: number(limits::MAX_ENTRIES)?.unwrap_or(limits.entries),
        path_length: number(limits::MAX_PATH_LENGTH)?.unwrap_or(limits.path_length),
        path_depth: number(limits::MAX_PATH_DEPTH)?.unwrap_or(limits.path_depth),
        header_size: number(limits::MAX_HEADER_SIZE)?.unwrap_or(limits.header_size),
        window: number(limits::MAX_WINDOW)?.unwrap_or(limits.window),
        ..limits
    })
}

fn milliseconds(variable: &'static str) -> Result<Option<Duration>> {
    Ok(number(variable)?.map(Duration::from_millis))
}

/// Returns the value of a variable that is set and not empty; it must be a positive number.
fn number<N: FromStr + Default + PartialEq>(variable: &'static str) -> Result<Option<N>> {
    let Some(text) = text(variable)? else {
        return Ok(None);
    };
    let problem = |expected| format!("{variable} is `{}`, {expected}", text.escape_debug());
    positive(&text)
        .map(Some)
        .map_err(|expected| Error::usage(problem(expected)))
}

/// Returns the store that was typed, or that of the user.
pub(super) fn store(typed: Option<PathBuf>) -> Result<Location> {
    if let Some(typed) = typed {
        return Location::new(typed);
    }
    let set = |variable| std::env::var_os(variable).filter(|value| !value.is_empty());
    let cache = match (set("XDG_CACHE_HOME"), set("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => {
            return Err(Error::Usage {
                what: "no store specified, and neither XDG_CACHE_HOME nor HOME is set".into(),
                hint: Some("pass --store DIR".into()),
            });
        }
    };
    Ok(Location::Folder(cache.join("fetch-content").join("store")))
}

/// Returns the queue of the deployment that the environment names, if it names one.
pub(super) fn queue() -> Result<Option<Queue>> {
    let Some(root) = text("TASKCLUSTER_ROOT_URL")? else {
        return Ok(None);
    };
    let proxy = text("TASKCLUSTER_PROXY_URL")?;
    Queue::new(&root, proxy.as_deref(), Credentials::from_variables(text)?).map(Some)
}

/// Returns the secrets of the deployment that the environment names.
pub(super) fn secrets() -> Result<Secrets> {
    Secrets::new(
        text("TASKCLUSTER_ROOT_URL")?.as_deref(),
        text("TASKCLUSTER_PROXY_URL")?.as_deref(),
        Credentials::from_variables(text)?,
    )
}

/// Returns the value of a variable that is set and not empty.
pub(super) fn text(variable: &'static str) -> Result<Option<String>> {
    match std::env::var(variable) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Error::usage(format!("{variable} is not valid UTF-8")))
        }
    }
}
