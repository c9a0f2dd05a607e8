//! [`Client`]: the one HTTP client. It follows redirects itself, because what may be sent along depends on where they
//! lead.

use crate::{
    error::{Error, Result},
    http::{
        Address, Answer, Body, Header, dns, ftp,
        part::{Ask, Part},
        proxy,
        refusal::refusal,
        tls,
        transport::transport_error,
    },
    safe_url::SafeUrl,
    size::ByteSize,
};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, IF_RANGE, LOCATION,
        RANGE,
    },
};
use std::{io, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

/// Redirects followed for one request, as the Python tool does.
pub(super) const MAX_REDIRECTS: usize = 10;

/// What a server may send of one answer before it is read, over HTTP/2, in bytes.
const STREAM_WINDOW: u32 = 2 << 20;

/// Parts of [`super::ahead::PART`] bytes that may be in memory before their turn: 48 MiB.
const MAX_PARTS: usize = 24;

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
    /// How many answers may be open at once, read or not.
    pub answers: usize,
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
            connections: 16,
            answers: 16,
        }
    }
}

/// Where content comes from.
#[derive(Clone)]
pub enum Source {
    /// A server.
    Url(Box<Address>),
    /// A local file, which is read like a download.
    File(PathBuf),
}

impl Source {
    /// Returns what people may see of it.
    #[must_use]
    pub fn shown(&self) -> SafeUrl {
        match self {
            Self::Url(address) => SafeUrl::from(&address.url),
            Self::File(path) => SafeUrl::of_file(path),
        }
    }

    /// Returns the name that the content has there, if it is one that a file can have.
    #[must_use]
    pub fn file_name(&self) -> Option<String> {
        let name = match self {
            Self::Url(address) => {
                let last = address.url.path().rsplit('/').next().unwrap_or_default();
                let name = percent_encoding::percent_decode_str(last).decode_utf8();
                name.ok()?.into_owned()
            }
            Self::File(path) => path.file_name()?.to_str()?.to_owned(),
        };
        let is_name =
            !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        is_name.then_some(name)
    }
}

/// The HTTP client of a run. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    /// Many requests may share one of its connections, by HTTP/2.
    shared: reqwest::Client,
    /// Each request at a time has a connection for itself, which is the point of asking for parts.
    single: reqwest::Client,
    settings: Settings,
    resolver: dns::Resolver,
    /// Parts that are in memory before their turn, in the whole run.
    parts: Arc<Semaphore>,
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
        let resolver = dns::Resolver::default();
        // Answers that are not read for a while must not keep the others on their connection from being sent.
        let window = u32::try_from(settings.answers + 2)
            .unwrap_or(u32::MAX)
            .saturating_mul(STREAM_WINDOW)
            .min(i32::MAX.unsigned_abs());
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
                .dns_resolver(resolver.clone())
                .redirect(reqwest::redirect::Policy::none())
                .referer(false)
                .connect_timeout(settings.connect_timeout)
                .tcp_nodelay(true)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(window)
                .user_agent(concat!("fetch-content/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|err| Error::usage(format!("cannot set up HTTP: {err}")))
        };
        Ok(Self {
            shared: build(&[b"h2", b"http/1.1"])?,
            single: build(&[b"http/1.1"])?,
            settings,
            resolver,
            parts: Arc::new(Semaphore::new(MAX_PARTS)),
        })
    }

    /// Begins to read content, wherever it is.
    ///
    /// # Errors
    /// As [`Client::get`], or [`Error::Fs`].
    pub async fn open(&self, source: &Source) -> Result<Body> {
        match source {
            Source::Url(address) => self.get(address).await,
            Source::File(path) => Body::open(path).await,
        }
    }

    /// Requests content and returns the body of the answer that redirects and detours lead to, undecoded but for
    /// `Content-Encoding`.
    ///
    /// # Errors
    /// [`Error::Http`], [`Error::Status`], [`Error::Redirect`] and [`Error::Stalled`]; what signs or knows a detour may
    /// have others.
    pub async fn get(&self, asked: &Address) -> Result<Body> {
        if asked.url.scheme() == "ftp" {
            return ftp::open(asked, 0, &self.settings, &self.resolver).await;
        }
        let (location, response) = self.follow(&self.shared, asked, &HeaderMap::new()).await?;
        Ok(Body::whole(&asked.url, location, response, &self.settings))
    }

    /// Returns a part of some content that is still the same, and where it came from.
    ///
    /// # Errors
    /// As [`Client::get`]; [`Error::Changed`] when the server sends anything but that part.
    pub(super) async fn get_part(
        &self,
        asked: &Address,
        part: Part<'_>,
        ask: Ask,
    ) -> Result<(Address, Body)> {
        let Part { place, start, end } = part;
        if asked.url.scheme() == "ftp" {
            let body = ftp::open(asked, start, &self.settings, &self.resolver).await?;
            let total = body.head().length.map(|rest| start + rest);
            if total
                .zip(place.total)
                .is_some_and(|(now, then)| now != then)
            {
                return Err(Error::Changed {
                    url: SafeUrl::from(&asked.url),
                    offset: start,
                    problem: "it has another size now".into(),
                });
            }
            return Ok((asked.clone(), body));
        }
        let last = end.map_or_else(String::new, |end| (end - 1).to_string());
        let range = HeaderValue::from_str(&format!("bytes={start}-{last}"))
            .map_err(|err| Error::usage(err.to_string()))?;
        let mut conditions = HeaderMap::from_iter([(RANGE, range)]);
        conditions.extend(
            place
                .validator
                .clone()
                .map(|validator| (IF_RANGE, validator)),
        );
        let client = match ask {
            Ask::Source => &self.shared,
            Ask::Location => &self.single,
        };
        let changed = |problem| Error::Changed {
            url: SafeUrl::from(&asked.url),
            offset: start,
            problem,
        };
        let (location, response) = match self.follow(client, asked, &conditions).await {
            Ok(answer) => answer,
            Err(Error::Status { code: 416, .. }) => {
                return Err(changed("it is shorter now".into()));
            }
            Err(err) => return Err(err),
        };
        let range = part.check(&response).map_err(changed)?;
        let body = Body::part(&asked.url, range, response, &self.settings);
        Ok((location, body))
    }

    /// Sends JSON with PUT and returns the body of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// As [`Client::get`], with [`Error::Send`] in place of [`Error::Http`].
    pub async fn put_json(&self, address: &Address, json: String) -> Result<Body> {
        self.send_json(Method::PUT, address, json).await
    }

    /// Sends JSON with POST and returns the body of the answer. Redirects are not followed.
    ///
    /// # Errors
    /// As [`Client::put_json`].
    pub async fn post_json(&self, address: &Address, json: String) -> Result<Body> {
        self.send_json(Method::POST, address, json).await
    }

    async fn send_json(&self, method: Method, address: &Address, json: String) -> Result<Body> {
        let url = &address.url;
        let headers = headers(&method, address)?;
        let request = self.shared.request(method, url.clone()).headers(headers);
        let request = request.header(CONTENT_TYPE, "application/json").body(json);
        let response = self.send(url, request).await;
        let response = response.map_err(Error::while_sending)?;
        if !response.status().is_success() {
            return Err(refusal(url, response, address.handed_out).await);
        }
        Ok(Body::whole(url, address.clone(), response, &self.settings))
    }

    /// Returns a request that sends something long, over a connection for itself.
    pub(super) fn sending(&self, method: Method, address: &Address) -> Result<RequestBuilder> {
        let mut headers = headers(&method, address)?;
        headers.remove(ACCEPT_ENCODING);
        let request = self.single.request(method, address.url.clone());
        Ok(request.headers(headers))
    }

    /// Returns the client for requests that need no connection for themselves.
    pub(super) fn shared(&self) -> &reqwest::Client {
        &self.shared
    }

    /// Returns the limits of its connections.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the room for one more part that arrives before its turn, if there is some.
    pub(super) fn room_for_part(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.parts).try_acquire_owned().ok()
    }

    /// Asks for content until there is an answer that leads nowhere else; returns where that came from. What belongs to
    /// an address stays with its origin: once left, a redirect back to it is not trusted either.
    async fn follow(
        &self,
        client: &reqwest::Client,
        asked: &Address,
        conditions: &HeaderMap,
    ) -> Result<(Address, Response)> {
        let mut here = asked.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = headers(&Method::GET, &here)?;
            headers.extend(conditions.clone());
            let request = client.get(here.url.clone()).headers(headers);
            let response = self.send(&here.url, request).await?;
            if let Some(next) = self.detour(&here, &response).await? {
                check_followable(&here.url, &next.url)?;
                here = next;
            } else if is_content(response.status(), conditions.contains_key(RANGE)) {
                return Ok((here, response));
            } else if is_redirect(response.status()) {
                let target = redirect_target(&here.url, &response)?;
                here = here.redirected(target);
            } else {
                return Err(refusal(&here.url, response, here.handed_out).await);
            }
        }
        Err(Error::Redirect {
            url: SafeUrl::from(&asked.url),
            problem: format!("more than {MAX_REDIRECTS} times"),
        })
    }

    /// Returns where to go instead of acting on an answer.
    pub(super) async fn detour(
        &self,
        here: &Address,
        response: &Response,
    ) -> Result<Option<Address>> {
        let answer = Answer {
            status: response.status().as_u16(),
            headers: response.headers(),
        };
        match &here.detour {
            Some(detour) => detour.after(answer, self).await,
            None => Ok(None),
        }
    }

    /// Sends a request and waits for its answer to begin.
    pub(super) async fn send(&self, url: &Url, request: RequestBuilder) -> Result<Response> {
        let shown = SafeUrl::from(url);
        let after = self.settings.stall_timeout;
        match tokio::time::timeout(after, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(err)) => Err(transport_error(shown, err)),
            Err(_elapsed) => Err(Error::Stalled {
                url: shown,
                after,
                received: ByteSize(0),
            }),
        }
    }
}

/// Returns what every request has, and what belongs to the address.
pub(super) fn headers(method: &Method, address: &Address) -> Result<HeaderMap> {
    // Artifacts may be stored gzip-encoded and are then served so, whatever was asked for; asking for it keeps
    // storage front ends from decoding on the fly (taskcluster/taskgraph#992).
    let mut map = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
    for Header { name, value } in &address.headers {
        map.insert(name, value.clone());
    }
    if let Some(authorize) = &address.authorize {
        let text = authorize.authorization(method.as_str(), &address.url)?;
        let mut value = HeaderValue::from_str(&text).map_err(|_secret| {
            Error::usage("the credentials have characters that cannot be sent")
        })?;
        value.set_sensitive(true);
        map.insert(AUTHORIZATION, value);
    }
    Ok(map)
}

/// Tells whether a body is what was asked for. There are others that are a success, such as 204, which is no content.
fn is_content(status: StatusCode, asked_for_part: bool) -> bool {
    match status.as_u16() {
        200 | 203 => true,
        206 => asked_for_part,
        _ => false,
    }
}

pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

pub(super) fn redirect_target(from: &Url, response: &Response) -> Result<Url> {
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
    check_followable(from, &target)?;
    Ok(target)
}

pub(super) fn check_followable(from: &Url, target: &Url) -> Result<()> {
    match target.scheme() {
        "http" | "https" if target.has_host() => Ok(()),
        scheme => Err(Error::Redirect {
            url: SafeUrl::from(from),
            problem: format!("to a `{scheme}:` URL, which is not http or https"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Source};
    use url::Url;

    #[test]
    fn names_of_content_lead_nowhere_else() {
        for (url, name) in [
            ("https://h/a/b.tar.xz?c/d#e", Some("b.tar.xz")),
            ("https://h/a%20b%25", Some("a b%")),
            ("https://h/a/", None),
            ("https://h", None),
            ("https://h/%2Fetc%2Fpasswd", None),
            ("https://h/..%2Fx", None),
            ("https://h/x%2F..", None),
            ("https://h/a%00", None),
            ("https://h/%ff", None),
        ] {
            let address = Address::from(Url::parse(url).unwrap());
            let found = Source::Url(Box::new(address)).file_name();
            assert_eq!(found.as_deref(), name, "{url}");
        }
    }
}
