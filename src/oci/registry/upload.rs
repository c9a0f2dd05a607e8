//! [`Upload`]: one blob on its way to a registry.
//!
//! ```text
//! HEAD blob ──▶ POST mount ──▶ POST session ──▶ PATCH chunk … ──▶ PUT digest
//!   there        201: done       202 + URL        202 + next URL     201
//! ```
//!
//! Small blobs go whole, with the PUT. Of larger ones a break costs what the registry had not got of a chunk: it is asked
//! how far it is, and told the rest. It is asked after every chunk anyway, and not believed more than was sent, because
//! real registries add a chunk that is out of order where they should refuse it, and say `0-0` for nothing as well as for
//! one byte. When a session is lost, another one begins.

use super::{
    Repository,
    scope::Scopes,
    session::{self, Session, broken, forgotten, reached, refused},
};
use crate::{
    error::{self, Error, Result, Retry},
    fs::Outgoing,
    http::{Attempts, Hashes, Header, Method, Reply},
    observe::{Event, Fetched, Observer},
    oci::{Descriptor, Digest},
    safe_url::SafeUrl,
};
use std::{
    io,
    ops::Range,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use url::Url;

/// The size of a chunk, in bytes, unless the registry wants larger ones. Storages behind registries have parts of at
/// least 5 MiB, and every chunk costs an answer's wait.
const CHUNK: u64 = 32 << 20;

/// What is sent whole, in bytes.
const WHOLE: u64 = CHUNK;

/// What became of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was there.
    Present,
    /// Another repository had it.
    Mounted,
    /// It was sent.
    Sent,
}

/// A blob to upload.
pub(super) struct Upload<'a> {
    pub(super) repository: &'a Repository,
    pub(super) descriptor: &'a Descriptor,
    /// Its content.
    pub(super) file: Outgoing,
    /// Repositories that may have it.
    pub(super) mount_from: &'a [String],
    pub(super) observer: &'a dyn Observer,
    hashes: Mutex<Hashes>,
}

/// Why chunks did not make it.
enum Lost {
    /// The registry takes no chunks.
    Chunks,
    /// Anything else.
    To(Error),
}

impl From<Error> for Lost {
    fn from(err: Error) -> Self {
        Self::To(err)
    }
}

impl<'a> Upload<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        descriptor: &'a Descriptor,
        file: Outgoing,
        observer: &'a dyn Observer,
    ) -> Self {
        Self {
            repository,
            descriptor,
            file,
            mount_from: &[],
            observer,
            hashes: Mutex::new(Hashes::one()),
        }
    }

    /// Sees to it that the registry has the blob.
    ///
    /// # Errors
    /// What the last attempt failed with; [`Error::Damaged`] when the file is not the blob.
    ///
    /// # Cancel safety
    /// When dropped, the registry has all of it or nothing, and perhaps a session that it forgets after a while.
    pub(super) async fn run(&self) -> Result<Outcome> {
        let start = Instant::now();
        let attempts = Attempts::new(&self.repository.retry, self.observer);
        let outcome = attempts.run(|| self.attempt(&attempts)).await?;
        if outcome == Outcome::Sent {
            self.observer.on_event(&Event::Finished(&Fetched {
                bytes: self.descriptor.size,
                sha256: self.descriptor.digest.0,
                wait: Duration::ZERO,
                transfer: start.elapsed(),
                unpack: Duration::ZERO,
            }));
        }
        Ok(outcome)
    }

    async fn attempt(&self, attempts: &Attempts<'_>) -> Result<Outcome> {
        let Self {
            repository,
            descriptor,
            ..
        } = self;
        // Also when the answer to the last attempt was lost.
        if repository.has_blob(&descriptor.digest).await? {
            return Ok(Outcome::Present);
        }
        let mut session = None;
        for from in self.mount_from {
            match self.mount(from).await? {
                Mount::Done => return Ok(Outcome::Mounted),
                Mount::Session(opened) => session = Some(opened),
                Mount::Refused => {}
            }
        }
        let session = match session {
            Some(session) => session,
            None => self.begin().await?,
        };
        self.observer.on_event(&Event::Started {
            url: &SafeUrl::from(&session.location),
            size: Some(self.file.size()),
        });
        if self.file.size() <= WHOLE.max(session.least_chunk) {
            self.send_whole(session).await?;
            return Ok(Outcome::Sent);
        }
        match self.send_chunks(session, attempts).await {
            Ok(()) => {}
            Err(Lost::Chunks) => self.send_whole(self.begin().await?).await?,
            Err(Lost::To(err)) => return Err(err),
        }
        Ok(Outcome::Sent)
    }

    /// Asks for the blob of another repository. A registry that does not give it may open a session.
    async fn mount(&self, from: &str) -> Result<Mount> {
        let repository = self.repository;
        let mut url = repository.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", &self.descriptor.digest.to_string())
            .append_pair("from", from);
        let scopes = repository.scopes.clone().with(&Scopes::pull(from));
        match repository.ask(Method::POST, url, &scopes).await {
            Ok(reply) if reply.status == 201 => Ok(Mount::Done),
            Ok(reply) => Ok(Mount::Session(Session::of(&reply, repository)?)),
            // A token for both repositories may be refused where that for one is not.
            Err(Error::Status {
                code: 400..=407, ..
            }) => Ok(Mount::Refused),
            Err(err) => Err(err),
        }
    }

    async fn begin(&self) -> Result<Session> {
        let repository = self.repository;
        let url = repository.url("blobs/uploads/")?;
        let reply = repository.ask(Method::POST, url, &repository.scopes);
        Session::of(&reply.await?, repository)
    }

    async fn send_whole(&self, session: Session) -> Result<()> {
        let sent = self
            .send(
                Method::PUT,
                self.closing(session.location),
                Vec::new(),
                0..self.file.size(),
            )
            .await;
        self.check_file()?;
        match sent {
            Ok(_) => Ok(()),
            Err(err) => Err(refused(err)),
        }
    }

    async fn send_chunks(
        &self,
        session: Session,
        attempts: &Attempts<'_>,
    ) -> std::result::Result<(), Lost> {
        let size = self.file.size();
        let chunk = CHUNK.max(session.least_chunk);
        let (mut location, mut offset) = (session.location, 0);
        while offset < size {
            let end = size.min(offset + chunk);
            let range = format!("Content-Range: {offset}-{}", end - 1).parse()?;
            let sent = self
                .send(Method::PATCH, location.clone(), vec![range], offset..end)
                .await;
            let reply = match sent {
                // Again and again, perhaps; and of `0-0` nobody knows what it means.
                Ok(reply) if reached(&reply).is_some_and(|to| to <= offset.max(1)) => {
                    return Err(broken(&location, true, "the registry takes nothing of it").into());
                }
                Ok(reply) => reply,
                Err(err) => {
                    self.go_on(err, offset, attempts).await?;
                    self.ask_how_far(&location).await?
                }
            };
            if let Some(next) = session::location(&reply, self.repository)? {
                location = next;
            }
            let reached = reached(&reply).unwrap_or(end);
            if reached > end || reached < offset {
                let text = format!("it has {reached} bytes, and {offset} to {end} is possible");
                return Err(broken(&location, true, &text).into());
            }
            if reached > offset {
                attempts.progress();
            }
            if reached != end {
                self.observer.on_event(&Event::Resumed { offset: reached });
            }
            offset = reached;
        }
        self.check_file()?;
        Ok(self.close(location, attempts).await?)
    }

    /// Ends a session that has everything. A registry may need more time for that than it is given: then it is asked
    /// whether it has the blob, before anything is sent again.
    async fn close(&self, location: Url, attempts: &Attempts<'_>) -> Result<()> {
        let (repository, closing) = (self.repository, self.closing(location));
        loop {
            let asking = repository.ask(Method::PUT, closing.clone(), &repository.scopes);
            match asking.await {
                Ok(_) => return Ok(()),
                Err(err) if err.retry() == Retry::Soon => attempts.again(err).await?,
                Err(err) => return Err(refused(err)),
            }
            if repository.has_blob(&self.descriptor.digest).await? {
                return Ok(());
            }
        }
    }

    /// Returns if it is worth asking how far the registry is.
    async fn go_on(
        &self,
        err: Error,
        offset: u64,
        attempts: &Attempts<'_>,
    ) -> std::result::Result<(), Lost> {
        let code = match &err {
            Error::Status { code, .. } => Some(*code),
            _ => None,
        };
        match code {
            Some(404 | 410) => Err(Lost::To(forgotten(err))),
            // Out of order, it says, and it knows what order is.
            Some(416) => {
                let again = Error::Send {
                    url: SafeUrl::from(&self.repository.url("blobs/uploads/")?),
                    transient: true,
                    source: io::Error::other(error::chain(&err)),
                };
                Ok(attempts.again(again).await?)
            }
            Some(400 | 405 | 411 | 413 | 415 | 501) if offset == 0 => Err(Lost::Chunks),
            _ => Ok(attempts.again(err).await?),
        }
    }

    /// Asks how far a session is.
    async fn ask_how_far(&self, location: &Url) -> Result<Reply> {
        let repository = self.repository;
        let asking = repository.ask(Method::GET, location.clone(), &repository.scopes);
        match asking.await {
            // `0-0` is nothing or one byte.
            Ok(reply) if reached(&reply).is_none_or(|reached| reached <= 1) => {
                let text = "the registry does not say how much it has got";
                Err(broken(location, true, text))
            }
            Err(
                err @ Error::Status {
                    code: 400..=499, ..
                },
            ) if err.retry() == Retry::Never => Err(forgotten(err)),
            asked => asked,
        }
    }

    /// Sends a part of the file.
    async fn send(
        &self,
        method: Method,
        location: Url,
        mut headers: Vec<Header>,
        part: Range<u64>,
    ) -> Result<Reply> {
        headers.push("Content-Type: application/octet-stream".parse()?);
        let repository = self.repository;
        let address = repository.address(location, headers).await?;
        let file = self.file.part(part.start, part.end - part.start);
        let on_piece = |offset: u64, piece: &[u8]| {
            self.hashes().update_at(part.start + offset, piece);
            let bytes = piece.len() as u64;
            self.observer.on_event(&Event::Received { bytes });
        };
        let sending = repository
            .client
            .send_file(method, &address, &file, on_piece);
        sending.await
    }

    /// Returns the URL that ends a session.
    fn closing(&self, mut location: Url) -> Url {
        let digest = self.descriptor.digest.to_string();
        location.query_pairs_mut().append_pair("digest", &digest);
        location
    }

    /// Tells whether what was read is what is wanted, once all of it was read.
    fn check_file(&self) -> Result<()> {
        let hashes = self.hashes().clone();
        if hashes.bytes() < self.file.size() {
            return Ok(());
        }
        let actual = Digest(hashes.finish().sha256);
        if actual == self.descriptor.digest {
            return Ok(());
        }
        Err(Error::Damaged {
            place: format!("`{}`", self.file.path().display()),
            problem: format!(
                "has the digest {actual}, expected {}",
                self.descriptor.digest
            ),
        })
    }

    fn hashes(&self) -> MutexGuard<'_, Hashes> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a registry makes of the wish to mount.
enum Mount {
    Done,
    Session(Session),
    Refused,
}
