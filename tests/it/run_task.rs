//! `run-task`: privileges, fetches, the command's output and signals, and its life as the process with the id 1.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::support::archives::{file, gz, tar_of};
use crate::support::run_task::{
    REQUIRES, SOMEBODY_ELSE, as_somebody, give, is_root, make_cache, open_sandbox, owners,
    run_task, without_time,
};
use crate::support::sandbox::{
    Invocation, Outcome, Running, Sandbox, TASK_A, artifact, wait_until,
};
use crate::support::server::{Reply, Server};
use crate::support::skip::{have_programs, skip};

/// A run-task whose command runs as who the test is, be it root or not.
fn as_self(sandbox: &Sandbox) -> Invocation<'_> {
    run_task(sandbox).args(["--user", "root", "--group", "root"])
}

/// What the command wrote, without prefixes; each line must have one.
fn task_lines(outcome: &Outcome) -> Vec<String> {
    let lines = outcome.stdout.lines();
    let lines = lines.filter_map(|line| {
        let line = without_time(line);
        line.strip_prefix("[task] ").map(str::to_owned)
    });
    lines.skip(1).collect()
}

fn code(outcome: &Outcome) -> Option<i32> {
    outcome.status.code()
}

#[test]
fn a_link_to_the_other_program_is_this_one() {
    let sandbox = Sandbox::new();
    let link = sandbox.path("run-task");
    symlink(env!("CARGO_BIN_EXE_fetch-content"), &link).expect("link the program");
    let run = sandbox
        .program(link)
        .args(["--user", "root", "--group", "root"]);
    let outcome = run.args(["--", "sh", "-c", "echo one; exit 3"]).run();
    assert_eq!(code(&outcome), Some(3), "{outcome:?}");
    assert_eq!(task_lines(&outcome), ["one"]);
}

#[test]
fn lines_of_both_outputs_have_prefixes_and_an_order() {
    let sandbox = Sandbox::new();
    let script = r"echo one; echo two >&2; printf '10 %%\r20 %%\r\n\nlast'; exit 3";
    let outcome = as_self(&sandbox).args(["--", "sh", "-c", script]).run();
    assert_eq!(code(&outcome), Some(3), "{outcome:?}");
    assert_eq!(
        task_lines(&outcome),
        ["one", "two", "10 %", "20 %", "", "last"]
    );
    assert!(!outcome.stdout.ends_with('\n'), "{outcome:?}");
    assert!(outcome.stderr.is_empty(), "{outcome:?}");
    let executing = outcome
        .stdout
        .lines()
        .find(|line| line.contains("executing"));
    let executing = executing.expect("a line that tells the command");
    // [task 2026-08-01T10:20:30.123+00:00] executing [...]
    let time = executing.split(' ').nth(1).expect("a time");
    assert_eq!(time.len(), "2026-08-01T10:20:30.123+00:00]".len(), "{time}");
    assert!(time.ends_with("+00:00]"), "{time}");
    assert!(executing.contains("['sh', '-c', "), "{executing}");
}

#[test]
fn exit_codes_are_those_of_the_command() {
    let sandbox = Sandbox::new();
    sandbox.write("no-program", "");
    for (command, expected) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["no-such-program"], 127),
        (&["./no-program"], 126),
    ] {
        // Where a directory of PATH cannot be looked into, nobody knows what is there.
        let invocation = as_self(&sandbox).env("PATH", "/usr/bin:/bin");
        let outcome = invocation.args(["--"]).args(command).run();
        assert_eq!(code(&outcome), Some(expected), "{outcome:?}");
    }
}

/// Something that is wrong: arguments, a variable and its value, the exit code, and what is said.
type Mistake = (
    &'static [&'static str],
    (&'static str, &'static str),
    i32,
    &'static str,
);

const NOTHING: (&str, &str) = ("UNUSED", "");

const MISTAKES: &[Mistake] = &[
    (
        &["--no-such-option", "--", "true"],
        NOTHING,
        2,
        "--no-such-option",
    ),
    (
        &["--comm-checkout=x", "--", "true"],
        NOTHING,
        2,
        "options about checkouts begin with a key of REPOSITORIES",
    ),
    (
        &["--vcs-checkout=x", "--", "true"],
        NOTHING,
        1,
        "VCS_REPOSITORY_TYPE is ``",
    ),
    (
        &["--vcs-checkout=x", "--", "true"],
        ("VCS_REPOSITORY_TYPE", "hg"),
        1,
        "VCS_REPOSITORY_TYPE is `hg`, which is not supported: use the Python run-task",
    ),
    (
        &["--vcs-sparse-profile=x", "--", "true"],
        NOTHING,
        1,
        "--vcs-sparse-profile and VCS_SPARSE_PATTERNS are not supported",
    ),
    (
        &["--", "true"],
        ("VCS_SPARSE_PATTERNS", "[]"),
        1,
        "--vcs-sparse-profile and VCS_SPARSE_PATTERNS are not supported",
    ),
    (
        &["--", "true"],
        ("REPOSITORIES", r#"{"a b": "c"}"#),
        1,
        "REPOSITORIES has the key `a b`",
    ),
    (&["true"], NOTHING, 2, "true"),
    (&["--"], NOTHING, 2, "COMMAND"),
    (
        &["--", "true"],
        ("REPOSITORIES", "[]"),
        1,
        "REPOSITORIES is not",
    ),
    (
        &["--", "true"],
        ("RUN_TASK_STARTUP_HOOK", "x.py"),
        1,
        "RUN_TASK_STARTUP_HOOK cannot be done without Python",
    ),
    (
        &["--", "true"],
        ("VCS_PIP_REQUIREMENTS", "r.txt"),
        1,
        "VCS_PIP_REQUIREMENTS cannot be done without Python",
    ),
];

#[test]
fn mistakes_are_found_before_anything_is_done() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("c")).expect("make a directory");
    for (args, (name, value), expected, message) in MISTAKES {
        let outcome = run_task(&sandbox)
            .args(["--user=root", "--group=root"])
            .env("TASKCLUSTER_CACHES", sandbox.path("c"))
            .env(name, value)
            .args(*args)
            .run();
        assert_eq!(code(&outcome), Some(*expected), "{outcome:?}");
        let said = outcome.stdout.contains(message) || outcome.stderr.contains(message);
        assert!(said, "{message}: {outcome:?}");
        let names = fs::read_dir(sandbox.path("c")).expect("list").count();
        assert_eq!(names, 0, "{outcome:?}");
    }
    let missing = as_self(&sandbox)
        .args(["--task-cwd", "nowhere", "--", "true"])
        .run();
    assert_eq!(code(&missing), Some(1), "{missing:?}");
    assert!(missing.stdout.contains("--task-cwd nowhere"), "{missing:?}");
}

#[test]
fn what_is_empty_is_nothing() {
    let sandbox = Sandbox::new();
    let outcome = as_self(&sandbox)
        .env("TASKCLUSTER_CACHES", "")
        .env("TASKCLUSTER_VOLUMES", "")
        .env("MOZ_FETCHES", "")
        .args(["--fetch-hgfingerprint", "--", "true"])
        .run();
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
}

#[test]
fn who_is_not_root_uses_their_own_ids() {
    let test = "who_is_not_root_uses_their_own_ids";
    if !is_root(test) || !have_programs(test, &["setpriv"]) {
        return;
    }
    let sandbox = open_sandbox();
    fs::create_dir(sandbox.path("c")).expect("make a directory");
    give(sandbox.path("c"), 1, 1);
    let run = || {
        sandbox
            .program("setpriv")
            .args(["--reuid=1", "--regid=1", "--clear-groups"])
            .args([env!("CARGO_BIN_EXE_run-task"), "--", "id", "-u"])
            .env("TASKCLUSTER_CACHES", sandbox.path("c"))
            .env("TASK_ID", "TASK-1")
            .run()
    };
    for round in ["is empty; writing requirements", "exists; requirements"] {
        let outcome = run();
        if code(&outcome) == Some(127) && outcome.stdout.is_empty() {
            skip(test, "other users cannot reach the program under test");
            return;
        }
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
        assert_eq!(task_lines(&outcome), ["1"]);
        assert!(outcome.stdout.contains(round), "{outcome:?}");
    }
    let requires = sandbox.read("c/.cacherequires");
    assert_eq!(requires, REQUIRES.as_bytes());
}

#[test]
fn the_command_is_somebody_else_for_good() {
    let test = "the_command_is_somebody_else_for_good";
    if !is_root(test) || !have_programs(test, &["setpriv"]) {
        return;
    }
    let sandbox = open_sandbox();
    let script = "umask; id -u; id -g; id -G; grep -E 'NoNewPrivs|CapPrm' /proc/self/status";
    let lines = |options: &[&str]| {
        // With groups to lose.
        let groups = ["--groups", "24,25", env!("CARGO_BIN_EXE_run-task")];
        let outcome = as_somebody(sandbox.program("setpriv").args(groups))
            .args(options)
            .args(["--", "sh", "-c", script])
            .run();
        assert_eq!(code(&outcome), Some(0), "{outcome:?}");
        let setup = outcome.stdout.lines().map(without_time);
        let mut setup = setup.filter(|line| line.starts_with("[setup] running as"));
        assert_eq!(
            setup.next().as_deref(),
            Some("[setup] running as daemon:daemon")
        );
        task_lines(&outcome)
    };
    let capabilities = "CapPrm:\t0000000000000000";
    assert_eq!(
        lines(&[]),
        ["0022", "1", "1", "1", capabilities, "NoNewPrivs:\t1"]
    );
    let allowed = lines(&["--allow-new-privileges"]);
    assert_eq!(allowed.last().map(String::as_str), Some("NoNewPrivs:\t0"));
}

#[test]
fn no_descriptor_is_handed_down() {
    let sandbox = Sandbox::new();
    // `ls` has a descriptor of its own for the directory.
    let script =
        "exec 7</dev/null 9>/dev/null; exec \"$0\" --user root --group root -- ls /proc/self/fd";
    let outcome = sandbox
        .program("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_run-task")])
        .run();
    assert_eq!(task_lines(&outcome), ["0", "1", "2", "3"], "{outcome:?}");
}

/// A run-task that has logged this.
fn wait_for_file(sandbox: &Sandbox, name: &str) {
    wait_until(name, || sandbox.path(name).exists());
}

#[test]
fn signals_go_to_the_command_which_decides() {
    let sandbox = Sandbox::new();
    let script =
        "trap 'echo caught; exit 9' TERM; touch ready; for i in $(seq 200); do sleep 0.1; done";
    let running: Running<'_> = as_self(&sandbox).args(["--", "sh", "-c", script]).spawn();
    wait_for_file(&sandbox, "ready");
    running.signal(Signal::TERM);
    let outcome = running.finish();
    assert_eq!(code(&outcome), Some(9), "{outcome:?}");
    assert_eq!(task_lines(&outcome), ["caught"], "{outcome:?}");

    let running = as_self(&sandbox)
        .args(["--", "sh", "-c", "touch ready2; exec sleep 30"])
        .spawn();
    wait_for_file(&sandbox, "ready2");
    running.signal(Signal::HUP);
    let outcome = running.finish();
    assert_eq!(code(&outcome), Some(129), "{outcome:?}");
    assert_eq!(outcome.status.signal(), None, "{outcome:?}");
}

#[test]
fn output_that_comes_after_the_end_is_not_lost() {
    let sandbox = Sandbox::new();
    let script = "(sleep 0.3; echo late) & echo early";
    let outcome = as_self(&sandbox).args(["--", "sh", "-c", script]).run();
    assert_eq!(task_lines(&outcome), ["early", "late"], "{outcome:?}");
    assert!(!outcome.stdout.contains("warning:"), "{outcome:?}");
}

#[test]
fn a_server_that_is_left_running_does_not_hold_the_task() {
    let sandbox = Sandbox::new();
    let script = "sleep 300 & echo $! >server; echo done; exit 4";
    let outcome = as_self(&sandbox).args(["--", "sh", "-c", script]).run();
    let server = String::from_utf8(sandbox.read("server")).expect("a number");
    let server = server.trim().parse().ok().and_then(Pid::from_raw);
    kill_process(server.expect("a process id"), Signal::KILL).expect("end the server");
    assert_eq!(code(&outcome), Some(4), "{outcome:?}");
    assert!(
        outcome.stdout.contains("still hold its output"),
        "{outcome:?}"
    );
    assert!(outcome.elapsed < Duration::from_secs(30), "{outcome:?}");
}

#[test]
fn fetches_that_fail_keep_the_command_from_running() {
    let (sandbox, server) = (Sandbox::new(), Server::start());
    let list = json!([{"task": TASK_A, "artifact": "public/a", "extract": false}]);
    let outcome = as_self(&sandbox)
        .env("MOZ_FETCHES", list.to_string())
        .env("MOZ_FETCHES_DIR", "fetches")
        .env("TASKCLUSTER_ROOT_URL", server.root())
        .args(["--", "touch", "ran"])
        .run();
    assert_eq!(code(&outcome), Some(3), "{outcome:?}");
    let lines: Vec<_> = outcome.stdout.lines().map(without_time).collect();
    let error = format!("[fetches] error: cannot fetch public/a of task {TASK_A}");
    assert!(lines.contains(&error), "{outcome:?}");
    assert!(outcome.stderr.is_empty(), "{outcome:?}");
    assert!(sandbox.tree().is_empty(), "{outcome:?}");
}

#[test]
fn a_cache_of_another_user_is_refused_and_tells_who_made_it() {
    let test = "a_cache_of_another_user_is_refused_and_tells_who_made_it";
    if !is_root(test) {
        return;
    }
    let sandbox = open_sandbox();
    fs::create_dir(sandbox.path("c")).expect("make a directory");
    let run = |task: &str, user: &str| {
        run_task(&sandbox)
            .args(["--user", user, "--group", user, "--", "touch", "c/file"])
            .env("TASKCLUSTER_CACHES", sandbox.path("c"))
            .env("TASK_ID", task)
            .run()
    };
    let first = run("FIRST-TASK", "daemon");
    assert_eq!(code(&first), Some(0), "{first:?}");
    let second = run("SECOND-TASK", "bin");
    assert_eq!(code(&second), Some(72), "{second:?}");
    let lines: Vec<_> = second.stdout.lines().map(without_time).collect();
    for line in [
        "cache requirements: gid=1 uid=1 version=1",
        "our requirements:   gid=2 uid=2 version=1",
        "[FIRST-TASK] created; requirements: gid=1, uid=1, version=1",
        "[SECOND-TASK] requirements mismatch; wanted: gid=2, uid=2, version=1",
    ] {
        assert!(
            lines.iter().any(|logged| logged == line),
            "{line}: {second:?}"
        );
    }
}

#[test]
fn what_a_task_puts_in_place_of_run_task_s_files_is_not_touched() {
    let test = "what_a_task_puts_in_place_of_run_task_s_files_is_not_touched";
    if !is_root(test) {
        return;
    }
    for (name, untrusted) in [
        (".cachelog", false),
        (".cachelog", true),
        (".cacherequires", false),
        (".cacherequires", true),
    ] {
        let sandbox = open_sandbox();
        make_cache(&sandbox, "c", Some("gid=2\nuid=2\nversion=1"), (2, 2));
        sandbox.write("victim", REQUIRES);
        fs::remove_file(sandbox.path(format!("c/{name}"))).expect("remove a file");
        symlink("../victim", sandbox.path(format!("c/{name}"))).expect("link");
        let before = owners(&sandbox.path(""));
        let mut invocation =
            as_somebody(run_task(&sandbox)).env("TASKCLUSTER_CACHES", sandbox.path("c"));
        if untrusted {
            invocation = invocation.env("TASKCLUSTER_UNTRUSTED_CACHES", "1");
        }
        let outcome = invocation.args(["--", "true"]).run();
        assert_eq!(code(&outcome), Some(72), "{outcome:?}");
        let message = format!("error: {name} of cache");
        assert!(outcome.stdout.contains(&message), "{outcome:?}");
        assert_eq!(owners(&sandbox.path("")), before, "{outcome:?}");
    }
}

#[test]
fn links_to_directories_outside_are_not_followed() {
    let test = "links_to_directories_outside_are_not_followed";
    if !is_root(test) {
        return;
    }
    let sandbox = open_sandbox();
    make_cache(&sandbox, "c", Some("gid=2\nuid=2\nversion=1"), (2, 2));
    sandbox.write("outside/file", "not in the cache");
    symlink(sandbox.path("outside"), sandbox.path("c/content/out")).expect("link");
    give(sandbox.path("c/content/out"), SOMEBODY_ELSE, SOMEBODY_ELSE);
    let before = owners(&sandbox.path("outside"));
    let outcome = take_over(&sandbox);
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert_eq!(owners(&sandbox.path("outside")), before);
    let after = owners(&sandbox.path("c"));
    let strangers: Vec<_> = after.lines().filter(|line| line.contains(" 2:2")).collect();
    assert!(strangers.is_empty(), "{after}");
}

/// Runs a task whose caches are untrusted.
fn take_over(sandbox: &Sandbox) -> Outcome {
    as_somebody(run_task(sandbox))
        .env("TASKCLUSTER_CACHES", sandbox.path("c"))
        .env("TASKCLUSTER_UNTRUSTED_CACHES", "1")
        .args(["--", "true"])
        .run()
}

/// Opens a directory below another one.
fn open_below(dir: &OwnedFd, name: &str) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty()).expect("open a directory")
}

#[test]
fn trees_deeper_than_a_path_can_be_change_hands() {
    let test = "trees_deeper_than_a_path_can_be_change_hands";
    if !is_root(test) {
        return;
    }
    // More levels than descriptors, and more letters than PATH_MAX. Not in the sandbox, which is listed by path.
    let (levels, name) = (500, "deep-deep-deep");
    let place = tempfile::tempdir().expect("make a temporary directory");
    let cache = place.path().join("c");
    fs::create_dir(&cache).expect("make a directory");
    fs::write(cache.join(".cacherequires"), "gid=2\nuid=2\nversion=1").expect("write");
    let top = OwnedFd::from(fs::File::open(&cache).expect("open the cache"));
    let mut here = top.try_clone().expect("one more descriptor");
    for _ in 0..levels {
        rustix::fs::mkdirat(&here, name, Mode::RWXU).expect("make a directory");
        here = open_below(&here, name);
    }
    let sandbox = open_sandbox();
    let script = "ulimit -n 64; exec \"$0\" --user daemon --group daemon -- true";
    let outcome = sandbox
        .program("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_run-task")])
        .env("TASKCLUSTER_CACHES", &cache)
        .env("TASKCLUSTER_UNTRUSTED_CACHES", "1")
        .run();
    let mut here = top;
    let mut strangers = 0;
    for _ in 0..levels {
        here = open_below(&here, name);
        let stat = rustix::fs::fstat(&here).expect("look at a directory");
        strangers += usize::from((stat.st_uid, stat.st_gid) != (1, 1));
    }
    // The standard library would hold a descriptor for each level.
    let removed = sandbox.program("rm").args(["-rf"]).args([&cache]).run();
    assert!(removed.status.success(), "{removed:?}");
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert_eq!(strangers, 0, "{outcome:?}");
}

#[test]
fn what_a_killed_run_left_is_purged_or_finished() {
    let test = "what_a_killed_run_left_is_purged_or_finished";
    if !is_root(test) {
        return;
    }
    // Before the requirements had their name.
    let sandbox = open_sandbox();
    sandbox.write("c/.cacherequires.new", "gid=9");
    let outcome = take_over(&sandbox);
    assert_eq!(code(&outcome), Some(0), "{outcome:?}");
    assert_eq!(sandbox.read("c/.cacherequires"), REQUIRES.as_bytes());
    assert!(!sandbox.path("c/.cacherequires.new").exists());
    // While somebody took it over: some of it is theirs, and nobody else gets it.
    let sandbox = open_sandbox();
    make_cache(&sandbox, "c", None, (2, 2));
    give(sandbox.path("c/content/file"), 1, 1);
    let outcome = take_over(&sandbox);
    assert_eq!(code(&outcome), Some(72), "{outcome:?}");
}

#[test]
fn a_cache_that_could_not_be_taken_over_as_a_whole_is_purged() {
    let test = "a_cache_that_could_not_be_taken_over_as_a_whole_is_purged";
    if !is_root(test) || !have_programs(test, &["unshare", "mount"]) {
        return;
    }
    let sandbox = open_sandbox();
    make_cache(&sandbox, "c", Some("gid=2\nuid=2\nversion=1"), (2, 2));
    let script = "mount --bind c/content c/content && mount -o remount,bind,ro c/content || exit 77
        exec \"$0\" --user daemon --group daemon -- true";
    let outcome = sandbox
        .program("unshare")
        .args(["--mount", "sh", "-c", script])
        .args([env!("CARGO_BIN_EXE_run-task")])
        .env("TASKCLUSTER_CACHES", sandbox.path("c"))
        .env("TASKCLUSTER_UNTRUSTED_CACHES", "1")
        .run();
    if code(&outcome) == Some(77) || outcome.stderr.contains("unshare") {
        skip(test, "nothing can be mounted");
        return;
    }
    assert_eq!(code(&outcome), Some(1), "{outcome:?}");
    let error = "error: cannot change the owner of everything in";
    assert!(outcome.stdout.contains(error), "{outcome:?}");
    // Whoever comes next.
    for user in ["daemon", "bin"] {
        let outcome = run_task(&sandbox)
            .args(["--user", user, "--group", user, "--", "true"])
            .env("TASKCLUSTER_CACHES", sandbox.path("c"))
            .run();
        assert_eq!(code(&outcome), Some(72), "{outcome:?}");
    }
}

/// The child of a process that has one.
fn only_child(parent: Pid) -> Option<Pid> {
    let parent = parent.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    Pid::from_raw(children.trim().parse().ok()?)
}

/// A command that leaves orphans, waits until nothing of those that have ended is left, and then for a signal.
const ORPHANS: &str = r#"
trap 'echo got TERM; ls fetches | sort | tr "\n" " "; exit 7' TERM
sh -c 'sleep 0.1 & sleep 0.2 &'
sh -c 'sleep 300 >/dev/null 2>&1 &'
tries=0
while [ $tries -lt 200 ] && { pgrep -f '^sleep 0.[12]$' || grep -qs '^State:.Z' /proc/[0-9]*/status; } >/dev/null; do
    tries=$((tries + 1)); sleep 0.05
done
echo "$$ $PPID"; grep -ls '^State:.Z' /proc/[0-9]*/status
touch ready; for i in $(seq 200); do sleep 0.1; done"#;

/// Serves six artifacts, and returns the list that asks for them.
fn serve_six(server: &Server) -> String {
    let list = (0..6).map(|number| {
        let name = format!("public/{number}.tar.gz");
        let tar = tar_of(&[file(format!("tool-{number}"), "#!/bin/sh\n").mode(0o755)]);
        server.serve(&artifact(TASK_A, &name), Reply::ok(gz(&tar)));
        json!({"task": TASK_A, "artifact": name, "extract": true})
    });
    json!(list.collect::<Vec<_>>()).to_string()
}

/// A run-task with process ids of its own, of which it has the first, with two caches, a volume and six fetches. `more` are
/// options for other things of its own. It begins when there is a file `go`.
fn start_as_first<'a>(sandbox: &'a Sandbox, server: &Server, more: &[&str]) -> Running<'a> {
    for name in ["one", "two", "volume", "work"] {
        fs::create_dir(sandbox.path(name)).expect("make a directory");
    }
    // Where the command's user puts things.
    give(sandbox.path("work"), 1, 1);
    let (one, two) = (sandbox.path("one"), sandbox.path("two"));
    let wait = "until [ -e ../go ]; do sleep 0.01; done; exec \"$0\" \"$@\"";
    let unshare = sandbox
        .program("unshare")
        .args(["--pid", "--fork", "--mount-proc"])
        .args(more)
        .args(["sh", "-c", wait, env!("CARGO_BIN_EXE_run-task")]);
    as_somebody(unshare)
        .current_dir(sandbox.path("work"))
        .env(
            "TASKCLUSTER_CACHES",
            format!("{};{}", one.display(), two.display()),
        )
        .env("TASKCLUSTER_VOLUMES", sandbox.path("volume"))
        .env("TASK_ID", "TASK-1")
        .env("MOZ_FETCHES", serve_six(server))
        .env("MOZ_FETCHES_DIR", "fetches")
        .env("TASKCLUSTER_ROOT_URL", server.root())
        .args(["--", "sh", "-c", ORPHANS])
        .spawn()
}

/// Gives the processes of a new user namespace the ids that there are outside. Returns whether that can be done.
fn map_ids(running: &mut Running<'_>) -> bool {
    let process = format!("/proc/{}", running.id().as_raw_nonzero());
    let namespace = |process: &str| fs::read_link(format!("{process}/ns/user")).ok();
    let outside = namespace("/proc/self");
    wait_until("the namespace is there", || {
        namespace(&process) != outside || running.has_ended()
    });
    let maps = ["uid_map", "gid_map"];
    maps.iter()
        .all(|map| fs::write(format!("{process}/{map}"), "0 0 1000").is_ok())
}

#[test]
fn as_the_first_process_it_looks_after_orphans_and_ends_on_sigterm() {
    let test = "as_the_first_process_it_looks_after_orphans_and_ends_on_sigterm";
    if !is_root(test) || !have_programs(test, &["unshare", "pgrep"]) {
        return;
    }
    look_after_orphans(test, &[]);
}

#[test]
fn the_same_with_users_of_its_own() {
    let test = "the_same_with_users_of_its_own";
    if !is_root(test) || !have_programs(test, &["unshare", "pgrep"]) {
        return;
    }
    look_after_orphans(test, &["--user"]);
}

fn look_after_orphans(test: &str, more: &[&str]) {
    let (sandbox, server) = (open_sandbox(), Server::start());
    let mut running = start_as_first(&sandbox, &server, more);
    if !more.is_empty() && !map_ids(&mut running) {
        skip(test, "no users of its own");
        return;
    }
    sandbox.write("go", "");
    wait_until("the command is ready", || {
        sandbox.path("work/ready").exists() || running.has_ended()
    });
    if running.has_ended() {
        let outcome = running.finish();
        assert!(outcome.stderr.contains("unshare"), "{outcome:?}");
        skip(test, "no process ids of its own");
        return;
    }
    let first = only_child(running.id()).expect("run-task below unshare");
    kill_process(first, Signal::TERM).expect("ask it to end");
    let outcome = running.finish();
    assert_eq!(code(&outcome), Some(7), "{outcome:?}");
    let tools = "tool-0 tool-1 tool-2 tool-3 tool-4 tool-5 ";
    let lines = task_lines(&outcome);
    let [ids, caught, fetched] = lines.as_slice() else {
        panic!("a zombie was left: {outcome:?}");
    };
    // The command's parent is the first process.
    assert!(ids.ends_with(" 1"), "{outcome:?}");
    assert_eq!((caught.as_str(), fetched.as_str()), ("got TERM", tools));
    for cache in ["one", "two"] {
        let log = String::from_utf8(sandbox.read(&format!("{cache}/.cachelog"))).expect("text");
        assert_eq!(
            without_time(&log),
            "[TASK-1] created; requirements: gid=1, uid=1, version=1\n"
        );
    }
    let listing = owners(&sandbox.path(""));
    for line in ["volume 40755 1:1", "work/fetches/tool-5 100755 1:1"] {
        assert!(
            listing.lines().any(|listed| listed == line),
            "{line}:\n{listing}"
        );
    }
    assert!(!listing.contains(".fetch-content."), "{listing}");
}
