//! What can be typed. [`Args`] does not leave this room: subcommands turn it into what the library needs.

mod image;
mod inputs;
mod kind;
mod store;

pub(super) use image::{
    Compression, Image, ImageExport, ImageImport, ImageInspect, ImagePull, ImagePush, ImageVerb,
    Import, Instructions, RegistryWay,
};
pub(super) use inputs::{Inputs, OfTask};
pub(super) use kind::{Kind, KindRun, KindSubmit, KindTasks, KindVerb, LabelledTask, Push};
pub(super) use store::{Serve, Store, StoreAction, StorePlace};

use crate::cli::cache::args::Cache;
use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// Puts the inputs of a CI task on disk: fast, verified, never half-way.
#[derive(Debug, Parser)]
#[command(name = "fetch-content", version, max_term_width = 100, arg_required_else_help = true, after_help = ENVIRONMENT)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    StaticUrl(StaticUrl),
    GitCheckoutArchive(GitCheckoutArchive),
    TaskArtifacts(TaskArtifacts),
    Upload(Upload),
    Kind(Kind),
    Inputs(Box<Inputs>),
    Store(Store),
    Serve(Serve),
    Cache(Cache),
    Image(Image),
}

/// Download one URL, verify it, and repack archives.
///
/// Nothing appears at DEST before size and SHA-256 of the whole download are verified.
#[derive(Debug, ClapArgs)]
#[command(after_help = STATIC_URL_EXAMPLE)]
pub(super) struct StaticUrl {
    /// SHA-256 of the download, as 64 hex digits
    #[arg(long, value_name = "HEX")]
    pub(super) sha256: String,
    /// Size of the download in bytes (0: not checked)
    #[arg(long, value_name = "BYTES")]
    pub(super) size: u64,
    /// URL of a detached OpenPGP signature of the download
    #[arg(long, value_name = "URL", requires = "gpg_key_env")]
    pub(super) gpg_sig_url: Option<String>,
    /// Environment variable that holds the OpenPGP keys to verify the signature with
    #[arg(long, value_name = "NAME", requires = "gpg_sig_url")]
    pub(super) gpg_key_env: Option<String>,
    /// Believe only the key with this fingerprint, or subkeys of it (repeatable)
    #[arg(long, value_name = "HEX", requires = "gpg_sig_url")]
    pub(super) gpg_fingerprint: Vec<String>,
    /// Leading components to remove from the names in the archive (repacks it)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) strip_components: usize,
    /// Text to put in front of the names in the archive (repacks it)
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub(super) add_prefix: String,
    /// Request header, sent to the origin of URL only (repeatable)
    #[arg(short = 'H', long = "header", value_name = "KEY: VALUE")]
    pub(super) headers: Vec<String>,
    /// Another URL of the same content, tried after URL (repeatable)
    #[arg(long = "mirror", value_name = "URL")]
    pub(super) mirrors: Vec<String>,
    /// Try mirrors before URL
    #[arg(long, requires = "mirrors")]
    pub(super) mirrors_first: bool,
    /// Make an archive also of a download that is none
    #[arg(long)]
    pub(super) force_archive: bool,
    /// Create an artifact of this name from DEST, in the task that this runs in
    #[arg(long, value_name = "NAME")]
    pub(super) upload: Option<String>,
    /// What to download
    pub(super) url: String,
    /// Where to put it; names that end in `.tar.zst` are repacked to that format
    pub(super) dest: PathBuf,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// Make a .tar.zst of the files of a commit.
///
/// The same commit gives the same bytes on every machine: members are sorted, belong to root and have the time of the
/// commit. Submodules are checked out, too, and theirs.
#[derive(Debug, ClapArgs)]
#[command(after_help = GIT_EXAMPLE)]
pub(super) struct GitCheckoutArchive {
    /// What to put in front of the names in the archive [default: the last segment of REPO]
    #[arg(long, value_name = "PREFIX")]
    pub(super) path_prefix: Option<String>,
    /// Taskcluster secret with the ssh key to use, as `ssh_privkey`
    #[arg(long, value_name = "NAME")]
    pub(super) ssh_key_secret: Option<String>,
    /// File with ssh host keys to trust beside GitHub's and those in ssh's own files
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_known_hosts: Option<PathBuf>,
    /// Also pack the repository itself, with this one commit
    #[arg(long)]
    pub(super) include_dot_git: bool,
    /// Create an artifact of this name from DEST, in the task that this runs in
    #[arg(long, value_name = "NAME")]
    pub(super) upload: Option<String>,
    /// The repository: a URL (https, http, ssh, git, file), user@host:path, or a local path
    pub(super) repo: String,
    /// The commit: its full hash
    pub(super) commit: String,
    /// Where to put the archive; its name ends in `.tar.zst`
    pub(super) dest: PathBuf,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// Download the artifacts listed in MOZ_FETCHES and extract them.
///
/// Entries are objects with the keys `task` and `artifact`, and optionally `extract` (default true), `dest` (a
/// directory below the destination), `verify-hash` (by the task's chain of trust), `sha256` and `size`. They are
/// published in the order of the list, when all of them have arrived and are verified.
#[derive(Debug, Default, ClapArgs)]
#[command(after_help = TASK_ARTIFACTS_EXAMPLE)]
pub(super) struct TaskArtifacts {
    /// Destination directory [default: $MOZ_FETCHES_DIR]
    #[arg(short, long, value_name = "DIR")]
    pub(super) dest: Option<PathBuf>,
    /// Read the list from a file (`-`: standard input) and not from MOZ_FETCHES
    #[arg(long, value_name = "FILE")]
    pub(super) fetches: Option<PathBuf>,
    /// Worker key that must have signed the chains of trust: ed25519, in base64 or hex, or @FILE (repeatable)
    #[arg(long, value_name = "KEY")]
    pub(super) chain_of_trust_key: Vec<String>,
    /// Read artifacts from a store, or from DIR/task/TASK/artifacts/NAME, and not from a queue
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Refuse archives with symbolic links that lead out of what is extracted
    #[arg(long)]
    pub(super) deny_external_symlinks: bool,
    #[command(flatten)]
    pub(super) import: Import,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// Create artifacts of the task that this runs in.
///
/// The task is that of TASK_ID and RUN_ID. Workers upload what a task declares; this is for what it does not, or for
/// workers that cannot.
#[derive(Debug, ClapArgs)]
#[command(after_help = UPLOAD_EXAMPLE)]
pub(super) struct Upload {
    /// What artifacts are: files, kept by the queue (s3) or the object service, as the deployment has it; links to
    /// artifacts of the same task; or references to URLs [default: s3, or what the environment says]
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(super) storage: Option<Storage>,
    /// Media type of all of them [default: by the extensions of their names]
    #[arg(long, value_name = "TYPE")]
    pub(super) content_type: Option<String>,
    /// When they expire, such as 2027-01-31T00:00:00Z [default: with the task]
    #[arg(long, value_name = "TIME")]
    pub(super) expires: Option<String>,
    /// Artifacts: a name and, after the first `=`, a file, the name of another artifact, or a URL
    #[arg(required = true, value_name = "NAME=FILE")]
    pub(super) artifacts: Vec<String>,
    #[command(flatten)]
    pub(super) tuning: Tuning,
}

/// What an artifact is.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Storage {
    S3,
    Object,
    Link,
    Reference,
}

/// Where else upstream's files may be.
#[derive(Debug, Default, ClapArgs)]
pub(super) struct Nearby {
    /// Folder with files under their upstream names, looked at first (repeatable)
    #[arg(long = "distdir", value_name = "DIR")]
    pub(super) distdirs: Vec<PathBuf>,
    /// Server with files under their upstream names, asked before upstream (repeatable)
    #[arg(long = "mirror", value_name = "URL")]
    pub(super) mirrors: Vec<String>,
}

/// How fetch tasks are performed here: what for, and where their files and artifacts may be.
#[derive(Debug, ClapArgs)]
pub(super) struct Making {
    #[command(flatten)]
    pub(super) place: StorePlace,
    #[command(flatten)]
    pub(super) nearby: Nearby,
    #[command(flatten)]
    pub(super) push: Push,
    #[command(flatten)]
    pub(super) import: Import,
}

/// How to deal with networks and servers. The environment says what is not said here.
#[derive(Debug, Default, ClapArgs)]
#[command(next_help_heading = "Transfers")]
pub(super) struct Tuning {
    /// Transfers at once
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub(super) concurrency: Option<usize>,
    /// Connections for one transfer, at most
    #[arg(long, value_name = "N", value_parser = positive::<usize>)]
    pub(super) connections: Option<usize>,
    /// Attempts in a row that bring nothing
    #[arg(long, value_name = "N", value_parser = positive::<u32>)]
    pub(super) attempts: Option<u32>,
    /// Longest first pause before a retry
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) retry_base: Option<Duration>,
    /// Longest pause before a retry
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) retry_max: Option<Duration>,
    /// Longest pause a server may ask for
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) retry_after_max: Option<Duration>,
    /// For DNS, TCP and TLS together
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) connect_timeout: Option<Duration>,
    /// Without a byte
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) stall_timeout: Option<Duration>,
    /// Least bytes per second over the stall time-out
    #[arg(long, value_name = "BYTES", value_parser = positive::<u64>)]
    pub(super) min_speed: Option<u64>,
    /// For all attempts of a transfer together
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) total_timeout: Option<Duration>,
}

/// Parses a number that is not zero.
pub(super) fn positive<N: FromStr + Default + PartialEq>(text: &str) -> Result<N, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|number| *number != N::default())
        .ok_or_else(|| "expected a positive number".to_owned())
}

/// Parses a positive number of seconds, such as `2.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|time| !time.is_zero())
        .ok_or_else(|| "expected a positive number of seconds".to_owned())
}

const STATIC_URL_EXAMPLE: &str = "\
Example:
  fetch-content static-url --size 1934932 \\
    --sha256 9bd8f1b3c8c1c0f0f6e5b4b0e5e9fb1ea3cbbba1c2a0f3d2c63c29f8a4a4e7a1 \\
    --strip-components 1 --add-prefix gmp/ \\
    https://ftp.gnu.org/gnu/gmp/gmp-6.2.1.tar.xz gmp.tar.zst";

const GIT_EXAMPLE: &str = "\
Example:
  fetch-content git-checkout-archive --path-prefix zlib \\
    https://github.com/madler/zlib da607da739fa6047df13e66a2af6b8bec7c2a498 zlib.tar.zst";

const TASK_ARTIFACTS_EXAMPLE: &str = "\
Example:
  export TASKCLUSTER_ROOT_URL=https://firefox-ci-tc.services.mozilla.com
  export MOZ_FETCHES='[{\"task\": \"dSlITZ4yQgmvxxAi4A8fHQ\", \"artifact\": \"public/build/gmp.tar.zst\"}]'
  fetch-content task-artifacts --dest fetches";

const UPLOAD_EXAMPLE: &str = "\
Example, in a task with the taskclusterProxy feature:
  fetch-content upload public/build/gmp.tar.zst=gmp.tar.zst public/sizes.json=sizes.json
  fetch-content upload --storage link public/latest.tar.zst=public/build/gmp.tar.zst";

const ENVIRONMENT: &str = "\
Environment:
  MOZ_FETCHES, MOZ_FETCHES_DIR          list and destination of task-artifacts
  TASKCLUSTER_ROOT_URL                  the deployment that has the artifacts
  TASKCLUSTER_PROXY_URL                 where private artifacts are read, and artifacts created, through
  TASKCLUSTER_CLIENT_ID, TASKCLUSTER_ACCESS_TOKEN, TASKCLUSTER_CERTIFICATE
                                        credentials for the same without a proxy
  TASK_ID, RUN_ID                       the task and run that artifacts are created in
  XDG_CACHE_HOME, HOME                  where the store is unless --store says it
  DOCKER_CONFIG, REGISTRY_AUTH_FILE     credentials for registries: Docker's directory, or a file
  XDG_RUNTIME_DIR, XDG_CONFIG_HOME      where Podman's are, containers/auth.json
  AWS_…, GOOGLE_…, AZURE_…              credentials for stores in clouds, endpoints and regions
  SSL_CERT_FILE, SSL_CERT_DIR           certificates to trust in place of the system's
  http_proxy, https_proxy, no_proxy     HTTP proxies
  FETCH_CONTENT_CONCURRENCY             transfers at once [16]
  FETCH_CONTENT_CONNECTIONS             connections for one transfer, at most [16]
  FETCH_CONTENT_ATTEMPTS                attempts in a row that bring nothing [14]
  FETCH_CONTENT_RETRY_BASE_MS           longest first pause, doubled with every retry [1000]
  FETCH_CONTENT_RETRY_MAX_MS            longest pause [60000]
  FETCH_CONTENT_RETRY_AFTER_MAX_MS      longest pause a server may ask for [120000]
  FETCH_CONTENT_CONNECT_TIMEOUT_MS      for DNS, TCP and TLS together [20000]
  FETCH_CONTENT_STALL_TIMEOUT_MS        without a byte [60000]
  FETCH_CONTENT_MIN_SPEED               least bytes per second over that time [1000]
  FETCH_CONTENT_TOTAL_TIMEOUT_MS        for all attempts of a transfer together [none]
  FETCH_CONTENT_UPLOAD_STORAGE          where uploads go, s3 or object [s3]
  FETCH_CONTENT_MAX_EXPANDED_SIZE       bytes that any archive may unpack to [8589934592]
  FETCH_CONTENT_MAX_EXPANSION           times its own size, where that is more [100]
  FETCH_CONTENT_MAX_ENTRIES             members of an archive [2000000]
  FETCH_CONTENT_MAX_PATH_LENGTH         bytes in the name of a member [4096]
  FETCH_CONTENT_MAX_PATH_DEPTH          components of the name of a member [256]
  FETCH_CONTENT_MAX_HEADER_SIZE         bytes of a member's extended headers [1048576]
  FETCH_CONTENT_MAX_WINDOW              bytes a decoder may look back [134217728]

Exit codes:
  0 success, 2 usage, 3 network, 4 integrity, 5 archive, 6 local file system,
  72 a cache that has to be purged, 130/143 interrupted, 1 anything else";
