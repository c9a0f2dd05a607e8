//! `run-task`: prepares caches and volumes, gives up root, fetches, and runs the task's command.

mod args;
mod checkouts;

use crate::{
    cachedir::{self, EXIT_CONFIGURATION, Finding, Tenant, audit},
    cli::{
        args::{Command, TaskArtifacts},
        execute, task_log,
        ui::Ui,
    },
    error::{self, Error},
    fs::{self, Owner},
    heap,
    run_task::{
        Account, Lines, Place, close_inherited,
        command::{self, Ended, Signals},
        environment, prepare_parent,
        privileges::{NewPrivileges, become_user},
        repositories::{self, Checkout, Options, Repository},
    },
};
use args::Args;
use std::{
    env,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
};
use tokio::runtime::Runtime;

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
    close_inherited();
    heap::return_what_is_freed();
    let repositories = match repositories::repositories() {
        Ok(repositories) => repositories,
        Err(problem) => {
            task_log::plain(&problem);
            return ExitCode::from(EXIT_CONFIGURATION);
        }
    };
    let (args, wanted) = match Args::parse_for(repositories, env::args_os()) {
        Ok(parsed) => parsed,
        Err(err) => {
            let _ = err.print();
            if err.use_stderr()
                && env::args_os().any(|argument| args::is_about_checkouts(&argument))
            {
                task_log::plain("hint: options about checkouts begin with a key of REPOSITORIES");
            }
            return ExitCode::from(u8::try_from(err.exit_code()).unwrap_or(2));
        }
    };
    ExitCode::from(task(&args, &wanted).unwrap_or_else(|stop| {
        task_log::plain(&stop.message);
        stop.code
    }))
}

/// Everything from the start to the end of the command, whose exit code is returned.
fn task(args: &Args, wanted: &[(Repository, Options)]) -> Result<u8, Stop> {
    let here = env::current_dir()
        .map_err(|err| Stop::configuration(format!("error: no working directory: {err}")))?;
    let typed: Vec<_> = env::args_os().skip(1).collect();
    let typed = typed.join(" ".as_ref());
    task_log::line("setup", &format!("run-task started in {}", here.display()));
    task_log::line("setup", &format!("Invoked by command: {}", typed.display()));
    let repositories: Vec<_> = wanted.iter().map(|(repository, _)| repository).collect();
    refuse_what_needs_python(&repositories)?;
    let checkouts = repositories::checkouts(wanted, &here).map_err(Stop::configuration)?;
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
    let mounts = prepare_directories(&account, is_root)?;
    prepare_parents(&checkouts, &mounts, &here, is_root.then_some(account.owner))?;
    if is_root {
        give_up_root(args, &account)?;
    }
    // From here on there may be threads, and who asks for the umask changes it for a moment.
    fs::umask();
    let runtime = runtime()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::take_over().map_err(|err| Stop::configuration(format!("error: {err}")))?
    };
    let mut changes = vec![("TASK_WORKDIR".to_owned(), here.clone().into_os_string())];
    changes.extend(checkouts::make(&checkouts, &here, &runtime)?);
    let prefixes: Vec<_> = repositories
        .iter()
        .map(|repository| repository.prefix())
        .collect();
    for (variable, path) in environment::absolute_paths(&prefixes, &here) {
        task_log::line("setup", &format!("{variable} is {}", path.display()));
        changes.push((variable, path));
    }
    if env::var_os("MOZ_FETCHES").is_some_and(|list| !list.is_empty()) {
        fetch()?;
    }
    run(args, changes, (&runtime, &mut signals))
}

fn runtime() -> Result<Runtime, Stop> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| Stop::configuration(format!("error: cannot start the async runtime: {err}")))
}

/// Python scripts that would be left out are a reason not to begin.
fn refuse_what_needs_python(repositories: &[&Repository]) -> Result<(), Stop> {
    let needed = repositories::needing_python(repositories);
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

/// Makes caches and volumes ready, and returns where they are.
fn prepare_directories(account: &Account, is_root: bool) -> Result<Vec<PathBuf>, Stop> {
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
    let volumes = environment::paths(environment::VOLUMES);
    for volume in &volumes {
        let made = cachedir::prepare_volume(volume, &caches, &tenant, &mut say)?;
        if let Some(problem) = made.problem(volume) {
            return Err(Stop::configuration(problem));
        }
    }
    Ok([caches, volumes].concat())
}

/// Makes the directories that checkouts are made in. A checkout within another one is that one's business.
fn prepare_parents(
    checkouts: &[Checkout],
    mounts: &[PathBuf],
    here: &Path,
    owner: Option<Owner>,
) -> Result<(), Stop> {
    let mut done: Vec<&Path> = Vec::new();
    for checkout in checkouts
        .iter()
        .map(|checkout| checkout.copy.directory.as_path())
    {
        let is_within = done
            .iter()
            .any(|other| checkout != *other && checkout.starts_with(other));
        done.push(checkout);
        if is_within {
            continue;
        }
        let place = Place {
            checkout,
            mounts,
            here,
        };
        if let Some(warning) = prepare_parent(place, owner).map_err(Stop::configuration)? {
            task_log::line("vcs", &warning);
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
fn run(
    args: &Args,
    changes: Vec<(String, OsString)>,
    (runtime, signals): (&Runtime, &mut Signals),
) -> Result<u8, Stop> {
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
    let output = ("task", Lines::default());
    let ended = runtime.block_on(supervise(task, output, signals, &mut |_| ()));
    let ended = ended.map_err(|err| Stop {
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

/// Runs a program with a topic and a time before each line of its output. `watch` gets the output, too.
async fn supervise(
    program: std::process::Command,
    (topic, mut lines): (&str, Lines),
    signals: &mut Signals,
    watch: &mut (dyn FnMut(&[u8]) + Send),
) -> io::Result<Ended> {
    let mut sink = |bytes: &[u8]| {
        watch(bytes);
        let mut out = Vec::new();
        lines.push(bytes, task_log::prefix(topic).as_bytes(), &mut out);
        task_log::bytes(&out);
    };
    let ended = command::run(program, signals, &mut sink).await;
    let mut out = Vec::new();
    lines.finish(task_log::prefix(topic).as_bytes(), &mut out);
    task_log::bytes(&out);
    ended
}
