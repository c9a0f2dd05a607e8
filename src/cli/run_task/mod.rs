//! `run-task`: prepares caches and volumes, gives up root, fetches, and runs the task's command.

mod args;

use crate::{
    cachedir::{self, EXIT_CONFIGURATION, Finding, Tenant, audit},
    cli::{
        args::{Command, TaskArtifacts},
        execute, task_log,
        ui::Ui,
    },
    error::{self, Error},
    fs, heap,
    run_task::{
        Account, Lines,
        command::{self, Ended},
        environment::{self, Repositories},
        privileges::{NewPrivileges, become_user},
    },
};
use args::Args;
use clap::Parser;
use std::{env, ffi::OsString, io, path::Path, process::ExitCode};

/// Why the command is not run, as it is logged, and the exit code.
struct Stop {
    code: u8,
    message: String,
}

impl Stop {
    fn configuration(message: impl Into<String>) -> Self {
        Self {
            code: EXIT_CONFIGURATION,
            message: message.into(),
        }
    }
}

impl From<Error> for Stop {
    fn from(err: Error) -> Self {
        Self::configuration(format!("error: {}", error::chain(&err)))
    }
}

/// Runs the program and returns its exit code.
#[must_use]
pub fn run_task() -> ExitCode {
    // Whoever starts this may have left files open; the command gets standard input, output and error.
    close_fds::set_fds_cloexec(3, &[]);
    heap::return_what_is_freed();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(err) => {
            let _ = err.print();
            if err.use_stderr()
                && env::args_os().any(|argument| args::is_about_checkouts(&argument))
            {
                task_log::plain("hint: this run-task makes no checkouts: use the Python run-task");
            }
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    ExitCode::from(task(&args).unwrap_or_else(|stop| {
        task_log::plain(&stop.message);
        stop.code
    }))
}

/// Everything from the start to the end of the command, whose exit code is returned.
fn task(args: &Args) -> Result<u8, Stop> {
    let here = env::current_dir()
        .map_err(|err| Stop::configuration(format!("error: no working directory: {err}")))?;
    let typed: Vec<_> = env::args_os().skip(1).collect();
    let typed = typed.join(" ".as_ref());
    task_log::line("setup", &format!("run-task started in {}", here.display()));
    task_log::line("setup", &format!("Invoked by command: {}", typed.display()));
    let repositories = Repositories::from_environment().map_err(Stop::configuration)?;
    refuse_what_needs_python(&repositories)?;
    let is_root = rustix::process::getuid().is_root();
    let account = if is_root {
        Account::look_up(&args.user, &args.group)
            .map_err(|err| Stop::configuration(error::chain(&err)))?
    } else {
        Account::own()
    };
    if is_root {
        open_kvm();
    }
    prepare_directories(&account, is_root)?;
    if is_root {
        give_up_root(args, &account)?;
    }
    let mut changes = vec![("TASK_WORKDIR".to_owned(), here.clone().into_os_string())];
    for (variable, path) in repositories.absolute_paths(&here) {
        task_log::line("setup", &format!("{variable} is {}", path.display()));
        changes.push((variable, path));
    }
    if env::var_os("MOZ_FETCHES").is_some_and(|list| !list.is_empty()) {
        fetch()?;
    }
    run(args, changes)
}

/// Python scripts that would be left out are a reason not to begin.
fn refuse_what_needs_python(repositories: &Repositories) -> Result<(), Stop> {
    let needed = repositories.needing_python();
    if needed.is_empty() {
        return Ok(());
    }
    Err(Stop::configuration(format!(
        "error: {} cannot be done without Python: unset it, or use the Python run-task",
        needed.join(", ")
    )))
}

/// Lets everybody use virtual machines, for emulators.
fn open_kvm() {
    if let Err(err) = fs::allow_everybody(Path::new("/dev/kvm")) {
        // Where the container has it from outside, it is open already or nobody can.
        task_log::line("setup", &format!("warning: {}", error::chain(&err)));
    }
}

fn prepare_directories(account: &Account, is_root: bool) -> Result<(), Stop> {
    let tenant = Tenant {
        owner: account.owner,
        user: account.user.clone(),
        group: account.group.clone(),
        untrusted: env::var_os(environment::UNTRUSTED_CACHES).is_some(),
        is_root,
        task: env::var_os("TASK_ID"),
    };
    let mut say = |topic: &'static str, text: &str| task_log::line(topic, text);
    let caches = environment::paths(environment::CACHES);
    for cache in &caches {
        if let Finding::Refused(refusal) = cachedir::prepare(cache, &tenant, &mut say)? {
            let log = audit::read(cache).unwrap_or_default();
            return Err(Stop {
                code: refusal.exit_code(),
                message: refusal.message(cache, &tenant, &log),
            });
        }
    }
    for volume in environment::paths(environment::VOLUMES) {
        let made = cachedir::prepare_volume(&volume, &caches, &tenant, &mut say)?;
        if let Some(problem) = made.problem(&volume) {
            return Err(Stop::configuration(problem));
        }
    }
    Ok(())
}

fn give_up_root(args: &Args, account: &Account) -> Result<(), Stop> {
    let Account { user, group, .. } = account;
    task_log::line("setup", &format!("running as {user}:{group}"));
    let new_privileges = if args.allow_new_privileges {
        NewPrivileges::Allowed
    } else {
        NewPrivileges::Never
    };
    become_user(account, new_privileges)
        .map_err(|err| Stop::configuration(format!("error: cannot become {user}:{group}: {err}")))
}

/// Does what `fetch-content task-artifacts` would, as the task's user.
fn fetch() -> Result<(), Stop> {
    task_log::line("fetches", "fetching artifacts");
    fs::umask();
    let ui = Ui::logging_under("fetches");
    match execute(Command::TaskArtifacts(TaskArtifacts::default()), &ui) {
        0 => {
            task_log::line("fetches", "finished fetching artifacts");
            Ok(())
        }
        code => Err(Stop {
            code,
            message: "error: the fetches failed, so the command is not run".to_owned(),
        }),
    }
}

/// Runs the command and returns the exit code.
fn run(args: &Args, changes: Vec<(String, OsString)>) -> Result<u8, Stop> {
    task_log::line(
        "task",
        &format!("executing {}", environment::shown(&args.command)),
    );
    let (program, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| Stop::configuration("error: there is no command: write it behind `--`"))?;
    let mut task = std::process::Command::new(program);
    task.args(arguments).envs(changes);
    for variable in environment::PRIVATE {
        task.env_remove(variable);
    }
    if let Some(directory) = &args.task_cwd {
        if !directory.is_dir() {
            return Err(Stop::configuration(format!(
                "error: --task-cwd {} is not a directory",
                directory.display()
            )));
        }
        task.current_dir(directory);
    }
    let ended = supervise(task).map_err(|err| Stop {
        code: match err.kind() {
            io::ErrorKind::NotFound => 127,
            _ => 126,
        },
        message: format!("error: cannot run {}: {err}", program.display()),
    })?;
    if ended.output_is_held {
        task_log::line(
            "setup",
            "warning: the command has ended, but processes that it has left still hold its output; not waiting for them",
        );
    }
    Ok(ended.code)
}

/// Runs the command with a time before each line of its output.
fn supervise(task: std::process::Command) -> io::Result<Ended> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut lines = Lines::default();
    let mut sink = |bytes: &[u8]| {
        let mut out = Vec::new();
        lines.push(bytes, task_log::prefix("task").as_bytes(), &mut out);
        task_log::bytes(&out);
    };
    let ended = runtime.block_on(command::run(task, &mut sink));
    let mut out = Vec::new();
    lines.finish(task_log::prefix("task").as_bytes(), &mut out);
    task_log::bytes(&out);
    ended
}
