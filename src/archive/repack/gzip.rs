//! [`Gzip`]: compression by gzip in several threads. Content is cut into blocks that are compressed each for itself, which
//! every reader of gzip takes: a file may have any number of members.

use libdeflater::{CompressionLvl, Compressor};
use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::JoinHandle,
};

/// Bytes of content in one member. Smaller ones cost size, larger ones memory.
const BLOCK: usize = 1 << 20;

/// What the `gzip` program takes, too.
const LEVEL: i32 = 6;

/// Blocks that a thread has at once: one in work, one to go on with.
const AHEAD: usize = 2;

/// Compresses what is written to it.
pub(crate) struct Gzip<W> {
    out: W,
    block: Vec<u8>,
    workers: Vec<Worker>,
    /// Blocks. Every worker gets one in turn, so that they come back in order.
    sent: usize,
    received: usize,
}

/// A thread.
struct Worker {
    blocks: Option<SyncSender<Vec<u8>>>,
    members: Receiver<Vec<u8>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Write> Gzip<W> {
    /// Starts as many threads.
    pub(crate) fn start(out: W, threads: usize) -> io::Result<Self> {
        let workers = (0..threads.max(1)).map(|_| Worker::start());
        Ok(Self {
            out,
            block: Vec::with_capacity(BLOCK),
            workers: workers.collect::<io::Result<_>>()?,
            sent: 0,
            received: 0,
        })
    }

    fn send(&mut self) -> io::Result<()> {
        if self.sent - self.received == self.workers.len() * AHEAD {
            self.receive()?;
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        let worker = &self.workers[self.sent % self.workers.len()];
        let sent = worker.blocks.as_ref().map(|blocks| blocks.send(block));
        self.sent += 1;
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(ended()),
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        let worker = &self.workers[self.received % self.workers.len()];
        let member = worker.members.recv().map_err(|_closed| ended())?;
        self.received += 1;
        self.out.write_all(&member)
    }

    /// Ends the content, and returns what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        // Nothing at all is one member, too.
        if !self.block.is_empty() || self.sent == 0 {
            self.send()?;
        }
        while self.received < self.sent {
            self.receive()?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for Gzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(BLOCK - self.block.len());
        self.block.extend_from_slice(&bytes[..length]);
        if self.block.len() == BLOCK {
            self.send()?;
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Worker {
    fn start() -> io::Result<Self> {
        let (blocks, work) = sync_channel::<Vec<u8>>(AHEAD);
        let (done, members) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().spawn(move || {
            let level = CompressionLvl::new(LEVEL).unwrap_or_default();
            let mut compressor = Compressor::new(level);
            while let Ok(block) = work.recv() {
                let mut member = vec![0; compressor.gzip_compress_bound(block.len())];
                // Cannot fail with that much room; a missing member would be noticed.
                let Ok(length) = compressor.gzip_compress(&block, &mut member) else {
                    return;
                };
                member.truncate(length);
                if done.send(member).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self {
            blocks: Some(blocks),
            members,
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Ends when there is nothing more to do.
        drop(self.blocks.take());
        while self.members.try_recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            // A panic in it was told when its member was missing.
            let _ = thread.join();
        }
    }
}

fn ended() -> io::Error {
    io::Error::other("a thread that compresses has ended")
}
