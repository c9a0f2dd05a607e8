//! [`Client`]: the one HTTP client. It follows redirects itself, because what may be sent along depends on where they
//! lead.

use crate::{
    error::{Error, Result},
    http::{Body, body::transport_error},
    safe_url::SafeUrl,
};
use reqwest::{
    Response, StatusCode,
    header::{ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER},
};
use std::{
    io,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use url::Url;

/// Redirects followed for one request, as the Python tool does.
const MAX_REDIRECTS: usize = 10;

/// How much of an error's body is read for its message, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Limits of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For the answer to begin, and between any two pieces of the body.
    pub stall_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// A request header a caller asked for, such as `Authorization: token`. Sent to the origin of the URL it was given
/// for, and never to another one that it redirects to.
#[derive(Clone)]
pub struct Header {
    name: HeaderName,
    value: HeaderValue,
}

impl FromStr for Header {
    type Err = Error;

    /// Parses `Key: value`. The value may hold colons.
    fn from_str(text: &str) -> Result<Self> {
        let malformed = |problem: &str| Error::Usage {
            what: format!(
                "malformed header `{}`: {problem}",
                text.split(':').next().unwrap_or_default().escape_debug()
            ),
            hint: Some("give headers as `Key: value`".into()),
        };
        let (name, value) = text
            .split_once(':')
            .ok_or_else(|| malformed("there is no colon"))?;
        let name = HeaderName::from_str(name.trim())
            .map_err(|_invalid| malformed("the name has characters that cannot be sent"))?;
        let mut value = HeaderValue::from_str(value.trim())
            .map_err(|_invalid| malformed("the value has characters that cannot be sent"))?;
        value.set_sensitive(true);
        Ok(Self { name, value })
    }
}

/// Where content comes from.
#[derive(Clone)]
pub enum Source {
    /// A server.
    Url {
        /// Asked with GET.
        url: Url,
        /// Sent along, to the origin of `url` only.
        headers: Vec<Header>,
    },
    /// A local file, which is read like a download.
    File(PathBuf),
}

/// The HTTP client of a run. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
    settings: Settings,
}

impl Client {
    /// Makes a client that trusts the system's certificates, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, and uses
    /// the proxies named by the environment.
    ///
    /// # Errors
    /// [`Error::Usage`] when TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self> {
        let setup = |err: &dyn std::fmt::Display| Error::usage(format!("cannot set up TLS: {err}"));
        let mut roots = rustls::RootCertStore::empty();
        // Certificates that cannot be read are missing; a server that needs them fails with the reason.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::ring::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .map_err(|err| setup(&err))?
        .with_root_certificates(roots)
        .with_no_client_auth();
        let inner = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(settings.connect_timeout)
            .tcp_nodelay(true)
            .user_agent(concat!("fetch-content/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|err| setup(&err))?;
        Ok(Self { inner, settings })
    }

    /// Begins to read content, wherever it is.
    ///
    /// # Errors
    /// As [`Client::get`], or [`Error::Fs`].
    pub async fn open(&self, source: &Source) -> Result<Body> {
        match source {
            Source::Url { url, headers } => self.get(url, headers).await,
            Source::File(path) => Body::open(path).await,
        }
    }

    /// Requests `url` and returns the body of the answer that redirects lead to, undecoded but for `Content-Encoding`.
    ///
    /// # Errors
    /// [`Error::Http`], [`Error::Status`], [`Error::Redirect`] and [`Error::Stalled`].
    pub async fn get(&self, url: &Url, headers: &[Header]) -> Result<Body> {
        let mut here = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let own = if here.origin() == url.origin() {
                headers
            } else {
                &[]
            };
            let response = self.request(&here, own).await?;
            if !is_redirect(response.status()) {
                let shown = SafeUrl::from(url);
                return if response.status().is_success() {
                    Ok(Body::new(
                        shown,
                        url.path(),
                        response,
                        self.settings.stall_timeout,
                    ))
                } else {
                    Err(self.refusal(&here, response).await)
                };
            }
            here = redirect_target(&here, &response)?;
        }
        Err(Error::Redirect {
            url: SafeUrl::from(url),
            problem: format!("more than {MAX_REDIRECTS} times"),
        })
    }

    async fn request(&self, url: &Url, headers: &[Header]) -> Result<Response> {
        // Artifacts may be stored gzip-encoded and are then served so, whatever was asked for; asking for it keeps
        // storage front ends from decoding on the fly (taskcluster/taskgraph#992).
        let mut map = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        for Header { name, value } in headers {
            map.insert(name, value.clone());
        }
        let shown = SafeUrl::from(url);
        let after = self.settings.stall_timeout;
        match tokio::time::timeout(after, self.inner.get(url.clone()).headers(map).send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(err)) => Err(transport_error(shown, err)),
            Err(_elapsed) => Err(Error::Stalled {
                url: shown,
                after,
                received: crate::size::ByteSize(0),
            }),
        }
    }

    /// Turns an answer that is neither content nor redirect into an error, with the human part of its body.
    async fn refusal(&self, url: &Url, response: Response) -> Error {
        let status = response.status();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let answer = tokio::time::timeout(self.settings.stall_timeout, read_some(response))
            .await
            .unwrap_or_default();
        Error::Status {
            url: SafeUrl::from(url),
            status: status.to_string(),
            code: status.as_u16(),
            answer: human_text(&answer),
            retry_after,
        }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn redirect_target(from: &Url, response: &Response) -> Result<Url> {
    let refused = |problem: String| Error::Redirect {
        url: SafeUrl::from(from),
        problem,
    };
    let location = response
        .headers()
        .get(LOCATION)
        .ok_or_else(|| refused("without saying where to".into()))?;
    let target = str::from_utf8(location.as_bytes())
        .map_err(io::Error::other)
        .and_then(|text| from.join(text).map_err(io::Error::other))
        .map_err(|err| refused(format!("to something that is not a URL: {err}")))?;
    match target.scheme() {
        "http" | "https" if target.has_host() => Ok(target),
        scheme => Err(refused(format!(
            "to a `{scheme}:` URL, which is not http or https"
        ))),
    }
}

/// Reads the beginning of a body; what cannot be read is left out.
async fn read_some(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(MAX_ANSWER);
    body
}

/// Returns what an error's body says to people: `message` and `reason` of the Taskcluster API's JSON (before its
/// `---` separator), or the first line of other text that is not HTML.
fn human_text(body: &[u8]) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct ApiError {
        message: Option<String>,
        reason: Option<String>,
    }
    let text = String::from_utf8_lossy(body);
    let text = match serde_json::from_slice::<ApiError>(body) {
        Ok(ApiError { message, reason }) => {
            let message = message
                .as_deref()
                .map(|text| text.split("\n---").next().unwrap_or_default().trim());
            [reason.as_deref(), message]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(": ")
        }
        Err(_) if text.trim_start().starts_with('<') => String::new(),
        Err(_) => text
            .trim()
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .take(200)
            .collect(),
    };
    let shown: String = text
        .trim()
        .replace('\n', " ")
        .escape_debug()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'");
    (!shown.is_empty()).then_some(shown)
}

/// Reads `Retry-After` in either form: seconds or an HTTP date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    Some(
        httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::{Header, human_text, retry_after};
    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
    use std::time::{Duration, SystemTime};

    #[test]
    fn header_values_may_hold_colons() {
        let header: Header = "Authorization: Bearer a:b".parse().unwrap();
        assert_eq!(
            (header.name.as_str(), header.value.as_bytes()),
            ("authorization", &b"Bearer a:b"[..])
        );
    }

    #[test]
    fn malformed_headers_are_named_without_their_value() {
        for text in ["no colon", "bad name: x", "X: secret\nY: z"] {
            let err = text.parse::<Header>().err().unwrap().to_string();
            assert!(
                err.starts_with("malformed header `") && !err.contains("secret"),
                "{err}"
            );
        }
    }

    #[test]
    fn the_human_part_of_an_error_is_found_and_escaped() {
        let api = br#"{"code":"ResourceNotFound","message":"Artifact not found\n\n---\n\n* method: x","requestInfo":{}}"#;
        assert_eq!(human_text(api).unwrap(), "Artifact not found");
        let error = br#"{"reason":"file-missing-on-worker","message":"no \u001b[31mfile"}"#;
        assert_eq!(
            human_text(error).unwrap(),
            "file-missing-on-worker: no \\u{1b}[31mfile"
        );
        assert_eq!(human_text(b"<html>Bad Gateway</html>"), None);
        assert_eq!(
            human_text(b"plain \"words\"\nmore").unwrap(),
            "plain \"words\""
        );
        assert_eq!(human_text(b""), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let read = |value: &str| {
            retry_after(
                &HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]),
                now,
            )
        };
        assert_eq!(read("17"), Some(Duration::from_secs(17)));
        assert_eq!(
            read("Tue, 14 Nov 2023 22:13:50 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(read("Tue, 14 Nov 2023 22:13:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
