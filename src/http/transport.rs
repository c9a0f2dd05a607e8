//! What a failure of the transport means: whether it can pass, and in words that name what failed.

use crate::{
    error::Error,
    http::{dns::ResolveError, tls},
    safe_url::SafeUrl,
};
use std::{error, io};

/// Turns a failure of the transport into an error.
pub(super) fn transport_error(url: SafeUrl, err: reqwest::Error) -> Error {
    if let Some(refusal) = find(&err).and_then(tls::refusal) {
        return Error::Certificate {
            url,
            problem: refusal.problem,
            hint: refusal.hint,
        };
    }
    let mut transient = !err.is_builder();
    let source = if let Some(failure) = find::<ResolveError>(&err) {
        io::Error::other(failure.clone())
    } else if let Some(refusal) = proxy_refusal(&err) {
        transient = refusal.transient;
        io::Error::other(refusal.problem)
    } else if err.is_connect()
        && let Some(rustls::Error::InvalidMessage(problem)) = find(&err)
    {
        // Not for good: what answers in place of a server that is down may not speak TLS.
        io::Error::other(format!(
            "the server does not speak TLS at this port ({problem:?})"
        ))
    } else if err.is_connect() && err.is_timeout() {
        return connect_timed_out(url);
    } else {
        io::Error::other(err.without_url())
    };
    Error::Http {
        url,
        transient,
        source,
    }
}

/// Returns the error for a connection that took too long to make.
pub(super) fn connect_timed_out(url: SafeUrl) -> Error {
    Error::Http {
        url,
        transient: true,
        source: io::Error::new(
            io::ErrorKind::TimedOut,
            "no connection within the time that FETCH_CONTENT_CONNECT_TIMEOUT_MS allows",
        ),
    }
}

/// Returns the first error of a type among an error and its causes. Unlike [`error::Error::source`] alone, this finds
/// what is wrapped in an [`io::Error`] (of which TLS makes two layers), whose source is that of the wrapped one.
pub(super) fn find<'a, T: error::Error + 'static>(
    err: &'a (dyn error::Error + 'static),
) -> Option<&'a T> {
    causes(err).find_map(|cause| cause.downcast_ref())
}

fn causes<'a>(
    err: &'a (dyn error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn error::Error + 'static)> {
    std::iter::successors(Some(err), |err| {
        let inside = err.downcast_ref().and_then(io::Error::get_ref);
        match inside {
            Some(inside) => Some(inside),
            None => err.source(),
        }
    })
}

/// How a proxy refused to open a tunnel.
struct ProxyRefusal {
    problem: &'static str,
    transient: bool,
}

/// Returns how a proxy refused. The type of the error is private to its crate, and its status is not kept: only the
/// text tells.
fn proxy_refusal(err: &reqwest::Error) -> Option<ProxyRefusal> {
    causes(err).find_map(|cause| match cause.to_string().as_str() {
        "tunnel error: proxy authorization required" => Some(ProxyRefusal {
            problem: "the proxy wants other credentials: set https_proxy to http://USER:PASSWORD@HOST:PORT",
            transient: false,
        }),
        "tunnel error: unsuccessful" => Some(ProxyRefusal {
            problem: "the proxy of https_proxy did not connect to the server",
            transient: true,
        }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::find;
    use std::{fmt, io};

    #[test]
    fn what_io_errors_wrap_is_found() {
        let deep = io::Error::other(io::Error::other(fmt::Error));
        assert!(find::<fmt::Error>(&deep).is_some());
        assert!(find::<fmt::Error>(&io::Error::other("else")).is_none());
    }
}
