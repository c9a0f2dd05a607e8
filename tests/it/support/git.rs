//! Real git repositories, and real `git daemon`s before them on the loopback interface, which can be cut and stalled.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use super::acceptor::Acceptor;
use super::archives::{sha256_hex, unzst};
use super::server::{Reply, Server};
use super::skip::have_programs;

/// When the first commit of a repository is made; every other is a minute later.
pub(crate) const FIRST: u64 = 1_600_000_000;

/// Whether there is git; if not, reports the test as skipped.
pub(crate) fn have_git(test: &str) -> bool {
    have_programs(test, &["git"])
}

/// Repositories beside each other.
pub(crate) struct Upstream {
    dir: TempDir,
}

impl Upstream {
    /// Makes a place for repositories.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("make a directory for repositories");
        Self { dir }
    }

    /// Where they are.
    pub(crate) fn root(&self) -> &Path {
        self.dir.path()
    }

    /// Makes an empty repository.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        let path = self.root().join(name);
        fs::create_dir_all(&path).expect("make a directory for a repository");
        let repository = Repository { path };
        repository.git(&["init", "--quiet", "--initial-branch=main"]);
        repository
    }
}

/// A repository with a working tree.
pub(crate) struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// `file://…`.
    pub(crate) fn url(&self) -> String {
        format!("file://{}", self.path.display())
    }

    /// Runs git in it and returns what it writes.
    pub(crate) fn git<A: AsRef<OsStr>>(&self, args: &[A]) -> String {
        git_in(&self.path, args)
    }

    /// Writes a file.
    pub(crate) fn write(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path.join(name.as_ref());
        let parent = path.parent().expect("a path in the repository");
        fs::create_dir_all(parent).expect("make a directory");
        fs::write(path, content).expect("write a file");
        self
    }

    /// Writes a program.
    pub(crate) fn program(&self, name: &str, content: &str) -> &Self {
        self.write(name, content);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.path.join(name), mode).expect("make it executable");
        self
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&self, name: &str, target: &str) -> &Self {
        symlink(target, self.path.join(name)).expect("make a link");
        self
    }

    /// Adds a submodule at a commit, as its `.gitmodules` has it.
    pub(crate) fn submodule(&self, path: &str, url: &str, commit: &str) -> &Self {
        let file = self.path.join(".gitmodules");
        let mut text = fs::read_to_string(&file).unwrap_or_default();
        let _ = write!(
            text,
            "[submodule \"{path}\"]\n\tpath = {path}\n\turl = {url}\n"
        );
        fs::write(file, text).expect("write .gitmodules");
        // An empty directory is what is there of a submodule that is not checked out.
        fs::create_dir_all(self.path.join(path)).expect("make a directory");
        let info = format!("160000,{commit},{path}");
        self.git(&["update-index", "--add", "--cacheinfo", &info]);
        self
    }

    /// Commits what was written, and returns the commit's hash.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        let commits = self.git(&["rev-list", "--all", "--count"]);
        let number: u64 = commits.trim().parse().expect("a number of commits");
        let message = format!("number {number}");
        let date = format!("{} +0200", FIRST + 60 * number);
        let mut command = command_in(&self.path, &["commit", "--quiet", "-m", &message]);
        command.env("GIT_AUTHOR_DATE", &date);
        run(command.env("GIT_COMMITTER_DATE", &date));
        self.git(&["rev-parse", "HEAD"]).trim().to_owned()
    }
}

/// Runs git somewhere and returns what it writes.
pub(crate) fn git_in<A: AsRef<OsStr>>(path: &Path, args: &[A]) -> String {
    run(&mut command_in(path, args))
}

fn command_in<A: AsRef<OsStr>>(path: &Path, args: &[A]) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(path)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("HOME", "/nowhere");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Ada");
        command.env(format!("GIT_{who}_EMAIL"), "ada@example.org");
    }
    command.args(args);
    command
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("start git");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a connection does to those who fetch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// All is served.
    Whole,
    /// So many bytes are sent, then the connection is closed.
    Cut(u64),
    /// So many bytes are sent, then nothing.
    Stall(u64),
}

/// A `git daemon`. Connections behave in turn as told; the last manner repeats.
pub(crate) struct Daemon {
    acceptor: Acceptor,
    sent: Arc<AtomicU64>,
    stalled: Arc<AtomicUsize>,
    gone: Arc<AtomicUsize>,
}

impl Daemon {
    /// Serves all repositories of an upstream.
    pub(crate) fn start(upstream: &Upstream, manners: &[Manner]) -> Self {
        let (sent, stalled, gone) =
            <(Arc<AtomicU64>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let next = Arc::new(AtomicUsize::new(0));
        let (root, manners) = (upstream.root().to_owned(), manners.to_vec());
        let acceptor = Acceptor::start({
            let (sent, stalled, gone) =
                (Arc::clone(&sent), Arc::clone(&stalled), Arc::clone(&gone));
            move |stream| {
                let number = next.fetch_add(1, Ordering::SeqCst).min(manners.len() - 1);
                let (root, manner) = (root.clone(), manners[number]);
                let (sent, stalled, gone) =
                    (Arc::clone(&sent), Arc::clone(&stalled), Arc::clone(&gone));
                async move {
                    let stream = stream.into_std()?;
                    stream.set_nonblocking(false)?;
                    // Ends with the connection.
                    thread::spawn(move || {
                        let counters = Counters {
                            sent: &sent,
                            stalled: &stalled,
                        };
                        let _ = converse(&stream, &root, manner, &counters);
                        gone.fetch_add(1, Ordering::SeqCst);
                    });
                    Ok(())
                }
            }
        });
        Self {
            acceptor,
            sent,
            stalled,
            gone,
        }
    }

    /// The URL of a repository.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://{}/{name}", self.acceptor.address())
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.acceptor.accepted()
    }

    /// How many of them have ended.
    pub(crate) fn ended(&self) -> usize {
        self.gone.load(Ordering::SeqCst)
    }

    /// How many are stalled.
    pub(crate) fn stalled(&self) -> usize {
        self.stalled.load(Ordering::SeqCst)
    }

    /// Bytes that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

struct Counters<'a> {
    sent: &'a AtomicU64,
    stalled: &'a AtomicUsize,
}

/// Serves one connection by a `git daemon` of its own.
fn converse(
    stream: &TcpStream,
    root: &Path,
    manner: Manner,
    counters: &Counters,
) -> io::Result<()> {
    let mut base = std::ffi::OsString::from("--base-path=");
    base.push(root);
    let mut command = command_in(root, &["daemon", "--inetd", "--export-all"]);
    let mut child = command
        .arg(base)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let ended = thread::scope(|scope| {
        let mut to_child = child.stdin.take().expect("its input is a pipe");
        let mut from_client = stream;
        // Not by io::copy, which may wait for more than has come before it passes it on.
        let client = scope.spawn(move || -> io::Result<()> {
            let mut buffer = [0; 4096];
            loop {
                let length = from_client.read(&mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                to_child.write_all(&buffer[..length])?;
            }
        });
        let ended = forward(&mut child, stream, manner, counters);
        if !matches!(manner, Manner::Stall(_)) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // A stall lasts until the client goes away.
        let _ = client.join();
        ended
    });
    let _ = child.kill();
    let _ = child.wait();
    ended
}

fn forward(
    child: &mut Child,
    mut to: &TcpStream,
    manner: Manner,
    counters: &Counters,
) -> io::Result<()> {
    let mut from = child.stdout.take().expect("its output is a pipe");
    let mut left = match manner {
        Manner::Whole => u64::MAX,
        Manner::Cut(bytes) | Manner::Stall(bytes) => bytes,
    };
    let mut buffer = vec![0; 4096];
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let length = from.read(&mut buffer[..most])?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length])?;
        counters.sent.fetch_add(length as u64, Ordering::SeqCst);
        left -= length as u64;
    }
    if matches!(manner, Manner::Stall(_)) {
        counters.stalled.fetch_add(1, Ordering::SeqCst);
    }
    Ok(())
}

/// Members of a `.tar.zst` in their order: name, mode, time, owner, and target or size and digest.
pub(crate) fn members(archive: &[u8]) -> Vec<String> {
    let bytes = unzst(archive);
    let mut reader = tar::Archive::new(&*bytes);
    let entries = reader.entries().expect("a tar archive");
    let members = entries.map(|entry| {
        let mut entry = entry.expect("a member");
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("a member's content");
        let name = entry.path_bytes().escape_ascii().to_string();
        let what = match entry.link_name_bytes() {
            Some(target) => format!("-> {}", target.escape_ascii()),
            None if name.ends_with('/') => "dir".to_owned(),
            None => format!("{} {}", content.len(), &sha256_hex(&content)[..12]),
        };
        let header = entry.header();
        let (mode, mtime) = (
            header.mode().expect("a mode"),
            header.mtime().expect("an mtime"),
        );
        let owner = (
            header.uid().expect("an owner"),
            header.gid().expect("a group"),
        );
        assert_eq!(owner, (0, 0), "{name}");
        format!("{name} {mode:o} @{mtime} {what}")
    });
    members.collect()
}

/// Extracts a `.tar.zst`.
pub(crate) fn unpack(archive: &[u8], to: &Path) {
    let bytes = unzst(archive);
    let mut reader = tar::Archive::new(&*bytes);
    reader.unpack(to).expect("extract the archive");
}

/// Serves what `git update-server-info` prepares, by the dumb protocol, to who has this authorization.
pub(crate) fn serve_files(
    server: &Server,
    repository: &Repository,
    path: &str,
    authorization: Option<&'static str>,
) {
    repository.git(&["update-server-info"]);
    let root = repository.path().join(".git");
    serve_below(server, &root, path, authorization);
}

fn serve_below(server: &Server, dir: &Path, path: &str, authorization: Option<&'static str>) {
    for entry in fs::read_dir(dir).expect("list a repository") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        let path = format!("{path}/{name}");
        if entry.path().is_dir() {
            serve_below(server, &entry.path(), &path, authorization);
            continue;
        }
        let content = fs::read(entry.path()).expect("read a repository");
        server.serve_by(&path, move |seen| {
            let given = seen.header("authorization");
            if authorization.is_some() && given != authorization {
                return Reply::status(401).header("WWW-Authenticate", "Basic realm=\"r\"");
            }
            Reply::ok(&content)
        });
    }
}
