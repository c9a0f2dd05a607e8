//! The checkouts of a task: the key for one, the log of git, and what ends it.

use super::{Stop, supervise};
use crate::{
    cachedir::EXIT_CONFIGURATION,
    cli::{args::Tuning, interrupted, settings, settings::Tunables, task_log, ui::Ui},
    error::{self, Error, Result},
    fs::Staging,
    run_task::{Lines, command::Signals, environment, repositories::Checkout},
    task::Secrets,
    vcs::{self, Console, Means, Ran},
};
use std::{
    env,
    ffi::OsString,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};
use tokio::{runtime::Runtime, sync::Notify};

/// Where tasks get secrets from, unless told otherwise.
const PROXY: &str = "http://taskcluster";

/// The most of git's output that is looked at, in bytes from the end.
const SAID: usize = 16 * 1024;

/// Makes checkouts, and returns the variables that tell their commits.
pub(super) fn make(
    checkouts: &[Checkout],
    here: &Path,
    runtime: &Runtime,
) -> Result<Vec<(String, OsString)>, Stop> {
    let mut changes = Vec::new();
    for checkout in checkouts {
        let log = Log::new(here);
        let commit = runtime.block_on(async {
            let signal = interrupted();
            tokio::pin!(signal);
            let made = one(checkout, &log);
            tokio::pin!(made);
            tokio::select! {
                // What comes with the end of one git must not miss the next.
                biased;
                number = &mut signal => {
                    log.is_interrupted.store(true, Ordering::SeqCst);
                    // Git got the signal, too, and cleans up.
                    while log.is_running.load(Ordering::SeqCst) {
                        tokio::select! {
                            _ = &mut made => break,
                            () = log.ended.notified() => {}
                        }
                    }
                    Err(Stop { code: 128 + number, message: format!("error: interrupted by signal {number}") })
                }
                made = &mut made => made.map_err(|err| log.stop(&err)),
            }
        })?;
        changes.push((format!("{}_HEAD_REV", checkout.prefix), commit.into()));
    }
    Ok(changes)
}

async fn one(checkout: &Checkout, log: &Log) -> Result<String> {
    let tunables = Tunables::new(&Tuning::default())?;
    let observer = Ui::logging_under("vcs").listen("git");
    let copy = &checkout.copy;
    if copy.head_ref.is_none() {
        task_log::plain("Providing a ref will improve the performance of this checkout");
    }
    let mut home = None;
    let mut ssh_command = None;
    if let Some(name) = &checkout.ssh_secret {
        let proxy = settings::text("TASKCLUSTER_PROXY_URL")?;
        let proxy = proxy.as_deref().unwrap_or(PROXY);
        let key = Secrets::new(None, Some(proxy), None)?.secret(name);
        log.say(&format!("fetching secret {name} from {}", key.url));
        // The key is gone when the checkout is made.
        let home = home.insert(Staging::inside(&env::temp_dir())?);
        let client = (&tunables.client()?, &tunables.retry);
        ssh_command = vcs::ssh_command(&key, &home.fresh()?, client, &*observer).await?;
    }
    let means = Means {
        console: log,
        ssh_command,
        retry: &tunables.retry,
        observer: &*observer,
    };
    copy.make(&means).await
}

/// The log of a task, to which git writes.
struct Log {
    here: OsString,
    is_running: AtomicBool,
    is_interrupted: AtomicBool,
    ended: Notify,
    /// The exit code of the last git that failed.
    code: AtomicU8,
}

impl Log {
    fn new(here: &Path) -> Arc<Self> {
        Arc::new(Self {
            here: here.as_os_str().to_owned(),
            is_running: AtomicBool::new(false),
            is_interrupted: AtomicBool::new(false),
            ended: Notify::new(),
            code: AtomicU8::new(EXIT_CONFIGURATION),
        })
    }

    /// The end of the task, with the exit code of the git that failed.
    fn stop(&self, err: &Error) -> Stop {
        let cause = match err {
            Error::GaveUp { source, .. } => source,
            other => other,
        };
        let code = match cause {
            Error::Git { .. } => self.code.load(Ordering::SeqCst),
            _ => EXIT_CONFIGURATION,
        };
        let mut message = format!("error: {}", error::chain(err));
        if let Some(hint) = err.hint() {
            message = format!("{message}\nhint: {hint}");
        }
        Stop { code, message }
    }
}

impl Console for Log {
    fn say(&self, line: &str) {
        task_log::line("vcs", line);
    }

    fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Ordering::SeqCst)
    }

    async fn run(
        &self,
        mut command: Command,
        arguments: &[OsString],
        secrets: &[String],
    ) -> Result<Ran> {
        self.say(&format!("executing {}", environment::shown(arguments)));
        for variable in environment::PRIVATE {
            command.env_remove(variable);
        }
        command.env("TASK_WORKDIR", &self.here);
        let not_started = |source| Error::Fs {
            action: "run",
            path: "git".into(),
            source,
        };
        let mut signals = Signals::take_over().map_err(not_started)?;
        let mut said = Vec::new();
        let mut watch = |bytes: &[u8]| {
            said.extend_from_slice(bytes);
            said.drain(..said.len().saturating_sub(SAID));
        };
        self.is_running.store(true, Ordering::SeqCst);
        let lines = Lines::without(secrets);
        let ended = supervise(command, ("vcs", lines), &mut signals, &mut watch).await;
        self.is_running.store(false, Ordering::SeqCst);
        self.ended.notify_one();
        let code = ended.map_err(not_started)?.code;
        if code != 0 {
            self.code.store(code, Ordering::SeqCst);
        }
        Ok(Ran { code, said })
    }
}
