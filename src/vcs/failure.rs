//! What git says when it fails, and what that means: whether to try again, and what would help.

use crate::error::{Error, Kind, Retry};

/// Lines that people get to see at most.
const SHOWN: usize = 6;

/// What git says, without secrets and control characters.
pub(super) struct Words(String);

impl Words {
    /// Takes over what was written to standard error.
    pub(super) fn new(said: &[u8], secrets: &[String]) -> Self {
        let mut said = String::from_utf8_lossy(said).into_owned();
        for secret in secrets {
            said = said.replace(secret, "…");
        }
        // A server can send any words.
        let clean = |char: char| match char {
            '\n' | '\r' => "\n".to_owned(),
            '\t' => " ".to_owned(),
            char if char.is_control() => char.escape_unicode().to_string(),
            char => char.to_string(),
        };
        Self(said.chars().map(clean).collect())
    }

    /// Returns the last lines that say something, as one.
    fn shown(&self) -> String {
        let lines = self.0.lines().map(str::trim).filter(|line| {
            !line.is_empty() && !line.starts_with("hint:") && !line.starts_with("Cloning into")
        });
        let mut lines: Vec<_> = lines.collect();
        lines.dedup();
        let first = lines.len().saturating_sub(SHOWN);
        lines[first..].join("; ")
    }
}

/// A call of git that failed.
pub(super) struct Failure {
    words: Words,
    /// The words in lower case, which differs between versions.
    lower: String,
}

/// What cannot get better by itself, in lower case, with the class and what would help.
const LASTING: [(&str, Kind, Option<&str>); 21] = [
    ("no space left on device", Kind::FileSystem, None),
    ("disk quota exceeded", Kind::FileSystem, None),
    ("read-only file system", Kind::FileSystem, None),
    (
        "host key verification failed",
        Kind::Network,
        Some(
            "the server's ssh host key is not known, or is not the one that is: compare it, and put the right one into \
             ~/.ssh/known_hosts or /etc/ssh/ssh_known_hosts; git-checkout-archive has --ssh-known-hosts for another file",
        ),
    ),
    ("permission denied (", Kind::Network, Some(CREDENTIALS)),
    ("error in libcrypto", Kind::Network, Some(KEY)),
    ("invalid format", Kind::Network, Some(KEY)),
    ("authentication failed", Kind::Network, Some(CREDENTIALS)),
    ("could not read username", Kind::Network, Some(CREDENTIALS)),
    ("could not read password", Kind::Network, Some(CREDENTIALS)),
    ("unable to get password", Kind::Network, Some(CREDENTIALS)),
    ("' not found", Kind::Network, Some(MISSING)),
    ("repository not found", Kind::Network, Some(MISSING)),
    (
        "does not appear to be a git repository",
        Kind::Network,
        Some(MISSING),
    ),
    ("repository not exported", Kind::Network, Some(MISSING)),
    (
        "certificate",
        Kind::Network,
        Some(
            "SSL_CERT_FILE or GIT_SSL_CAINFO names certificates to trust in place of the system's",
        ),
    ),
    (
        "' not allowed",
        Kind::Usage,
        Some(
            "https, http, ssh and git are allowed, and local repositories where they are named on the command line; \
             GIT_ALLOW_PROTOCOL can allow others",
        ),
    ),
    (
        "fatal: bad config",
        Kind::Usage,
        Some("look at git's configuration"),
    ),
    ("unable to read tree", Kind::Network, Some(UNFETCHED)),
    // The same by older versions.
    ("reference is not a tree", Kind::Network, Some(UNFETCHED)),
    (
        "is not a commit and a branch",
        Kind::Network,
        Some(UNFETCHED),
    ),
];

const CREDENTIALS: &str = "the repository is private, or does not exist: an ssh key comes from --ssh-key-secret, or \
                           …_SSH_SECRET_NAME for run-task, others from git's own configuration (credential.helper)";
const KEY: &str = "the value of `ssh_privkey` in the secret must be a private key as ssh-keygen writes it, without passphrase";
const UNFETCHED: &str =
    "what was fetched does not have this commit: the branch or tag that is named with it must";
const MISSING: &str =
    "check where the repository is; a private one may look as if it did not exist";

/// What is taken for the words of a git that `SIGPIPE` has ended: a server can go away before it is asked.
pub(super) const BROKEN_PIPE: &str = "broken pipe";

/// What may pass, in lower case.
const PASSING: [&str; 28] = [
    "could not resolve host",
    "temporary failure in name resolution",
    "name or service not known",
    BROKEN_PIPE,
    "connection refused",
    "connection reset",
    "connection timed out",
    "connection closed",
    "operation timed out",
    "network is unreachable",
    "no route to host",
    "failed to connect",
    "couldn't connect",
    "unable to connect",
    "operation too slow",
    "early eof",
    "unexpected disconnect",
    "hung up",
    "read error",
    "protocol error: bad pack header",
    "rpc failed",
    "empty reply from server",
    "transfer closed",
    "unexpected eof",
    "timeout, server",
    "tls connection was non-properly terminated",
    "smudge filter lfs failed",
    "could not read from remote repository",
];

/// How servers say that they give out the tips of branches only, or no shallow history.
const REFUSALS: [&str; 5] = [
    "unadvertised object",
    "not our ref",
    "does not support shallow",
    "support shallow capabilities",
    "not valid",
];

impl Failure {
    pub(super) fn new(words: Words) -> Self {
        Self {
            lower: words.0.to_lowercase(),
            words,
        }
    }

    /// Whether the server does not have that object.
    pub(super) fn is_absence(&self) -> bool {
        self.lower.contains("not our ref")
    }

    /// Whether asking for less than all may be what the server does not like.
    pub(super) fn may_refuse_exact_commit(&self) -> bool {
        let (retry, ..) = self.judge();
        REFUSALS.iter().any(|refusal| self.lower.contains(refusal)) || retry == Retry::Once
    }

    /// Returns the error. `action` is what could not be done.
    pub(super) fn failure(&self, action: &str) -> Error {
        let (retry, kind, hint) = self.judge();
        let mut problem = format!("git cannot {action}");
        let shown = self.words.shown();
        if !shown.is_empty() {
            problem = format!("{problem}: {shown}");
        }
        Error::Git {
            problem,
            retry,
            kind,
            hint,
        }
    }

    fn judge(&self) -> (Retry, Kind, Option<&'static str>) {
        let lasting = LASTING
            .iter()
            .find(|(words, ..)| self.lower.contains(words));
        if let Some((_, kind, hint)) = lasting {
            return (Retry::Never, *kind, *hint);
        }
        let retry = match self.status() {
            Some(408 | 425 | 429 | 500..) => Retry::Soon,
            Some(_) => Retry::Never,
            None if PASSING.iter().any(|words| self.lower.contains(words)) => Retry::Soon,
            // A submodule's commit that nobody has.
            None if self.lower.contains("direct fetching of that commit failed") => Retry::Never,
            None => Retry::Once,
        };
        (retry, Kind::Network, None)
    }

    /// Returns the HTTP status that is the reason.
    fn status(&self) -> Option<u16> {
        let (_, rest) = self
            .lower
            .split_once("requested url returned error: ")
            .or_else(|| self.lower.split_once("rpc failed; http "))?;
        rest.get(..3)?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Words};
    use crate::error::{Error, Kind, Retry};

    fn judged(said: &str) -> (Retry, Kind) {
        let err = Failure::new(Words::new(said.as_bytes(), &[])).failure("x");
        (err.retry(), err.kind())
    }

    #[test]
    fn only_what_can_pass_is_tried_again() {
        let passing = "fatal: unable to access 'https://h/r/': ";
        for said in [
            &format!("{passing}Could not resolve host: h"),
            &format!("{passing}The requested URL returned error: 503"),
            &format!("{passing}The requested URL returned error: 429"),
            super::BROKEN_PIPE,
            "error: RPC failed; HTTP 502 curl 22 The requested URL returned error: 502",
            "fetch-pack: unexpected disconnect while reading sideband packet\nfatal: early EOF",
            "ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.",
        ] {
            assert_eq!(judged(said), (Retry::Soon, Kind::Network), "{said}");
        }
        for said in [
            &format!("{passing}The requested URL returned error: 403"),
            "remote: not here\nfatal: repository 'https://h/r/' not found",
            "Host key verification failed.\nfatal: Could not read from remote repository.",
            "git@h: Permission denied (publickey).\nfatal: the remote end hung up unexpectedly",
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            &format!("{passing}server certificate verification failed. CAfile: none"),
            "fatal: unable to read tree (1111111111111111111111111111111111111111)",
        ] {
            assert_eq!(judged(said), (Retry::Never, Kind::Network), "{said}");
        }
        let full = "fatal: cannot create 'x': No space left on device";
        assert_eq!(judged(full), (Retry::Never, Kind::FileSystem));
        assert_eq!(judged("fatal: riddle"), (Retry::Once, Kind::Network));
    }

    #[test]
    fn secrets_and_control_characters_are_not_shown() {
        let said = b"remote: \x1b[31mred s3cret\nfatal: 'https://u:s3cret@h/' is odd\n\nhint: no\n";
        let words = Words::new(said, &["s3cret".into()]);
        let Error::Git { problem, .. } = Failure::new(words).failure("do it") else {
            panic!("another error");
        };
        assert_eq!(
            problem,
            "git cannot do it: remote: \\u{1b}[31mred …; fatal: 'https://u:…@h/' is odd"
        );
    }
}
