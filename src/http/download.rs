//! [`Download`]: content in order and without gaps, whatever happens to the connections it comes over.
//!
//! What has arrived is never asked for again: a connection that breaks is replaced by one that goes on behind the last
//! byte, as long as the server vouches that the content is still the same. Whoever reads does not notice. When more
//! than one connection makes it faster, the parts that come next are fetched [`Ahead`].

use crate::{
    error::{Error, Result},
    http::{
        Attempts, Body, Client, Head, Source,
        ahead::{Ahead, Arriving, PART},
        part::{Ask, Divisible},
        pilot::{Pilot, WINDOW},
    },
    observe::Event,
};
use bytes::Bytes;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A silence after which another connection is asked for what one does not bring, while others bring much.
const SILENCE: Duration = Duration::from_millis(100);

/// The most that must have arrived after a failure for it to be left behind, in bytes.
const PROGRESS: u64 = 1 << 20;

/// The body of one source, resumed where it breaks.
pub struct Download<'a> {
    head: Head,
    lead: Lead,
    /// What is needed to ask for parts, if the server can be trusted with that.
    content: Option<Arc<Divisible>>,
    offset: u64,
    ahead: Ahead,
    pilot: Pilot,
    attempts: &'a Attempts<'a>,
    /// Where the first failure in a row was, until it is left behind.
    broken_at: Option<u64>,
    /// Where a connection was replaced because it was silent.
    replaced_at: Option<u64>,
}

/// Where the next byte comes from.
enum Lead {
    /// A connection that is read as it sends, up to `end` (exclusive) or all there is.
    Body { body: Box<Body>, end: Option<u64> },
    /// A part that was asked for before its turn.
    Part(Arriving),
}

/// What waiting for the next chunk led to.
enum Step {
    Chunk(Bytes),
    End,
    Broken(Error),
    /// Others bring much while this connection is silent.
    Outrun,
}

impl<'a> Download<'a> {
    /// Begins to read content, wherever it is. Resuming is paid for out of `attempts`.
    ///
    /// # Errors
    /// As [`Client::get`], or [`Error::Fs`].
    pub async fn open(
        client: &Client,
        source: &Source,
        attempts: &'a Attempts<'a>,
    ) -> Result<Self> {
        let body = client.open(source).await?;
        let content = match (source, body.place()) {
            (Source::Url(address), Some(place)) => Some(Arc::new(Divisible {
                client: client.clone(),
                source: (**address).clone(),
                place: place.clone(),
            })),
            _ => None,
        };
        let parallel = content
            .as_ref()
            .is_some_and(|content| content.place.offers_ranges && attempts.trust_parts());
        let connections = if parallel {
            client.settings().connections
        } else {
            1
        };
        let broken_at = content.is_some().then_some(0);
        Ok(Self {
            head: body.head().clone(),
            lead: Lead::Body {
                body: Box::new(body),
                end: None,
            },
            content,
            offset: 0,
            ahead: Ahead::default(),
            pilot: Pilot::new(connections),
            attempts,
            // What failed before is left behind like a break.
            broken_at,
            replaced_at: None,
        })
    }

    /// Returns what is known of it beforehand.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the next chunk; `None` at the end.
    ///
    /// # Errors
    /// What broke the transfer when it cannot go on: [`Error::Changed`], [`Error::GaveUp`], and all of [`Body::next`].
    ///
    /// # Cancel safety
    /// When dropped while it waits for bytes nothing is lost; while it resumes, the download must be dropped as well.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.ahead.start() == Some(self.offset)
                && let Some(part) = self.ahead.pop()
            {
                self.lead = Lead::Part(part);
            }
            match self.step().await {
                Step::Chunk(chunk) => return Ok(Some(self.deliver(chunk))),
                Step::End if self.head.length.is_none_or(|length| length == self.offset) => {
                    return Ok(None);
                }
                Step::End if self.ahead.start() == Some(self.offset) => {}
                Step::End => {
                    if let Err(cause) = self.reopen(Ask::Location).await {
                        self.go_on(cause).await?;
                    }
                }
                Step::Broken(cause) => self.go_on(cause).await?,
                Step::Outrun => {
                    self.replaced_at = Some(self.offset);
                    // It is only silent: without another one it may still go on.
                    let _ = self.reopen(Ask::Location).await;
                }
            }
        }
    }

    /// Waits for the next chunk, and in the meantime looks after the number of connections.
    async fn step(&mut self) -> Step {
        let begin = Instant::now();
        let before = self.ahead.total_arrived();
        let behind_lead = self.behind_lead();
        let mut waiting = begin;
        let next = async {
            match &mut self.lead {
                Lead::Body { body, .. } => body.next().await,
                Lead::Part(part) => part.next().await,
            }
        };
        tokio::pin!(next);
        let step = loop {
            tokio::select! {
                biased;
                step = &mut next => break match step {
                    Ok(Some(chunk)) => Step::Chunk(chunk),
                    Ok(None) => Step::End,
                    Err(cause) => Step::Broken(cause),
                },
                () = tokio::time::sleep(WINDOW), if self.content.is_some() => {
                    self.pilot.waited(waiting.elapsed());
                    waiting = Instant::now();
                    if let (Some(total), Some(content)) = (self.head.length, &self.content) {
                        tend(&mut self.pilot, &mut self.ahead, content, behind_lead, total);
                    }
                    // Not necessarily the fault of the one that is silent, if the others bring little, too.
                    let outrun = begin.elapsed() >= SILENCE
                        && self.ahead.total_arrived() - before >= PART / 2;
                    if outrun && self.replaced_at != Some(self.offset) {
                        break Step::Outrun;
                    }
                }
            }
        };
        self.pilot.waited(waiting.elapsed());
        step
    }

    /// Takes a chunk into account. A connection that goes on to the end of all is cut off where a part can take over.
    fn deliver(&mut self, mut chunk: Bytes) -> Bytes {
        if let Lead::Body { end, .. } = self.lead {
            self.ahead.add_arrived(chunk.len());
            let reached = self.offset + chunk.len() as u64;
            if end.is_none()
                && let Some(start) = self.ahead.start_of_ready(reached)
                && let Ok(ours) = usize::try_from(start - self.offset)
            {
                chunk.truncate(ours);
            }
        }
        self.offset += chunk.len() as u64;
        if let Some(broken_at) = self.broken_at
            && self.offset - broken_at >= PROGRESS.min(self.head.length.unwrap_or(u64::MAX) / 100)
        {
            self.broken_at = None;
            self.attempts.progress();
        }
        let behind_lead = self.behind_lead();
        if let (Some(total), Some(content)) = (self.head.length, &self.content) {
            tend(
                &mut self.pilot,
                &mut self.ahead,
                content,
                behind_lead,
                total,
            );
        }
        chunk
    }

    /// Returns where a first part ahead should begin.
    fn behind_lead(&self) -> u64 {
        match &self.lead {
            Lead::Body { end: None, .. } => self.offset + PART,
            Lead::Body { end: Some(end), .. } => *end,
            Lead::Part(part) => part.end,
        }
    }

    /// Gets over a failure, if that is possible without starting over.
    async fn go_on(&mut self, mut cause: Error) -> Result<()> {
        if self.content.is_none() || self.offset == 0 {
            return Err(cause);
        }
        self.broken_at.get_or_insert(self.offset);
        if matches!(self.lead, Lead::Part(_)) {
            self.pilot.back_off();
            // Perhaps there were too many connections. One was enough before.
            if cause.asked_wait().is_none() {
                match self.reopen_anywhere().await {
                    Ok(()) => return Ok(()),
                    Err(err) => cause = err,
                }
            }
        }
        while !matches!(cause, Error::Changed { .. }) {
            self.attempts.again(cause).await?;
            match self.reopen_anywhere().await {
                Ok(()) => {
                    let offset = self.offset;
                    self.attempts
                        .observer()
                        .on_event(&Event::Resumed { offset });
                    return Ok(());
                }
                Err(err) => cause = err,
            }
        }
        // Perhaps those who answer do not agree with each other about what is the same.
        self.attempts.distrust_parts();
        Err(cause)
    }

    /// Goes on at the place that has sent the content so far; if that does not work any more, where the source leads now.
    async fn reopen_anywhere(&mut self) -> Result<()> {
        let handed_out = |content: &Arc<Divisible>| content.place.location.handed_out;
        if self.content.as_ref().is_some_and(handed_out) && self.reopen(Ask::Location).await.is_ok()
        {
            return Ok(());
        }
        self.reopen(Ask::Source).await
    }

    /// Replaces the connection that is read by one that begins at the next byte.
    async fn reopen(&mut self, ask: Ask) -> Result<()> {
        let Some(content) = &mut self.content else {
            return Err(Error::Truncated {
                url: self.head.url.clone(),
                received: self.offset,
                expected: self.head.length.unwrap_or(self.offset),
            });
        };
        let end = self.ahead.start();
        let (location, body) = content.get(self.offset, end, ask).await?;
        Arc::make_mut(content).place.location = location;
        self.lead = Lead::Body {
            body: Box::new(body),
            end,
        };
        Ok(())
    }
}

/// Sees to it that there are as many connections as there should be.
fn tend(pilot: &mut Pilot, ahead: &mut Ahead, content: &Arc<Divisible>, next: u64, total: u64) {
    pilot.judge(ahead.total_arrived(), total, ahead.has_begun());
    // One that has failed is got over when its turn comes.
    if pilot.goal() > 1 && !ahead.has_failed() && !ahead.fill(content, pilot.goal(), next, total) {
        pilot.found_no_room();
    }
}
