//! A scripted HTTP/1.1 server on the loopback interface.
//!
//! Each path has a list of [`Reply`]s that are used in turn; the last one repeats. A reply can be anything
//! a bad network does: cut, reset, stall, trickle, lie about its length. Every request is recorded when its
//! head has arrived, and tests synchronise on what the server saw ([`Server::wait_for_request`],
//! [`Server::wait_for_stall`]), never on sleeping. Nothing here outlives the [`Server`] value: its drop
//! ends all connections and joins all threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

/// No wait in a test lasts longer than this.
const BOUND: Duration = Duration::from_secs(30);
/// How soon a blocked connection notices that the server ends.
const POLL: Duration = Duration::from_millis(20);

/// One scripted answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Arc<[u8]>,
    framing: Framing,
    fault: Fault,
    hold: Option<Hold>,
    ranges: Option<Ranges>,
}

/// What a reply makes of a `Range`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ranges {
    /// A 206 with that part, if `If-Range` (when there is one) names the reply's own `ETag` or `Last-Modified`.
    Honest,
    /// The same, but the bytes are those from this many further on.
    Shifted(usize),
    /// A 416, whatever is asked for.
    Refused,
}

/// How the end of the body is marked.
#[derive(Clone, Copy, Debug)]
enum Framing {
    Length,
    ClaimedLength(usize),
    Chunked,
    UntilClose,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
enum Fault {
    None,
    CloseBeforeResponse,
    ResetBeforeResponse,
    CutAfter(usize),
    ResetAfter(usize),
    StallAfter(usize),
    Slow { bytes: usize, tick: Duration },
}

/// What has to happen elsewhere before this reply is sent.
#[derive(Clone, Debug)]
enum Hold {
    Served(String),
    Requested(String),
    Stalled(String),
}

impl Reply {
    /// A 200 with this body and its true Content-Length.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::with_status(200, body)
    }

    /// Any status with a body.
    pub(crate) fn with_status(status: u16, body: impl AsRef<[u8]>) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: body.as_ref().into(),
            framing: Framing::Length,
            fault: Fault::None,
            hold: None,
            ranges: None,
        }
    }

    /// Any status without a body.
    pub(crate) fn status(status: u16) -> Self {
        Self::with_status(status, b"")
    }

    /// An error as the services of the platform word it: JSON, with a machine part below `---`.
    pub(crate) fn api_error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({
            "code": code,
            "message": format!("{message}\n\n---\n\n* method:     getLatestArtifact\n* errorCode:  {code}\n* statusCode: {status}"),
            "requestInfo": {"method": "getLatestArtifact", "params": {"0": "public/x"}, "payload": {}},
        });
        Self::with_status(status, body.to_string()).header("Content-Type", "application/json")
    }

    /// The same head, and nothing behind it.
    pub(crate) fn bodyless(mut self) -> Self {
        self.body = Arc::from([]);
        self
    }

    /// A redirect of the given kind.
    pub(crate) fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::with_status(status, b"See elsewhere").header("Location", location)
    }

    /// A 200 whose body travels with `Content-Encoding: gzip`.
    pub(crate) fn gzipped(body: impl AsRef<[u8]>) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body.as_ref()).expect("gzip into memory");
        let bytes = encoder.finish().expect("gzip into memory");
        Self::ok(bytes).header("Content-Encoding", "gzip")
    }

    /// A 200 that says it knows ranges, with a strong `ETag`; asked for a range, a 206.
    pub(crate) fn ranged(body: impl AsRef<[u8]>, etag: &str) -> Self {
        Self::ok(body)
            .header("ETag", format!("\"{etag}\""))
            .with_ranges()
    }

    /// Answers ranges, by whatever validator the headers have.
    pub(crate) fn with_ranges(mut self) -> Self {
        self.ranges = Some(Ranges::Honest);
        self.header("Accept-Ranges", "bytes")
    }

    /// Sends bytes from further on than the range begins, and says so.
    pub(crate) fn shifting_ranges(mut self, bytes: usize) -> Self {
        self.ranges = Some(Ranges::Shifted(bytes));
        self
    }

    /// Answers every range with 416.
    pub(crate) fn refusing_ranges(mut self) -> Self {
        self.ranges = Some(Ranges::Refused);
        self
    }

    /// The connection is closed as soon as the request has been read.
    pub(crate) fn close_before_response() -> Self {
        Self::status(200).fault(Fault::CloseBeforeResponse)
    }

    /// The connection is reset (RST) as soon as the request has been read.
    pub(crate) fn reset_before_response() -> Self {
        Self::status(200).fault(Fault::ResetBeforeResponse)
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends `bytes` of the body, then closes in order (FIN).
    pub(crate) fn cut_after(self, bytes: usize) -> Self {
        self.fault(Fault::CutAfter(bytes))
    }

    /// Sends `bytes` of the body, then resets the connection (RST).
    pub(crate) fn reset_after(self, bytes: usize) -> Self {
        self.fault(Fault::ResetAfter(bytes))
    }

    /// Sends `bytes` of the body, then nothing until the client goes away, [`Server::release`] is called or
    /// 30 s have passed. After a release the rest follows.
    pub(crate) fn stall_after(self, bytes: usize) -> Self {
        self.fault(Fault::StallAfter(bytes))
    }

    /// Sends `bytes` per `tick`.
    pub(crate) fn slowly(self, bytes: usize, tick: Duration) -> Self {
        self.fault(Fault::Slow { bytes, tick })
    }

    /// Claims a Content-Length that may be wrong, sends the body and closes.
    pub(crate) fn claiming_length(mut self, length: usize) -> Self {
        self.framing = Framing::ClaimedLength(length);
        self
    }

    /// Uses chunked transfer encoding.
    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Framing::Chunked;
        self
    }

    /// Sends no length: the body ends where the connection does.
    pub(crate) fn without_length(mut self) -> Self {
        self.framing = Framing::UntilClose;
        self
    }

    /// Waits with the answer until the last byte of an answer at `path` has been sent.
    pub(crate) fn once_served(mut self, path: &str) -> Self {
        self.hold = Some(Hold::Served(path.to_owned()));
        self
    }

    /// Waits with the answer until `path` has been asked for.
    pub(crate) fn once_requested(mut self, path: &str) -> Self {
        self.hold = Some(Hold::Requested(path.to_owned()));
        self
    }

    /// Waits with the answer until the answer at `path` stalls.
    pub(crate) fn once_stalled(mut self, path: &str) -> Self {
        self.hold = Some(Hold::Stalled(path.to_owned()));
        self
    }

    /// What is sent to a request that may ask for a range only.
    fn for_request(&self, seen: &Seen) -> Self {
        let mut reply = self.clone();
        let (Some(ranges), Some(range)) = (self.ranges, seen.header("range")) else {
            return reply;
        };
        let own = |name: &str| {
            self.headers
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        let condition = seen.header("if-range");
        if condition.is_some() && condition != own("ETag") && condition != own("Last-Modified") {
            return reply;
        }
        let length = self.body.len();
        let (first, last) = range
            .strip_prefix("bytes=")
            .and_then(|range| range.split_once('-'))
            .expect("a range of bytes");
        let shift = if let Ranges::Shifted(bytes) = ranges {
            bytes
        } else {
            0
        };
        let first = first.parse::<usize>().expect("a first byte") + shift;
        let last = last
            .parse()
            .map_or(length - 1, |last: usize| last.min(length - 1));
        if ranges == Ranges::Refused || first > last {
            return Self::status(416).header("Content-Range", format!("bytes */{length}"));
        }
        reply.status = 206;
        reply.body = self.body[first..=last].into();
        reply.header("Content-Range", format!("bytes {first}-{last}/{length}"))
    }

    fn fault(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }

    fn head(&self) -> String {
        let mut head = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        match self.framing {
            Framing::Length => {
                let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
            }
            Framing::ClaimedLength(length) => {
                let _ = write!(head, "Content-Length: {length}\r\n");
            }
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::UntilClose => head.push_str("Connection: close\r\n"),
        }
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        head
    }

    fn keeps_alive(&self) -> bool {
        let framed = matches!(self.framing, Framing::Length | Framing::Chunked);
        let whole = matches!(
            self.fault,
            Fault::None | Fault::Slow { .. } | Fault::StallAfter(_)
        );
        framed && whole
    }
}

/// One request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Such as `GET`.
    pub(crate) method: String,
    /// The request target exactly as sent, with its query.
    pub(crate) path: String,
    /// In the order sent, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// What came with it.
    pub(crate) body: Vec<u8>,
    /// When its head was complete.
    pub(crate) at: Instant,
    /// Which connection of this server it came over, from 0.
    pub(crate) connection: usize,
}

impl Seen {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        values.next().map(|(_, value)| value.as_str())
    }
}

/// Makes a reply from the request.
type Replier = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

#[derive(Default)]
struct State {
    routes: BTreeMap<String, Vec<Reply>>,
    repliers: BTreeMap<String, Replier>,
    other: Option<Replier>,
    used: BTreeMap<String, usize>,
    seen: Vec<Seen>,
    served: BTreeSet<String>,
    stalled: BTreeSet<String>,
    sent: BTreeMap<String, u64>,
    released: BTreeSet<String>,
    active: usize,
    most_active: usize,
    connections: usize,
    stopping: bool,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn update<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `done` or the bound; returns whether it happened.
    fn wait(&self, done: impl Fn(&State) -> bool) -> bool {
        let guard = self.lock();
        let (guard, _) = self
            .changed
            .wait_timeout_while(guard, BOUND, |state| !done(state) && !state.stopping)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        done(&guard)
    }
}

/// A running server. See the module's documentation.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts on a free port; every path answers 404 until it is scripted.
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts on this address.
    pub(crate) fn start_on(address: &str) -> Self {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|err| panic!("bind to {address}: {err}"));
        let address = listener.local_addr().expect("address of the listener");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Answers `path` always with `reply`.
    pub(crate) fn serve(&self, path: &str, reply: Reply) {
        self.serve_in_turn(path, [reply]);
    }

    /// Answers `path` with these replies in turn; the last one repeats.
    pub(crate) fn serve_in_turn(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let replies: Vec<Reply> = replies.into_iter().collect();
        assert!(!replies.is_empty(), "no reply for {path}");
        self.shared.update(|state| {
            state.used.remove(path);
            state.routes.insert(path.to_owned(), replies);
        });
    }

    /// Answers `path` (with any query) as `reply` decides, which must not wait.
    pub(crate) fn serve_by(
        &self,
        path: &str,
        reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) {
        self.shared
            .update(|state| state.repliers.insert(path.to_owned(), Arc::new(reply)));
    }

    /// Answers everything that is not scripted otherwise as `reply` decides, which must not wait.
    pub(crate) fn serve_rest_by(&self, reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        self.shared
            .update(|state| state.other = Some(Arc::new(reply)));
    }

    /// `http://127.0.0.1:PORT`, without a final slash.
    pub(crate) fn root(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.root())
    }

    /// The host and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far, in order of arrival.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }

    /// The targets of all requests so far, in order of arrival.
    pub(crate) fn paths(&self) -> Vec<String> {
        let state = self.shared.lock();
        state.seen.iter().map(|seen| seen.path.clone()).collect()
    }

    /// How often `path` was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        let state = self.shared.lock();
        state.seen.iter().filter(|seen| seen.path == path).count()
    }

    /// How many bytes of bodies were sent at `path`, as far as the system took them.
    pub(crate) fn sent(&self, path: &str) -> u64 {
        self.shared.lock().sent.get(path).copied().unwrap_or(0)
    }

    /// The largest number of requests that were being answered at the same time.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.lock().most_active
    }

    /// Returns once `path` has been asked for.
    pub(crate) fn wait_for_request(&self, path: &str) {
        let came = self.shared.wait(|state| asked_for(state, path));
        assert!(
            came,
            "{path} was never requested; seen: {:?}",
            self.requests()
        );
    }

    /// Returns once the answer at `path` has been sent up to its stall.
    pub(crate) fn wait_for_stall(&self, path: &str) {
        let came = self.shared.wait(|state| state.stalled.contains(path));
        assert!(
            came,
            "{path} never came to its stall; seen: {:?}",
            self.requests()
        );
    }

    /// Lets all stalled answers at `path`, present and future, go on.
    pub(crate) fn release(&self, path: &str) {
        self.shared.update(|state| {
            state.stalled.remove(path);
            state.released.insert(path.to_owned());
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.update(|state| state.stopping = true);
        drop(TcpStream::connect(self.address)); // wakes the acceptor
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        let threads = std::mem::take(&mut self.shared.lock().threads);
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// The address of a port on which nothing listens.
pub(crate) fn refused_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind to the loopback interface");
    listener.local_addr().expect("address of the listener")
}

fn asked_for(state: &State, path: &str) -> bool {
    state.seen.iter().any(|seen| seen.path == path)
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.lock().stopping {
            return;
        }
        let Ok(stream) = stream else { continue };
        let connection = shared.update(|state| {
            state.connections += 1;
            state.connections - 1
        });
        let thread = thread::spawn({
            let shared = Arc::clone(shared);
            move || drop(converse(stream, connection, &shared))
        });
        shared.lock().threads.push(thread);
    }
}

/// Answers requests until one side ends the connection.
fn converse(mut stream: TcpStream, connection: usize, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(POLL))?;
    stream.set_write_timeout(Some(BOUND))?;
    while let Some(seen) = read_request(&mut stream, connection, shared)? {
        let path = seen.path.clone();
        let reply = shared.update(|state| {
            let reply = next_reply(state, &seen).for_request(&seen);
            state.seen.push(seen);
            state.active += 1;
            state.most_active = state.most_active.max(state.active);
            reply
        });
        let answered = answer(&mut stream, &reply, &path, shared);
        shared.update(|state| {
            state.active -= 1;
            if answered.is_ok() {
                state.served.insert(path);
            }
        });
        answered?;
        if !reply.keeps_alive() {
            break;
        }
    }
    Ok(())
}

fn next_reply(state: &mut State, seen: &Seen) -> Reply {
    let path = seen.path.as_str();
    let bare = path.split('?').next().unwrap_or(path);
    if let Some(reply) = state.repliers.get(bare) {
        return reply(seen);
    }
    let key = if state.routes.contains_key(path) {
        path
    } else {
        bare
    };
    let Some(replies) = state.routes.get(key) else {
        if let Some(reply) = &state.other {
            return reply(seen);
        }
        return Reply::api_error(404, "ResourceNotFound", "Artifact not found");
    };
    let used = state.used.entry(key.to_owned()).or_default();
    let reply = replies[(*used).min(replies.len() - 1)].clone();
    *used += 1;
    reply
}

/// Reads a request up to, but not including, its last byte; if that is one of its body, it is looked at.
///
/// The byte that stays in the receive buffer is what makes [`Fault::ResetAfter`] work: closing a socket
/// with unread data sends RST instead of FIN, without `SO_LINGER`.
fn read_request(
    stream: &mut TcpStream,
    connection: usize,
    shared: &Shared,
) -> io::Result<Option<Seen>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r") {
        match read_byte(stream, shared)? {
            Some(byte) => head.push(byte),
            None => return Ok(None),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
    let mut seen = Seen {
        method: first.next().unwrap_or_default().to_owned(),
        path: first.next().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
        at: Instant::now(),
        connection,
    };
    let length = seen.header("content-length").map(str::parse);
    let length: usize = length.and_then(Result::ok).unwrap_or_default();
    if length > 0 {
        read_byte(stream, shared)?; // the last one of the head
        match read_body(stream, length, shared)? {
            Some(body) => seen.body = body,
            None => return Ok(None),
        }
    }
    Ok(Some(seen))
}

/// Returns a body whose last byte stays in the receive buffer; `None` when there will not be as much.
fn read_body(
    stream: &mut TcpStream,
    length: usize,
    shared: &Shared,
) -> io::Result<Option<Vec<u8>>> {
    let mut body = vec![0; length];
    let mut filled = 0;
    while !shared.lock().stopping {
        let rest = &mut body[filled..];
        let last = rest.len() == 1;
        let read = match rest.len() {
            1 => stream.peek(rest),
            left => stream.read(&mut rest[..left - 1]),
        };
        match read {
            Ok(0) => return Ok(None),
            Ok(_) if last => return Ok(Some(body)),
            Ok(more) => filled += more,
            Err(err) if is_timeout(&err) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(None)
}

/// Returns the next byte; `None` when there will be none.
fn read_byte(stream: &mut TcpStream, shared: &Shared) -> io::Result<Option<u8>> {
    let mut byte = [0];
    while !shared.lock().stopping {
        match stream.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(byte[0])),
            Err(err) if is_timeout(&err) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(None)
}

fn is_timeout(err: &io::Error) -> bool {
    matches!(err.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn answer(stream: &mut TcpStream, reply: &Reply, path: &str, shared: &Shared) -> io::Result<()> {
    if let Some(hold) = &reply.hold {
        shared.wait(|state| match hold {
            Hold::Served(other) => state.served.contains(other),
            Hold::Requested(other) => asked_for(state, other),
            Hold::Stalled(other) => state.stalled.contains(other),
        });
    }
    match reply.fault {
        Fault::ResetBeforeResponse => return Ok(()), // with a byte unread: RST
        Fault::ResetAfter(_) => {}
        _ => stream.read_exact(&mut [0])?,
    }
    if matches!(reply.fault, Fault::CloseBeforeResponse) {
        return Ok(());
    }
    stream.write_all(reply.head().as_bytes())?;
    send_body(stream, reply, path, shared)
}

fn send_body(stream: &mut TcpStream, reply: &Reply, path: &str, shared: &Shared) -> io::Result<()> {
    let body = &*reply.body;
    let mut send = |part: &[u8]| -> io::Result<()> {
        for piece in part.chunks(1 << 16) {
            send(stream, reply, piece)?;
            let sent = piece.len() as u64;
            shared.update(|state| *state.sent.entry(path.to_owned()).or_default() += sent);
        }
        Ok(())
    };
    match reply.fault {
        Fault::None => send(body)?,
        Fault::CloseBeforeResponse | Fault::ResetBeforeResponse => return Ok(()),
        Fault::CutAfter(bytes) | Fault::ResetAfter(bytes) => {
            return send(&body[..bytes.min(body.len())]);
        }
        Fault::StallAfter(bytes) => {
            let (before, after) = body.split_at(bytes.min(body.len()));
            send(before)?;
            stall(stream, path, shared)?;
            return send_rest(stream, reply, after);
        }
        Fault::Slow { bytes, tick } => {
            for part in body.chunks(bytes) {
                send(part)?;
                thread::sleep(tick);
                if shared.lock().stopping {
                    return Err(ErrorKind::Interrupted.into());
                }
            }
        }
    }
    send_rest(stream, reply, &[])
}

/// Sends the last part of a body, and marks its end.
fn send_rest(stream: &mut TcpStream, reply: &Reply, part: &[u8]) -> io::Result<()> {
    send(stream, reply, part)?;
    if matches!(reply.framing, Framing::Chunked) {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}

/// Sends a part of the body in the reply's framing; chunks hold at most 4,000 bytes.
fn send(stream: &mut TcpStream, reply: &Reply, part: &[u8]) -> io::Result<()> {
    if !matches!(reply.framing, Framing::Chunked) {
        return stream.write_all(part);
    }
    for chunk in part.chunks(4000) {
        write!(stream, "{:x}\r\n", chunk.len())?;
        stream.write_all(chunk)?;
        stream.write_all(b"\r\n")?;
    }
    Ok(())
}

/// Is silent until the path is released (`Ok`), the client goes away, the server ends or the bound is reached.
fn stall(stream: &mut TcpStream, path: &str, shared: &Shared) -> io::Result<()> {
    shared.update(|state| state.stalled.insert(path.to_owned()));
    let start = Instant::now();
    while start.elapsed() < BOUND {
        let state = shared.lock();
        if state.released.contains(path) {
            return Ok(());
        }
        if state.stopping {
            break;
        }
        drop(state);
        match stream.read(&mut [0; 64]) {
            Err(err) if is_timeout(&err) => {}
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    shared.update(|state| state.stalled.remove(path));
    Err(ErrorKind::ConnectionAborted.into())
}
