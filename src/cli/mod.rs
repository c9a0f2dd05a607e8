//! The command line: one file per subcommand, which turns what was typed into what the library needs. The only room
//! that names clap and indicatif, and that writes to people.

mod args;
mod cache;
mod git_checkout_archive;
mod image;
mod inputs;
mod kind;
mod run_task;
mod serve;
mod settings;
mod static_url;
mod store;
mod task_artifacts;
mod task_log;
mod ui;
mod upload;

use crate::{
    error::{self, Error, Result},
    fs, heap,
};
use args::{Args, Command};
use clap::Parser;
use std::{ffi::OsStr, path::Path, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use ui::Ui;

pub use run_task::run_task;

/// How a run ended.
enum Ended {
    Done(Result<()>),
    Signal(u8),
}

/// Runs the program and returns its exit code. By a link with the name `run-task` it is that program, so that an image
/// needs one file for both.
#[must_use]
pub fn run() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some(OsStr::new("run-task")) {
        return run_task();
    }
    heap::return_what_is_freed();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(err) => {
            // Also `--help` and `--version`, which exit with 0.
            let _ = err.print();
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    if matches!(&args.command, Command::Image(image) if image.makes_an_image()) {
        // Whoever makes an image: it is the same.
        fs::set_umask(0o022.into());
    }
    // The system tells the umask only by changing it, which must not happen beside other threads.
    fs::umask();
    ExitCode::from(execute(args.command, &Ui::new()))
}

/// Runs a subcommand to its end, or until a signal comes, and returns the exit code.
fn execute(subcommand: Command, ui: &std::sync::Arc<Ui>) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(async_threads())
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(err) => {
            ui.line(&format!("error: cannot start the async runtime: {err}"));
            return 1;
        }
    };
    let ends_by_signal = matches!(subcommand, Command::Serve(_));
    let ended = runtime.block_on(async {
        // From here on signals end the run and not the process.
        let interrupted = interrupted();
        tokio::select! {
            ended = command(subcommand, ui) => Ended::Done(ended),
            number = interrupted, if !ends_by_signal => Ended::Signal(number),
        }
    });
    // Waits for blocking jobs: the last one to end removes the staging directory.
    drop(runtime);
    ui.clear();
    match ended {
        Ended::Done(Ok(())) => 0,
        Ended::Done(Err(err)) => {
            report(ui, &err);
            err.kind().exit_code()
        }
        Ended::Signal(number) => {
            ui.line(&format!("error: interrupted by signal {number}"));
            128 + number
        }
    }
}

/// Returns how many threads receive, decrypt and hash: half as many as there are cores. Decoding and writing have threads
/// of their own, and with one of these for each core transfers move between them all the time: on two cores a file of
/// 400 MB takes 1.1 times as long, and 40 archives 1.03 times. Four clients of `serve` wait no longer with half.
fn async_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

async fn command(command: Command, ui: &std::sync::Arc<Ui>) -> Result<()> {
    match command {
        Command::StaticUrl(args) => static_url::run(args, ui).await,
        Command::GitCheckoutArchive(args) => git_checkout_archive::run(args, ui).await,
        Command::TaskArtifacts(args) => task_artifacts::run(args, ui).await,
        Command::Upload(args) => upload::run(args, ui).await,
        Command::Kind(args) => kind::run(args, ui).await,
        Command::Inputs(args) => inputs::run(*args, ui).await,
        Command::Store(args) => store::run(args, ui).await,
        Command::Serve(args) => serve::run(args, ui).await,
        Command::Cache(args) => cache::run(args),
        Command::Image(args) => image::run(args, ui).await,
    }
}

/// Takes over the signals that ask to end, at once; the future is the number of the first that comes.
fn interrupted() -> impl Future<Output = u8> {
    let signals = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    );
    async {
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => 2,
            _ = terminate.recv() => 15,
        }
    }
}

/// Writes an error, one line per cause, and what can be done about it.
fn report(ui: &Ui, err: &Error) {
    let mut prefix = "error";
    for cause in error::causes(err) {
        ui.line(&format!("{prefix}: {cause}"));
        prefix = "  caused by";
    }
    if let Some(hint) = err.hint() {
        ui.line(&format!("hint: {hint}"));
    }
}
