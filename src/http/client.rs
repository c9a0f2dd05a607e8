//! [`Client`]: the one HTTP client. It follows redirects itself, because what may be sent along depends on where they
//! lead.

use crate::{
    error::{Error, Result},
    http::{
        Body,
        body::{Place, validator},
        content_range::ContentRange,
        dns, encoding, proxy, tls,
        transport::transport_error,
    },
    safe_url::SafeUrl,
    size::ByteSize,
};
use reqwest::{
    Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderName, HeaderValue,
        IF_RANGE, LOCATION, RANGE, RETRY_AFTER,
    },
};
use std::{
    io,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

/// Redirects followed for one request, as the Python tool does.
const MAX_REDIRECTS: usize = 10;

/// How much of an error's body is read for its message, in bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// What a server may send of one answer before it is read, over HTTP/2, in bytes.
const STREAM_WINDOW: u32 = 2 << 20;

/// The same for all answers of one connection together.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Parts of [`super::ahead::PART`] bytes that may be in memory before their turn: 32 MiB.
const MAX_PARTS: usize = 8;

/// Limits of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For DNS, TCP and TLS together.
    pub connect_timeout: Duration,
    /// For the answer to begin, and between any two pieces of the body.
    pub stall_timeout: Duration,
    /// What must arrive on average over `stall_timeout`, in bytes per second.
    pub min_speed: u64,
    /// The most connections for one body.
    pub connections: usize,
}

impl Settings {
    /// For content that does not come over a network.
    pub(super) fn without_limits() -> Self {
        Self {
            stall_timeout: Duration::MAX,
            min_speed: 0,
            ..Self::default()
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(60),
            min_speed: 1000,
            connections: 8,
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
    Url(Remote),
    /// A local file, which is read like a download.
    File(PathBuf),
}

/// Content on a server.
#[derive(Clone)]
pub struct Remote {
    /// Asked with GET.
    pub url: Url,
    /// Sent along, to the origin of `url` only.
    pub headers: Vec<Header>,
}

/// The HTTP client of a run. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    /// Many requests may share one of its connections, by HTTP/2.
    shared: reqwest::Client,
    /// Each request at a time has a connection for itself, which is the point of asking for parts.
    single: reqwest::Client,
    settings: Settings,
    /// Parts that are in memory before their turn, in the whole run.
    parts: Arc<Semaphore>,
}

/// Which bytes of some content to ask for.
pub(super) struct Part<'a> {
    pub(super) place: &'a Place,
    pub(super) start: u64,
    /// Exclusive; to the end if there is none.
    pub(super) end: Option<u64>,
}

/// Whom to ask for a part.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// The URL of the source, which may lead elsewhere now: what it led to may have expired.
    Source,
    /// Where it led to, over a connection of its own.
    Location,
}

impl Client {
    /// Makes a client that trusts the system's certificates, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`, and uses
    /// the proxies named by the environment.
    ///
    /// # Errors
    /// [`Error::Usage`] when a proxy's URL is malformed or TLS cannot be set up.
    pub fn new(settings: Settings) -> Result<Self> {
        let tls = tls::client_config()?;
        let proxies = proxy::from_environment()?;
        let resolver = Arc::new(dns::Resolver::default());
        let build = |protocols: &[&[u8]]| {
            let mut tls = tls.clone();
            tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            let builder = reqwest::Client::builder().no_proxy();
            let builder = proxies
                .iter()
                .cloned()
                .fold(builder, reqwest::ClientBuilder::proxy);
            builder
                .tls_backend_preconfigured(tls)
                .dns_resolver(Arc::clone(&resolver))
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(settings.connect_timeout)
                .tcp_nodelay(true)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(CONNECTION_WINDOW)
                .user_agent(concat!("fetch-content/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|err| Error::usage(format!("cannot set up HTTP: {err}")))
        };
        Ok(Self {
            shared: build(&[b"h2", b"http/1.1"])?,
            single: build(&[b"http/1.1"])?,
            settings,
            parts: Arc::new(Semaphore::new(MAX_PARTS)),
        })
    }

    /// Begins to read content, wherever it is.
    ///
    /// # Errors
    /// As [`Client::get`], or [`Error::Fs`].
    pub async fn open(&self, source: &Source) -> Result<Body> {
        match source {
            Source::Url(remote) => self.get(remote).await,
            Source::File(path) => Body::open(path).await,
        }
    }

    /// Returns the body of the answer that redirects lead to, undecoded but for `Content-Encoding`.
    ///
    /// # Errors
    /// [`Error::Http`], [`Error::Status`], [`Error::Redirect`] and [`Error::Stalled`].
    pub async fn get(&self, remote: &Remote) -> Result<Body> {
        let (location, response) = self
            .follow(&self.shared, remote, &remote.url, &HeaderMap::new())
            .await?;
        Ok(Body::whole(
            SafeUrl::from(&remote.url),
            remote.url.path(),
            &location,
            response,
            &self.settings,
        ))
    }

    /// Returns a part of some content that is still the same, and where it came from.
    ///
    /// # Errors
    /// As [`Client::get`]; [`Error::Changed`] when the server sends anything but that part.
    pub(super) async fn get_part(
        &self,
        remote: &Remote,
        part: Part<'_>,
        ask: Ask,
    ) -> Result<(Url, Body)> {
        let Part { place, start, end } = part;
        let last = end.map_or_else(String::new, |end| (end - 1).to_string());
        let range = HeaderValue::from_str(&format!("bytes={start}-{last}"))
            .map_err(|err| Error::usage(err.to_string()))?;
        let conditions =
            HeaderMap::from_iter([(RANGE, range), (IF_RANGE, place.validator.clone())]);
        let (client, from) = match ask {
            Ask::Source => (&self.shared, &remote.url),
            Ask::Location => (&self.single, &place.location),
        };
        let url = SafeUrl::from(&remote.url);
        let changed = |problem| Error::Changed {
            url: url.clone(),
            offset: start,
            problem,
        };
        let (location, response) = match self.follow(client, remote, from, &conditions).await {
            Ok(answer) => answer,
            Err(Error::Status { code: 416, .. }) => {
                return Err(changed("it is shorter now".into()));
            }
            Err(err) => return Err(err),
        };
        let range = check_part(&response, place, start, end).map_err(changed)?;
        Ok((location, Body::part(url, range, response, &self.settings)))
    }

    /// Returns the limits of its connections.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the room for one more part that arrives before its turn, if there is some.
    pub(super) fn room_for_part(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.parts).try_acquire_owned().ok()
    }

    /// Asks `from`, and whom it redirects to, until there is an answer that is none. Headers that are the caller's go
    /// to the origin of the source only.
    async fn follow(
        &self,
        client: &reqwest::Client,
        remote: &Remote,
        from: &Url,
        conditions: &HeaderMap,
    ) -> Result<(Url, Response)> {
        let mut here = from.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = conditions.clone();
            if here.origin() == remote.url.origin() {
                headers.extend(
                    remote
                        .headers
                        .iter()
                        .map(|header| (header.name.clone(), header.value.clone())),
                );
            }
            let response = self.request(client, &here, headers).await?;
            if !is_redirect(response.status()) {
                return if response.status().is_success() {
                    Ok((here, response))
                } else {
                    Err(self.refusal(&here, response).await)
                };
            }
            here = redirect_target(&here, &response)?;
        }
        Err(Error::Redirect {
            url: SafeUrl::from(from),
            problem: format!("more than {MAX_REDIRECTS} times"),
        })
    }

    async fn request(
        &self,
        client: &reqwest::Client,
        url: &Url,
        mut headers: HeaderMap,
    ) -> Result<Response> {
        // Artifacts may be stored gzip-encoded and are then served so, whatever was asked for; asking for it keeps
        // storage front ends from decoding on the fly (taskcluster/taskgraph#992).
        headers
            .entry(ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("gzip"));
        let shown = SafeUrl::from(url);
        let after = self.settings.stall_timeout;
        match tokio::time::timeout(after, client.get(url.clone()).headers(headers).send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(err)) => Err(transport_error(shown, err)),
            Err(_elapsed) => Err(Error::Stalled {
                url: shown,
                after,
                received: ByteSize(0),
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

/// Returns which bytes an answer holds, if they are those from `start` to `end` of the content at `place`; else what is
/// wrong with it.
fn check_part(
    response: &Response,
    place: &Place,
    start: u64,
    end: Option<u64>,
) -> std::result::Result<ContentRange, String> {
    let headers = response.headers();
    let same = validator(headers).map(|now| *now == place.validator);
    match (response.status(), same) {
        (_, Some(false)) => return Err("it has changed".into()),
        (StatusCode::PARTIAL_CONTENT, _) => {}
        (_, Some(true)) => return Err("the server sends the whole again".into()),
        (_, None) => return Err("the server does not say whether it has changed".into()),
    }
    if headers.contains_key(CONTENT_ENCODING) {
        return Err("it is encoded now".into());
    }
    let range = headers
        .get(CONTENT_RANGE)
        .and_then(|value| ContentRange::parse(value.to_str().ok()?))
        .ok_or("the server does not say which part it sends")?;
    let total = place.total.or(range.total);
    let expected = ContentRange {
        start,
        end: end.or(total).unwrap_or(range.end),
        total: range.total.and(total),
    };
    if range == expected {
        Ok(range)
    } else {
        Err(format!("the server sends {range}, not {expected}"))
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
    let encoded = encoding::is_gzip(response.headers());
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body.truncate(MAX_ANSWER);
    if encoded {
        body = encoding::gunzip_some(&body, MAX_ANSWER as u64);
    }
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
