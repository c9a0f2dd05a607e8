//! [`Error`]: what went wrong, told once: what was tried, where, what was expected and what was found.
//!
//! Two decisions are taken here and nowhere else: whether another attempt can help ([`Error::retry`]) and which exit
//! code a failure has ([`Error::kind`]).

use crate::{rel_path::shown_name, safe_url::SafeUrl, size::ByteSize};
use std::{io, path::PathBuf, time::Duration};

/// The library's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong. The text never includes the source's text; a report walks the chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Arguments, environment or `MOZ_FETCHES` make no sense.
    #[error("{what}")]
    Usage {
        /// What is wrong, naming the thing.
        what: String,
        /// What would be right.
        hint: Option<String>,
    },
    /// No usable answer from a server: DNS, connect, TLS, reset.
    #[error("cannot download {url}")]
    Http {
        /// The URL asked for.
        url: SafeUrl,
        /// Whether another attempt can help.
        transient: bool,
        /// The transport's cause.
        source: io::Error,
    },
    /// Something could not be sent: no connection, or one that broke or did not take it.
    #[error("cannot send to {url}")]
    Send {
        /// Where to.
        url: SafeUrl,
        /// Whether another attempt can help.
        transient: bool,
        /// The transport's cause.
        source: io::Error,
    },
    /// A server cannot prove who it is.
    #[error("cannot trust the server of {url}: its certificate {problem}")]
    Certificate {
        /// The URL asked for.
        url: SafeUrl,
        /// What is wrong with the certificate.
        problem: String,
        /// What can be done about it.
        hint: Option<String>,
    },
    /// The server answered with a status that is not success.
    #[error("{url} answered {status}{}", answer.as_ref().map_or_else(String::new, |text| format!(": {text}")))]
    Status {
        /// The URL that answered, after redirects.
        url: SafeUrl,
        /// Status code and reason phrase.
        status: String,
        /// The status code alone.
        code: u16,
        /// The human part of the answer, control characters escaped.
        answer: Option<String>,
        /// The wait the server asked for.
        retry_after: Option<Duration>,
        /// Whether another answer had named the URL just before, as a redirect does: it may have expired.
        handed_out: bool,
    },
    /// A redirect that must not or cannot be followed.
    #[error("{url} redirects {problem}")]
    Redirect {
        /// The URL that redirects.
        url: SafeUrl,
        /// What is wrong with the redirect.
        problem: String,
    },
    /// Nothing arrived for too long.
    #[error("{url} sent nothing for {after:?} ({received} received)")]
    Stalled {
        /// The URL asked for.
        url: SafeUrl,
        /// The limit.
        after: Duration,
        /// What had arrived until then.
        received: ByteSize,
    },
    /// Too little arrived for too long.
    #[error("{url} sent only {rate} bytes/s for {window:?}, less than {least}")]
    Slow {
        /// The URL asked for.
        url: SafeUrl,
        /// What arrived, in bytes per second.
        rate: u64,
        /// For how long.
        window: Duration,
        /// The limit, in bytes per second.
        least: u64,
    },
    /// The content cannot be gone on with where it broke off: it is not the same any more.
    #[error("{url} cannot be resumed at byte {offset}: {problem}")]
    Changed {
        /// The URL asked for.
        url: SafeUrl,
        /// How much had arrived, in bytes.
        offset: u64,
        /// How the server answered.
        problem: String,
    },
    /// What `Content-Encoding: gzip` announced cannot be decoded.
    #[error("cannot decode {url}")]
    Encoding {
        /// The URL asked for.
        url: SafeUrl,
        /// The decoder's cause.
        source: io::Error,
    },
    /// The body ended before its announced end.
    #[error("{url} ended after {received} bytes of {expected}")]
    Truncated {
        /// The URL asked for.
        url: SafeUrl,
        /// What arrived, in bytes.
        received: u64,
        /// Where it was announced to end, in bytes.
        expected: u64,
    },
    /// The announced length is not the expected size. The wording is the Python tool's.
    #[error(
        "size mismatch on {url}: wanted {expected}; content-length is {announced}, x-cache-status is: {cache}"
    )]
    AnnouncedSize {
        /// The URL asked for.
        url: SafeUrl,
        /// The expected size in bytes.
        expected: u64,
        /// `Content-Length` as sent.
        announced: u64,
        /// `X-Cache-Status` as sent, or `None`: tells a stale cache from a changed upstream.
        cache: String,
    },
    /// The whole has the wrong size. The wording is the Python tool's.
    #[error("size mismatch on {url}: wanted {expected}; got {actual}")]
    Size {
        /// The URL asked for.
        url: SafeUrl,
        /// The expected size in bytes.
        expected: u64,
        /// The received size in bytes.
        actual: u64,
    },
    /// The whole has the wrong digest. The wording is the Python tool's.
    #[error(
        "{algorithm} mismatch on {url}: wanted {expected}; got {actual} ({received} bytes received)"
    )]
    Digest {
        /// The URL asked for.
        url: SafeUrl,
        /// `sha256` or `sha512`.
        algorithm: &'static str,
        /// The expected digest.
        expected: String,
        /// The digest of what was received.
        actual: String,
        /// The received size in bytes: tells truncation from tampering.
        received: u64,
    },
    /// The chain of trust of a task cannot vouch for an artifact.
    #[error("{url} {problem}")]
    ChainOfTrust {
        /// Where the chain of trust came from.
        url: SafeUrl,
        /// What is wrong with it.
        problem: String,
    },
    /// What a server promises of its content is not enough, or contradicts what is known.
    #[error("{url} {problem}")]
    Unverifiable {
        /// Who promises it.
        url: SafeUrl,
        /// What is wrong with it.
        problem: String,
    },
    /// An OpenPGP signature does not vouch for some content.
    #[error("signature {url} {problem}")]
    Signature {
        /// Where the signature came from.
        url: SafeUrl,
        /// What is wrong with it.
        problem: String,
    },
    /// An archive that is malformed, hostile or of an unsupported kind.
    #[error("{}{problem}", member.as_ref().map_or_else(String::new, |member| format!("cannot unpack `{member}`: ")))]
    Archive {
        /// The member, as shown to people.
        member: Option<String>,
        /// What is wrong.
        problem: String,
    },
    /// An archive that is more than a limit allows.
    #[error("{}{problem}", member.as_ref().map_or_else(String::new, |member| format!("cannot unpack `{member}`: ")))]
    Limit {
        /// The member, as shown to people.
        member: Option<String>,
        /// What is too much.
        problem: String,
        /// The environment variable that sets the limit.
        variable: &'static str,
    },
    /// The local file system refused.
    #[error("cannot {action} `{}`", path.display())]
    Fs {
        /// The verb.
        action: &'static str,
        /// Its object.
        path: PathBuf,
        /// The system's cause.
        source: io::Error,
    },
    /// The `git` program did not do what it was asked to.
    #[error("{problem}")]
    Git {
        /// What it could not do, and its own words.
        problem: String,
        /// Whether another attempt can help.
        retry: Retry,
        /// The class of the failure.
        kind: Kind,
        /// What would help.
        hint: Option<&'static str>,
    },
    /// A store refused, or could not be reached.
    #[error("cannot {action} {place}")]
    Store {
        /// The verb.
        action: &'static str,
        /// Its object, in the store.
        place: String,
        /// Whether there is no such object.
        absent: bool,
        /// Whether the store is a folder of this machine.
        local: bool,
        /// What the store said.
        source: io::Error,
    },
    /// A store does not hold what it says it does.
    #[error("{place} {problem}")]
    Damaged {
        /// What is damaged.
        place: String,
        /// How.
        problem: String,
    },
    /// What would be stored contradicts what is stored already.
    #[error("{place} {problem}")]
    Conflict {
        /// What is there.
        place: String,
        /// What else it would have to be.
        problem: String,
    },
    /// Fetches that were to come out of images are in none of them.
    #[error("{} of {of} fetches are in none of the images: {}", names.len(), names.join(", "))]
    Missing {
        /// What people call them.
        names: Vec<String>,
        /// Of how many.
        of: usize,
    },
    /// Some of several tasks failed, as was said when they did.
    #[error("{failed} of {of} tasks failed")]
    Some {
        /// How many.
        failed: usize,
        /// Of how many.
        of: usize,
        /// The class of the first failure.
        kind: Kind,
    },
    /// One of several fetches failed.
    #[error("cannot fetch {name}")]
    Fetch {
        /// The fetch, as people know it.
        name: String,
        /// Why.
        source: Box<Error>,
    },
    /// A deployment did not do what it was asked for.
    #[error("cannot {what}")]
    Deployment {
        /// What that was, verb first.
        what: String,
        /// Why.
        source: Box<Error>,
    },
    /// A registry did not do what it was asked for.
    #[error("cannot {what}")]
    Registry {
        /// What that was, verb first.
        what: String,
        /// The registry.
        host: String,
        /// Whether it was asked without credentials.
        anonymous: bool,
        /// Why.
        source: Box<Error>,
    },
    /// The time for all attempts together is over.
    #[error("not finished within the {total:?} allowed")]
    OutOfTime {
        /// The limit.
        total: Duration,
    },
    /// Retrying did not help.
    #[error("gave up after {attempts} attempts in {elapsed:.1?}")]
    GaveUp {
        /// How many failed.
        attempts: u32,
        /// Since the first.
        elapsed: Duration,
        /// The last failure.
        source: Box<Error>,
    },
    /// Tasks cannot use some caches.
    #[error("{unusable} of {all} caches cannot be used")]
    Caches {
        /// How many.
        unusable: usize,
        /// Of how many.
        all: usize,
        /// Whether it helps to delete the first of them.
        purge: bool,
    },
    /// The work was cancelled from outside.
    #[error("cancelled")]
    Cancelled,
}

/// Returns an error's text and those of its causes, from the outside in. A cause that only repeats what was said is
/// left out.
pub(crate) fn causes(err: &dyn std::error::Error) -> Vec<String> {
    let mut texts = vec![err.to_string()];
    let mut source = err.source();
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    texts.dedup();
    texts
}

/// Returns an error's text and those of its causes, as one line.
pub(crate) fn chain(err: &dyn std::error::Error) -> String {
    causes(err).join(": ")
}

/// Whether another attempt can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The cause may pass: try until the budget is used up.
    Soon,
    /// A stale cache or an expired URL may be the cause: try once more.
    Once,
    /// Nothing changes by asking again.
    Never,
}

/// The class of a failure, which is its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exit code 2.
    Usage,
    /// Exit code 3.
    Network,
    /// Exit code 4.
    Integrity,
    /// Exit code 5.
    Archive,
    /// Exit code 6.
    FileSystem,
    /// Exit code 72, `run-task`'s for caches that the worker has to delete.
    Purge,
    /// Exit code 1, `run-task`'s for a task that is set up wrongly.
    Configuration,
    /// Exit code 130 (or 143).
    Interrupted,
}

impl Error {
    /// Makes a usage error without a hint.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::Usage {
            what: what.into(),
            hint: None,
        }
    }

    /// Makes an archive error that concerns no single member.
    pub fn archive(problem: impl Into<String>) -> Self {
        Self::Archive {
            member: None,
            problem: problem.into(),
        }
    }

    /// Makes an error about a limit on archives that `variable` sets.
    pub fn limit(problem: impl Into<String>, variable: &'static str) -> Self {
        Self::Limit {
            member: None,
            problem: problem.into(),
            variable,
        }
    }

    /// Adds to an archive error which member it concerns.
    #[must_use]
    pub fn of_member(mut self, name: &[u8]) -> Self {
        if let Self::Archive { member, .. } | Self::Limit { member, .. } = &mut self {
            *member = Some(shown_name(name).to_string());
        }
        self
    }

    /// Returns whether another attempt can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Http {
                transient: true, ..
            }
            | Self::Send {
                transient: true, ..
            }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::Changed { .. }
            | Self::Truncated { .. }
            | Self::Status {
                code: 408 | 425 | 429 | 500..,
                ..
            } => Retry::Soon,
            // S3 did not get what was sent to it in the time that it allows.
            Self::Status {
                code: 400,
                handed_out: true,
                answer: Some(answer),
                ..
            } if answer.starts_with("RequestTimeout") => Retry::Soon,
            // How a storage says that the signature in its URL has expired, or that it was too slow to be asked.
            Self::Status {
                code: 400 | 403,
                handed_out: true,
                ..
            }
            | Self::Encoding { .. }
            | Self::AnnouncedSize { .. }
            | Self::Size { .. }
            | Self::Digest { .. } => Retry::Once,
            Self::Fetch { source, .. }
            | Self::Deployment { source, .. }
            | Self::Registry { source, .. } => source.retry(),
            Self::Git { retry, .. } => *retry,
            Self::Usage { .. }
            | Self::Http {
                transient: false, ..
            }
            | Self::Send {
                transient: false, ..
            }
            | Self::Certificate { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::ChainOfTrust { .. }
            | Self::Unverifiable { .. }
            | Self::Signature { .. }
            | Self::Archive { .. }
            | Self::Limit { .. }
            | Self::Fs { .. }
            // The store has its own retries.
            | Self::Store { .. }
            | Self::Damaged { .. }
            | Self::Conflict { .. }
            | Self::GaveUp { .. }
            | Self::Some { .. }
            | Self::Missing { .. }
            | Self::OutOfTime { .. }
            | Self::Caches { .. }
            | Self::Cancelled => Retry::Never,
        }
    }

    /// Returns whether the thing asked for does not exist.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Status { code, .. } => *code == 404,
            Self::Fs { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Store { absent, .. } => *absent,
            Self::Fetch { source, .. }
            | Self::GaveUp { source, .. }
            | Self::Deployment { source, .. }
            | Self::Registry { source, .. } => source.is_absence(),
            _ => false,
        }
    }

    /// Returns whether the thing asked for does not exist, or not any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_absence() || self.refused_by_api() == Some(410)
    }

    /// Returns the status by which the API of a deployment refused something for good.
    pub(crate) fn refused_by_api(&self) -> Option<u16> {
        match self {
            Self::Status {
                code,
                handed_out: false,
                ..
            } if self.retry() == Retry::Never => Some(*code),
            Self::GaveUp { source, .. } | Self::Deployment { source, .. } => {
                source.refused_by_api()
            }
            _ => None,
        }
    }

    /// Says of a failure to talk to a server that something was to be sent.
    pub(crate) fn while_sending(self) -> Self {
        match self {
            Self::Http {
                url,
                transient,
                source,
            } => Self::Send {
                url,
                transient,
                source,
            },
            other => other,
        }
    }

    /// Returns how long a server asked to wait before the next request.
    pub(crate) fn asked_wait(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns the class of the failure.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Usage { .. } => Kind::Usage,
            Self::Http { .. }
            | Self::Send { .. }
            | Self::Certificate { .. }
            | Self::Status { .. }
            | Self::Redirect { .. }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::Changed { .. }
            | Self::Encoding { .. }
            | Self::Truncated { .. }
            | Self::Store { local: false, .. }
            | Self::Missing { .. }
            | Self::OutOfTime { .. } => Kind::Network,
            Self::AnnouncedSize { .. }
            | Self::Size { .. }
            | Self::Digest { .. }
            | Self::ChainOfTrust { .. }
            | Self::Unverifiable { .. }
            | Self::Damaged { .. }
            | Self::Conflict { .. }
            | Self::Signature { .. } => Kind::Integrity,
            Self::Archive { .. } | Self::Limit { .. } => Kind::Archive,
            Self::Git { kind, .. } | Self::Some { kind, .. } => *kind,
            Self::Fs { .. } | Self::Store { local: true, .. } => Kind::FileSystem,
            Self::Fetch { source, .. }
            | Self::GaveUp { source, .. }
            | Self::Deployment { source, .. }
            | Self::Registry { source, .. } => source.kind(),
            Self::Caches { purge: true, .. } => Kind::Purge,
            Self::Caches { purge: false, .. } => Kind::Configuration,
            Self::Cancelled => Kind::Interrupted,
        }
    }

    /// Returns what the reader can do about it, if there is something.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage { hint, .. } | Self::Certificate { hint, .. } => return hint.clone(),
            Self::Git { hint, .. } => return hint.map(str::to_owned),
            Self::Limit { variable, .. } => {
                return Some(format!(
                    "it may be made to fill disk or memory; if you trust it, raise the limit with {variable}"
                ));
            }
            Self::Fetch { source, .. } | Self::GaveUp { source, .. } => return source.hint(),
            Self::Deployment { source, .. } => {
                return match source.refused_by_api() {
                    Some(status) => api_hint(status).map(str::to_owned),
                    None => source.hint(),
                };
            }
            Self::Registry {
                host,
                anonymous,
                source,
                ..
            } => return registry_hint(source, host, *anonymous),
            Self::Status {
                code, handed_out, ..
            } => return status_hint(*code, *handed_out).map(str::to_owned),
            Self::Size { .. } | Self::AnnouncedSize { .. } | Self::Digest { .. } => {
                "the content differs from what was pinned: the upstream changed it, or a cache serves something else"
            }
            Self::ChainOfTrust { .. } => {
                "`verify-hash` needs a task with the chainOfTrust feature that lists the artifact, and --chain-of-trust-key \
                 the key of the worker that ran it"
            }
            Self::Damaged { .. } => {
                "`fetch-content store verify --discard` removes what is damaged in a store; an image has to be made or \
                 pulled again"
            }
            Self::Missing { .. } => MISSING_HINT,
            Self::Signature { .. } => {
                "either this is not what its maker signed, or the keys given are not the maker's present ones"
            }
            Self::Http { .. }
            | Self::Some { .. }
            | Self::Send { .. }
            | Self::Redirect { .. }
            | Self::Stalled { .. }
            | Self::Slow { .. }
            | Self::Changed { .. }
            | Self::Encoding { .. }
            | Self::Truncated { .. }
            | Self::Unverifiable { .. }
            | Self::Archive { .. }
            | Self::Fs { .. }
            | Self::Store { .. }
            | Self::Conflict { .. }
            | Self::OutOfTime { .. }
            | Self::Caches { .. }
            | Self::Cancelled => return None,
        };
        Some(hint.to_owned())
    }
}

/// What can be done about fetches that no image has.
const MISSING_HINT: &str = "--cache-directory must be the directory that they are in; what was unpacked of archives is \
    taken only from the image of --trust-cache, or by a lock with the hashes of trees (--locked)";

/// Returns what can be done about a status. `handed_out` is whether another answer had named the URL.
fn status_hint(code: u16, handed_out: bool) -> Option<&'static str> {
    Some(match code {
        // After a redirect it was a storage that refused: nobody's scopes are at fault.
        401 | 403 if handed_out => return None,
        401 => {
            "the credentials are wrong or have expired, or the clock of this machine is more than 15 minutes wrong; \
             an upstream may want a --header"
        }
        403 => {
            "private artifacts need the scope queue:get-artifact:<name>, of the task for TASKCLUSTER_PROXY_URL or of \
             the client for TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN, and secrets secrets:get:<name>; an \
             upstream may want a --header"
        }
        404 => "check the URL; an artifact may be missing because its task has not finished",
        407 => {
            "the proxy wants other credentials: set http_proxy to http://USER:PASSWORD@HOST:PORT"
        }
        410 => "an artifact has expired when this is answered: run the task that makes it again",
        424 => "the task could not upload this artifact: see the log of that task",
        _ => return None,
    })
}

/// Returns what can be done about a refusal of something that was asked of a deployment's API.
fn api_hint(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => {
            "the credentials are wrong or have expired, or the clock of this machine is more than 15 minutes wrong"
        }
        403 => {
            "the missing scopes must be added to the task, for TASKCLUSTER_PROXY_URL, or to the client, for \
             TASKCLUSTER_CLIENT_ID and TASKCLUSTER_ACCESS_TOKEN"
        }
        409 => {
            "what has been created stays as it is: another storage, content type or earlier expiry is refused, and so \
             is anything new for a run that has ended"
        }
        _ => return None,
    })
}

/// Returns what can be done about a refusal of something that was asked of a registry.
fn registry_hint(refusal: &Error, host: &str, anonymous: bool) -> Option<String> {
    let Some(status) = refusal.refused_by_api() else {
        return refusal.hint();
    };
    Some(match status {
        401 | 403 if anonymous => format!(
            "{host} was asked without credentials: `docker login {host}` or `podman login {host}` leaves some, in a file \
             that DOCKER_CONFIG or REGISTRY_AUTH_FILE may name"
        ),
        401 | 403 => format!(
            "the credentials for {host} are wrong or have expired, or do not allow this: renew them with `docker login \
             {host}` or `podman login {host}`"
        ),
        404 => {
            "check the name: the registry has no such image, or does not tell without credentials"
                .into()
        }
        413 => "the registry, or a proxy before it, limits how much may be sent at once".into(),
        _ => return None,
    })
}

impl Kind {
    /// Returns the process's exit code. 1 is left to failures nobody foresaw, and to what `run-task` has it for.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Network => 3,
            Self::Integrity => 4,
            Self::Archive => 5,
            Self::FileSystem => 6,
            Self::Purge => 72,
            Self::Configuration => 1,
            Self::Interrupted => 130,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Kind, Retry};
    use crate::safe_url::SafeUrl;
    use url::Url;

    fn status(code: u16) -> Error {
        let url = SafeUrl::from(&Url::parse("http://h/x").unwrap());
        Error::Status {
            url,
            status: code.to_string(),
            code,
            answer: None,
            retry_after: None,
            handed_out: false,
        }
    }

    #[test]
    fn only_statuses_that_can_pass_are_retried() {
        for code in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert_eq!(status(code).retry(), Retry::Soon, "{code}");
        }
        for code in [400, 401, 403, 404, 410, 416, 424] {
            assert_eq!(status(code).retry(), Retry::Never, "{code}");
        }
        for code in [400, 403, 404] {
            let mut refused = status(code);
            if let Error::Status { handed_out, .. } = &mut refused {
                *handed_out = true;
            }
            let once = code != 404;
            assert_eq!(refused.retry() == Retry::Once, once, "{code}");
        }
    }

    #[test]
    fn a_storage_that_waited_too_long_may_be_asked_often() {
        let of = |said: &str, by_storage| {
            let mut refused = status(400);
            if let Error::Status {
                handed_out, answer, ..
            } = &mut refused
            {
                (*handed_out, *answer) = (by_storage, Some(said.into()));
            }
            refused.retry()
        };
        let said = "RequestTimeout: Your socket connection was not read from";
        assert_eq!(of(said, true), Retry::Soon);
        assert_eq!(of("EntityTooLarge: too large", true), Retry::Once);
        assert_eq!(of(said, false), Retry::Never);
    }

    #[test]
    fn wrappers_keep_class_and_hint() {
        let err = Error::Fetch {
            name: "x".into(),
            source: Box::new(status(410)),
        };
        assert_eq!(err.kind(), Kind::Network);
        assert!(err.hint().unwrap().contains("expired"));
    }
}
