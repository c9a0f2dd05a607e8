//! A registry whose misfortunes are scripted.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::images::{Image, MANIFEST, digest};
use super::server::{Reply, Seen, Server};

/// What happens in place of what should.
pub(crate) enum Fault {
    /// This is answered, and nothing else happens.
    Reply(Reply),
    /// So many bytes of the body are kept, and this is answered.
    Keep(usize, Reply),
    /// What is right happens, and this is answered.
    Answer(Reply),
}

/// Decides who is let through; `None` is whoever may.
type Guard = Arc<dyn Fn(&Seen) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct State {
    blobs: BTreeMap<(String, String), Vec<u8>>,
    manifests: BTreeMap<(String, String), (String, Vec<u8>)>,
    sessions: Vec<Session>,
    faults: Vec<(String, String, VecDeque<Fault>)>,
    guard: Option<Guard>,
    least_chunk: Option<u64>,
    mounts: bool,
}

struct Session {
    repository: String,
    content: Vec<u8>,
    /// Changes with every request; only the last one counts.
    state: usize,
    open: bool,
}

/// A running registry.
pub(crate) struct Registry {
    pub(crate) server: Server,
    state: Arc<Mutex<State>>,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let server = Server::start();
        let state = Arc::new(Mutex::new(State {
            mounts: true,
            ..State::default()
        }));
        let own = Arc::clone(&state);
        server.serve_rest_by(move |seen| {
            let reply = lock(&own).answer(seen);
            if seen.method == "HEAD" {
                reply.bodyless()
            } else {
                reply
            }
        });
        Self { server, state }
    }

    /// The name of an image there.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.server.address())
    }

    /// Puts an image there.
    pub(crate) fn hold(&self, repository: &str, tag: &str, image: &Image) {
        for blob in image.blobs() {
            self.hold_blob(repository, blob);
        }
        self.hold_manifest(repository, tag, MANIFEST, &image.manifest);
    }

    pub(crate) fn hold_blob(&self, repository: &str, blob: &[u8]) {
        let key = (repository.to_owned(), digest(blob));
        lock(&self.state).blobs.insert(key, blob.to_vec());
    }

    /// Puts a manifest there, by tag and digest.
    pub(crate) fn hold_manifest(&self, repository: &str, tag: &str, kind: &str, content: &[u8]) {
        for name in [tag.to_owned(), digest(content)] {
            let manifest = (kind.to_owned(), content.to_vec());
            lock(&self.state)
                .manifests
                .insert((repository.to_owned(), name), manifest);
        }
    }

    /// Panics unless an image is there.
    pub(crate) fn assert_holds(&self, repository: &str, tag: &str, image: &Image) {
        let state = lock(&self.state);
        let manifest = state
            .manifests
            .get(&(repository.to_owned(), tag.to_owned()));
        let manifest = manifest.unwrap_or_else(|| panic!("no manifest {repository}:{tag}"));
        assert_eq!(manifest.1, image.manifest);
        for blob in image.blobs() {
            let found = state.blobs.get(&(repository.to_owned(), digest(blob)));
            assert!(found == Some(blob), "blob {} is missing", digest(blob));
        }
    }

    /// Lets requests of a method, whose path contains a text, fail in turn.
    pub(crate) fn script(&self, method: &str, path: &str, faults: impl IntoIterator<Item = Fault>) {
        let entry = (
            method.to_owned(),
            path.to_owned(),
            faults.into_iter().collect(),
        );
        lock(&self.state).faults.push(entry);
    }

    /// Lets only those through whom `guard` has no answer for.
    pub(crate) fn guard(&self, guard: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) {
        lock(&self.state).guard = Some(Arc::new(guard));
    }

    /// Says that chunks have at least this size.
    pub(crate) fn demand_chunks_of(&self, bytes: u64) {
        lock(&self.state).least_chunk = Some(bytes);
    }

    /// Gives nothing from one repository to another.
    pub(crate) fn refuse_mounts(&self) {
        lock(&self.state).mounts = false;
    }

    /// How many requests of a method had a path with a text in it.
    pub(crate) fn count(&self, method: &str, path: &str) -> usize {
        let requests = self.server.requests();
        let such = requests.iter().filter(|seen| seen.method == method);
        such.filter(|seen| seen.path.contains(path)).count()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An error in the words of registries.
pub(crate) fn error(status: u16, code: &str) -> Reply {
    let body = format!(r#"{{"errors":[{{"code":"{code}","message":"it is {code}"}}]}}"#);
    Reply::with_status(status, body).header("Content-Type", "application/json")
}

impl State {
    fn answer(&mut self, seen: &Seen) -> Reply {
        if let Some(reply) = self.guard.as_ref().and_then(|guard| guard(seen)) {
            return reply;
        }
        let fits = |(method, path, left): &&mut (String, String, VecDeque<Fault>)| {
            seen.method == *method && seen.path.contains(&**path) && !left.is_empty()
        };
        let fault = self.faults.iter_mut().find(fits);
        match fault.and_then(|(_, _, left)| left.pop_front()) {
            None => self.act(seen),
            Some(Fault::Reply(reply)) => reply,
            Some(Fault::Answer(reply)) => {
                self.act(seen);
                reply
            }
            Some(Fault::Keep(bytes, reply)) => {
                if let Some(session) = self.session(&seen.path) {
                    let kept = bytes.min(seen.body.len());
                    session.content.extend_from_slice(&seen.body[..kept]);
                }
                reply
            }
        }
    }

    fn act(&mut self, seen: &Seen) -> Reply {
        let path = seen.path.split('?').next().unwrap_or_default();
        let rest = path.strip_prefix("/v2/").unwrap_or_default();
        if let Some((repository, name)) = rest.split_once("/manifests/") {
            return self.manifest(repository, name, seen);
        }
        let Some((repository, name)) = rest.split_once("/blobs/") else {
            return error(404, "NAME_UNKNOWN");
        };
        match (seen.method.as_str(), name.strip_prefix("uploads/")) {
            ("POST", Some(_)) => self.begin(repository, seen),
            (method, Some(_)) => self.go_on(method, seen),
            (_, None) => match self.blobs.get(&(repository.to_owned(), name.to_owned())) {
                None => error(404, "BLOB_UNKNOWN"),
                Some(blob) if seen.method == "HEAD" => {
                    Reply::status(200).claiming_length(blob.len())
                }
                Some(blob) => Reply::ranged(blob, name),
            },
        }
    }

    fn manifest(&mut self, repository: &str, name: &str, seen: &Seen) -> Reply {
        let key = (repository.to_owned(), name.to_owned());
        if seen.method == "PUT" {
            let kind = seen.header("content-type").unwrap_or_default().to_owned();
            let own = digest(&seen.body);
            let by_digest = (repository.to_owned(), own.clone());
            self.manifests
                .insert(by_digest, (kind.clone(), seen.body.clone()));
            self.manifests.insert(key, (kind, seen.body.clone()));
            return Reply::status(201).header("Docker-Content-Digest", own);
        }
        match self.manifests.get(&key) {
            None => error(404, "MANIFEST_UNKNOWN"),
            Some((kind, content)) => Reply::ok(content)
                .header("Content-Type", kind)
                .header("Docker-Content-Digest", digest(content)),
        }
    }

    fn begin(&mut self, repository: &str, seen: &Seen) -> Reply {
        let query = query(&seen.path);
        if let (Some(wanted), Some(from), true) =
            (query.get("mount"), query.get("from"), self.mounts)
            && let Some(blob) = self.blobs.get(&(from.clone(), wanted.clone())).cloned()
        {
            self.blobs
                .insert((repository.to_owned(), wanted.clone()), blob);
            return Reply::status(201);
        }
        self.sessions.push(Session {
            repository: repository.to_owned(),
            content: Vec::new(),
            state: 0,
            open: true,
        });
        let mut reply = self.where_to(self.sessions.len() - 1, 202);
        if let Some(least) = self.least_chunk {
            reply = reply.header("OCI-Chunk-Min-Length", least.to_string());
        }
        reply
    }

    /// Says where a session goes on: relative, with a query, and nowhere that was said before.
    fn where_to(&mut self, number: usize, status: u16) -> Reply {
        let session = &mut self.sessions[number];
        session.state += 1;
        let (repository, state) = (&session.repository, session.state);
        let location = format!("/v2/{repository}/blobs/uploads/s{number}?_state={state}&x=y%2Fz");
        let last = session.content.len().saturating_sub(1);
        Reply::status(status)
            .header("Location", location)
            .header("Range", format!("0-{last}"))
    }

    fn number(path: &str) -> Option<usize> {
        let name = path.split('?').next()?.rsplit('/').next()?;
        name.strip_prefix('s')?.parse().ok()
    }

    fn session(&mut self, path: &str) -> Option<&mut Session> {
        let query = query(path);
        let state: usize = query.get("_state")?.parse().ok()?;
        let session = self.sessions.get_mut(Self::number(path)?)?;
        let known = query.get("x").is_some_and(|x| x == "y/z");
        (session.open && session.state == state && known).then_some(session)
    }

    fn go_on(&mut self, method: &str, seen: &Seen) -> Reply {
        let Some(session) = self.session(&seen.path) else {
            return error(404, "BLOB_UPLOAD_UNKNOWN");
        };
        let number = Self::number(&seen.path).unwrap_or_default();
        if method == "GET" {
            return self.where_to(number, 204);
        }
        if let Some(range) = seen.header("content-range") {
            let first = range.split('-').next().and_then(|first| first.parse().ok());
            if first != Some(session.content.len()) {
                return self.where_to(number, 416);
            }
        }
        session.content.extend_from_slice(&seen.body);
        if method == "PATCH" {
            return self.where_to(number, 202);
        }
        session.open = false;
        let (repository, content) = (session.repository.clone(), session.content.clone());
        let actual = digest(&content);
        if query(&seen.path).get("digest") != Some(&actual) {
            return error(400, "DIGEST_INVALID");
        }
        self.blobs.insert((repository, actual), content);
        Reply::status(201)
    }
}

fn query(path: &str) -> BTreeMap<String, String> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}
