//! Google Cloud Storage on the loopback interface: as much of its XML API as a store uses, scripted by its documentation,
//! since the emulators that there are know the JSON API.
//!
//! From `https://cloud.google.com/storage/docs/`: `xml-api/put-object-upload`, `xml-api/get-object-download`,
//! `xml-api/head-object`, `xml-api/delete-object`, `xml-api/get-bucket-list` (version 2), `xml-api/post-object-multipart`,
//! `xml-api/put-object-multipart`, `xml-api/post-object-complete`, `xml-api/reference-headers` (preconditions),
//! `authentication/canonical-requests` and `authentication/signatures`; tokens that service accounts sign themselves
//! from `https://google.aip.dev/auth/4111`. As there, a request needs a signed token or a signed URL, one with a method that
//! can have a body needs a length, and all parts of an upload but the last have 5 MiB or more.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, NaiveDateTime, Utc};
use percent_encoding::percent_decode_str;
use ring::rsa;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::archives::sha256_hex;
use super::server::{Reply, Seen, Server};
use super::skip::have_programs;

/// The one bucket.
pub(crate) const BUCKET: &str = "a-bucket";

const EMAIL: &str = "store@project.iam.gserviceaccount.com";
const KEY_ID: &str = "0123abcd";
const LEAST_PART: usize = 5 << 20;
/// Less than the thousand of the real one, so that lists have pages.
const PAGE: usize = 3;

struct Object {
    content: Vec<u8>,
    generation: u64,
    modified: SystemTime,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Object>,
    /// Parts by number, of the uploads that have begun, by their ids.
    uploads: BTreeMap<String, BTreeMap<u32, Vec<u8>>>,
    /// How many generations and uploads there have been.
    count: u64,
    misfortunes: Vec<Misfortune>,
}

/// What happens once, when something is asked for.
struct Misfortune {
    method: &'static str,
    /// How the key ends.
    end: String,
    event: Event,
}

enum Event {
    /// This is answered, and nothing else happens.
    Answer(Reply),
    /// What should happen does, and nobody hears of it.
    Lose,
    /// Somebody else has just written this.
    Overtake(Vec<u8>),
}

/// A running service. Dropping it ends it.
pub(crate) struct Google {
    pub(crate) server: Server,
    state: Arc<Mutex<State>>,
    account: String,
}

impl Google {
    /// Starts it, or reports that the test is skipped.
    pub(crate) fn start(test: &str) -> Option<Self> {
        if !have_programs(test, &["ssh-keygen"]) {
            return None;
        }
        let (pem, public) = make_key();
        let server = Server::start();
        let state = Arc::new(Mutex::new(State::default()));
        let own = Arc::clone(&state);
        server.serve_rest_by(move |seen| {
            let reply = match authenticate(seen, &public) {
                Ok(()) => lock(&own).answer_or_fail(seen),
                Err(problem) => refusal(403, "AccessDenied", &problem),
            };
            if seen.method == "HEAD" {
                reply.bodyless()
            } else {
                reply
            }
        });
        let account = json!({
            "type": "service_account", "client_email": EMAIL, "private_key_id": KEY_ID, "private_key": pem,
        });
        Some(Self {
            server,
            state,
            account: account.to_string(),
        })
    }

    /// What tells clients how to get there.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("GOOGLE_BASE_URL", self.server.root()),
            ("GOOGLE_SERVICE_ACCOUNT_KEY", self.account.clone()),
            ("FETCH_CONTENT_ATTEMPTS", "4".to_owned()),
            ("FETCH_CONTENT_RETRY_BASE_MS", "10".to_owned()),
        ]
    }

    /// The keys of all objects, in order.
    pub(crate) fn keys(&self) -> Vec<String> {
        lock(&self.state).objects.keys().cloned().collect()
    }

    /// Uploads that have begun and not ended.
    pub(crate) fn unfinished(&self) -> usize {
        lock(&self.state).uploads.len()
    }

    /// Writes an object, past everything.
    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        lock(&self.state).put(key, content.to_vec());
    }

    /// Answers the next request for a key with this end so, and does nothing else.
    pub(crate) fn answer_once(&self, method: &'static str, end: &str, reply: Reply) {
        self.expect(method, end, Event::Answer(reply));
    }

    /// Does what the next request for a key with this end wants, and loses the answer.
    pub(crate) fn lose_answer(&self, method: &'static str, end: &str) {
        self.expect(method, end, Event::Lose);
    }

    /// Lets somebody else write this just before the next request to write a key with this end.
    pub(crate) fn overtake(&self, end: &str, content: &[u8]) {
        self.expect("PUT", end, Event::Overtake(content.to_vec()));
    }

    fn expect(&self, method: &'static str, end: &str, event: Event) {
        let end = end.to_owned();
        lock(&self.state)
            .misfortunes
            .push(Misfortune { method, end, event });
    }

    /// The content of the one object whose key has this end.
    pub(crate) fn content(&self, end: &str) -> Vec<u8> {
        let state = lock(&self.state);
        let mut found = state.objects.iter().filter(|(key, _)| key.ends_with(end));
        let (_, object) = found.next().expect("an object");
        object.content.clone()
    }

    /// Lets an object be so old.
    pub(crate) fn age(&self, key: &str, age: Duration) {
        let mut state = lock(&self.state);
        let object = state.objects.get_mut(key).expect("an object");
        object.modified = SystemTime::now() - age;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a key for a service account: as its file has it, and its public half.
fn make_key() -> (String, Vec<u8>) {
    let dir = tempfile::tempdir().expect("make a temporary directory");
    let file = dir.path().join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PKCS8", "-N", ""])
        .arg("-f")
        .arg(&file)
        .stdin(Stdio::null())
        .status();
    assert!(made.is_ok_and(|status| status.success()), "make a key");
    let pem = std::fs::read_to_string(&file).expect("read the key");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = BASE64_STANDARD.decode(base64).expect("PEM");
    let pair = RsaKeyPair::from_pkcs8(&der).expect("PKCS #8");
    let public: &rsa::PublicKey = pair.public_key();
    (pem, public.as_ref().to_vec())
}

/// Refuses whoever has neither a token nor a URL that the service account has signed.
fn authenticate(seen: &Seen, public: &[u8]) -> Result<(), String> {
    let url = Target::of(seen);
    if let Some(signature) = url.query("X-Goog-Signature") {
        return check_signed_url(seen, &url, &signature, public);
    }
    let token = seen.header("authorization");
    let token = token.and_then(|value| value.strip_prefix("Bearer "));
    let token = token.ok_or("neither a token nor a signature")?;
    let (claims, signature) = token.rsplit_once('.').ok_or("no token")?;
    check(public, claims, &url_safe(signature)?)?;
    let (header, claims) = claims.split_once('.').ok_or("no token")?;
    let [header, claims] = [header, claims].map(|part| -> Result<Value, String> {
        serde_json::from_slice(&url_safe(part)?).map_err(|err| err.to_string())
    });
    let (header, claims) = (header?, claims?);
    let time = |name: &str| claims[name].as_u64().unwrap_or_default();
    let now = u64::try_from(Utc::now().timestamp()).unwrap_or_default();
    let scope = claims["scope"].as_str().unwrap_or_default();
    let right = header["alg"] == "RS256"
        && header["kid"] == KEY_ID
        && claims["iss"] == EMAIL
        && claims["sub"] == EMAIL
        && scope.contains("https://www.googleapis.com/auth/")
        && (time("iat")..time("exp")).contains(&now)
        && time("exp") - time("iat") <= 3600;
    right.then_some(()).ok_or(format!("{header} {claims}"))
}

fn check_signed_url(
    seen: &Seen,
    url: &Target,
    signature: &str,
    public: &[u8],
) -> Result<(), String> {
    let value = |name: &str| url.query(name).ok_or(format!("no {name}"));
    let (date, credential) = (value("X-Goog-Date")?, value("X-Goog-Credential")?);
    let scope = credential.strip_prefix(&format!("{EMAIL}/"));
    let scope = scope.ok_or("another account")?;
    if scope != format!("{}/auto/storage/goog4_request", &date[..8]) {
        return Err(format!("the scope {scope}"));
    }
    let made = NaiveDateTime::parse_from_str(&date, "%Y%m%dT%H%M%SZ");
    let age = Utc::now() - made.map_err(|err| err.to_string())?.and_utc();
    let lives: i64 = value("X-Goog-Expires")?.parse().unwrap_or_default();
    if !(0..lives.min(604_800)).contains(&age.num_seconds()) {
        return Err(format!("{age} of {lives} s"));
    }
    let mut signed: Vec<_> = url.raw_query.split('&').collect();
    signed.retain(|pair| !pair.starts_with("X-Goog-Signature="));
    signed.sort_unstable();
    let request = format!(
        "{}\n{}\n{}\nhost:storage.googleapis.com\n\nhost\nUNSIGNED-PAYLOAD",
        seen.method,
        url.raw_path,
        signed.join("&")
    );
    let algorithm = value("X-Goog-Algorithm")?;
    let text = format!(
        "{algorithm}\n{date}\n{scope}\n{}",
        sha256_hex(request.as_bytes())
    );
    let bytes = (0..signature.len()).step_by(2);
    let bytes = bytes.map(|at| u8::from_str_radix(signature.get(at..at + 2).unwrap_or(""), 16));
    let bytes: Vec<u8> = bytes
        .collect::<Result<_, _>>()
        .map_err(|err| err.to_string())?;
    check(public, &text, &bytes)
}

fn check(public: &[u8], text: &str, signature: &[u8]) -> Result<(), String> {
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
        .verify(text.as_bytes(), signature)
        .map_err(|_unspecified| format!("the signature of {text}"))
}

fn url_safe(text: &str) -> Result<Vec<u8>, String> {
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(text);
    decoded.map_err(|err| err.to_string())
}

/// What a request is for.
struct Target<'a> {
    raw_path: &'a str,
    raw_query: &'a str,
    bucket: String,
    /// Empty if it is for the bucket.
    key: String,
}

impl<'a> Target<'a> {
    fn of(seen: &'a Seen) -> Self {
        let (raw_path, raw_query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let path = raw_path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        Self {
            raw_path,
            raw_query,
            bucket: decoded(bucket),
            key: decoded(key),
        }
    }

    fn query(&self, name: &str) -> Option<String> {
        let mut pairs = self.raw_query.split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(&value.replace('+', " ")))
        });
        pairs
            .find(|(found, _)| found == name)
            .map(|(_, value)| value)
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

impl State {
    fn answer_or_fail(&mut self, seen: &Seen) -> Reply {
        let key = Target::of(seen).key;
        let concerns = |it: &Misfortune| seen.method == it.method && key.ends_with(&it.end);
        let Some(found) = self.misfortunes.iter().position(concerns) else {
            return self.answer(seen);
        };
        match self.misfortunes.remove(found).event {
            Event::Answer(reply) => reply,
            Event::Lose => {
                self.answer(seen);
                Reply::reset_before_response()
            }
            Event::Overtake(content) => {
                self.put(&key, content);
                self.answer(seen)
            }
        }
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        let target = Target::of(seen);
        if target.bucket != BUCKET {
            return refusal(404, "NoSuchBucket", "The specified bucket does not exist.");
        }
        if matches!(&*seen.method, "PUT" | "POST") && seen.header("content-length").is_none() {
            return refusal(411, "MissingContentLength", "");
        }
        let upload = target.query("uploadId");
        match (&*seen.method, upload) {
            ("GET", None) if target.key.is_empty() => self.list(&target),
            ("GET" | "HEAD", None) => self.get(seen, &target.key),
            ("PUT", None) => self.put_unless_changed(seen, &target.key),
            ("DELETE", None) => match self.objects.remove(&target.key) {
                Some(_) => Reply::status(204),
                None => no_such_key(),
            },
            ("POST", None) if target.query("uploads").is_some() => self.begin(&target),
            ("PUT", Some(id)) => self.put_part(seen, &target, &id),
            ("POST", Some(id)) => self.complete(seen, &target, &id),
            ("DELETE", Some(id)) => {
                self.uploads.remove(&id);
                Reply::status(204)
            }
            _ => refusal(
                400,
                "InvalidArgument",
                &format!("{} {}", seen.method, seen.path),
            ),
        }
    }

    fn put(&mut self, key: &str, content: Vec<u8>) -> u64 {
        self.count += 1;
        let object = Object {
            content,
            // As large as the real ones, which are microseconds.
            generation: 1_700_000_000_000_000 + self.count,
            modified: SystemTime::now(),
        };
        let generation = object.generation;
        self.objects.insert(key.to_owned(), object);
        generation
    }

    fn put_unless_changed(&mut self, seen: &Seen, key: &str) -> Reply {
        if let Some(wanted) = seen.header("x-goog-if-generation-match") {
            let found = self.objects.get(key).map_or(0, |object| object.generation);
            if wanted != found.to_string() {
                return refusal(
                    412,
                    "PreconditionFailed",
                    "At least one of the pre-conditions you specified did not hold.",
                );
            }
        }
        let generation = self.put(key, seen.body.clone());
        Reply::status(200)
            .header("ETag", etag(&seen.body))
            .header("x-goog-generation", generation.to_string())
    }

    fn get(&self, seen: &Seen, key: &str) -> Reply {
        let Some(object) = self.objects.get(key) else {
            return no_such_key();
        };
        let reply = Reply::ranged(&object.content, &etag(&object.content))
            .header("Last-Modified", httpdate::fmt_http_date(object.modified))
            .header("x-goog-generation", object.generation.to_string());
        if seen.method == "HEAD" {
            // The scripted server ends a connection when it has not sent what it claimed.
            return reply
                .claiming_length(object.content.len())
                .header("Connection", "close");
        }
        reply
    }

    fn list(&self, target: &Target) -> Reply {
        if target.query("list-type").as_deref() != Some("2") {
            return refusal(400, "InvalidArgument", "only version 2 is scripted");
        }
        let query = |name| target.query(name).unwrap_or_default();
        let (prefix, delimiter) = (query("prefix"), query("delimiter"));
        let after = query("continuation-token");
        let mut page: Vec<(String, Option<&Object>)> = Vec::new();
        let mut next = None;
        for (key, object) in &self.objects {
            let Some(below) = key.strip_prefix(&prefix) else {
                continue;
            };
            let cut = below.find(&delimiter).filter(|_| !delimiter.is_empty());
            let entry = match cut {
                Some(at) => (key[..=prefix.len() + at].to_owned(), None),
                None => (key.clone(), Some(object)),
            };
            let known = page.last().is_some_and(|(last, _)| *last == entry.0);
            if entry.0 <= after || known {
                continue;
            }
            if page.len() == PAGE {
                next = page.last().map(|(last, _)| last.clone());
                break;
            }
            page.push(entry);
        }
        Reply::ok(listing(&page, next.as_deref())).header("Content-Type", "application/xml")
    }

    fn begin(&mut self, target: &Target) -> Reply {
        self.count += 1;
        let id = format!("upload/{}+=", self.count);
        self.uploads.insert(id.clone(), BTreeMap::new());
        Reply::ok(format!(
            "<?xml version='1.0' encoding='UTF-8'?><InitiateMultipartUploadResult \
             xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Bucket>{BUCKET}</Bucket><Key>{}</Key><UploadId>{id}</UploadId>\
             </InitiateMultipartUploadResult>",
            escaped(&target.key)
        ))
    }

    fn put_part(&mut self, seen: &Seen, target: &Target, id: &str) -> Reply {
        let number = target
            .query("partNumber")
            .and_then(|number| number.parse().ok());
        let (Some(parts), Some(number @ 1..=10_000)) = (self.uploads.get_mut(id), number) else {
            return refusal(404, "NoSuchUpload", "");
        };
        parts.insert(number, seen.body.clone());
        Reply::status(200).header("ETag", etag(&seen.body))
    }

    fn complete(&mut self, seen: &Seen, target: &Target, id: &str) -> Reply {
        let Some(parts) = self.uploads.get(id) else {
            return refusal(404, "NoSuchUpload", "");
        };
        let listed = String::from_utf8_lossy(&seen.body).replace("&quot;", "\"");
        let mut content = Vec::new();
        for (position, (number, part)) in parts.iter().enumerate() {
            let element = format!("<PartNumber>{number}</PartNumber>");
            if !listed.contains(&element) || !listed.contains(&etag(part)) {
                return refusal(400, "InvalidPart", &listed);
            }
            if part.len() < LEAST_PART && position + 1 < parts.len() {
                return refusal(400, "EntityTooSmall", &number.to_string());
            }
            content.extend_from_slice(part);
        }
        if listed.matches("<PartNumber>").count() != parts.len() {
            return refusal(400, "InvalidPart", &listed);
        }
        self.uploads.remove(id);
        // It is not made of the content here.
        let tag = format!("\"{}-{}\"", self.count, content.len());
        let generation = self.put(&target.key, content);
        Reply::ok(format!(
            "<?xml version='1.0' encoding='UTF-8'?><CompleteMultipartUploadResult \
             xmlns='http://s3.amazonaws.com/doc/2006-03-01/'><Location>http://storage.googleapis.com/{BUCKET}</Location>\
             <Bucket>{BUCKET}</Bucket><Key>{}</Key><ETag>{tag}</ETag></CompleteMultipartUploadResult>",
            escaped(&target.key)
        ))
        .header("x-goog-generation", generation.to_string())
    }
}

/// A page of a list: objects, and prefixes for what is below a delimiter.
fn listing(page: &[(String, Option<&Object>)], next: Option<&str>) -> String {
    let mut xml = format!(
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://doc.s3.amazonaws.com/2006-03-01'>\
         <Name>{BUCKET}</Name><KeyCount>{}</KeyCount><IsTruncated>{}</IsTruncated>",
        page.len(),
        next.is_some()
    );
    if let Some(next) = next {
        let next = escaped(next);
        let _ = write!(xml, "<NextContinuationToken>{next}</NextContinuationToken>");
    }
    for (key, object) in page {
        let key = escaped(key);
        let _ = match object {
            None => write!(
                xml,
                "<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>"
            ),
            Some(object) => write!(
                xml,
                "<Contents><Key>{key}</Key><Generation>{}</Generation><MetaGeneration>1</MetaGeneration>\
                 <LastModified>{}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                object.generation,
                DateTime::<Utc>::from(object.modified).format("%Y-%m-%dT%H:%M:%S%.3fZ"),
                etag(&object.content),
                object.content.len()
            ),
        };
    }
    xml + "</ListBucketResult>"
}

fn etag(content: &[u8]) -> String {
    format!("\"{}\"", &sha256_hex(content)[..32])
}

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

fn no_such_key() -> Reply {
    refusal(404, "NoSuchKey", "The specified key does not exist.")
}

fn refusal(status: u16, code: &str, message: &str) -> Reply {
    let message = escaped(message);
    let xml = format!(
        "<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    Reply::with_status(status, xml).header("Content-Type", "application/xml; charset=UTF-8")
}
