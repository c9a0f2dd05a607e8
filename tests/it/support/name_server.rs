//! A scripted name server on port 53 of 127.0.0.1, for tests in a namespace of their own.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answers {
    /// 127.0.0.1, for every name.
    Address,
    /// Nothing.
    Silence,
    /// SERVFAIL.
    Failure,
    /// NXDOMAIN.
    NoSuchName,
}

/// A running name server.
pub(crate) struct NameServer {
    asked: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// Starts; after `until` everything is answered well.
    pub(crate) fn start(at_first: Answers, until: Duration) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").expect("bind to the port of name servers");
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .expect("a socket that does not block for long");
        let (asked, stopping) = <(Arc<AtomicUsize>, Arc<AtomicBool>)>::default();
        let thread = thread::spawn({
            let (asked, stopping) = (Arc::clone(&asked), Arc::clone(&stopping));
            move || {
                let start = Instant::now();
                let mut datagram = [0; 512];
                while !stopping.load(Ordering::SeqCst) {
                    let Ok((length, from)) = socket.recv_from(&mut datagram) else {
                        continue;
                    };
                    asked.fetch_add(1, Ordering::SeqCst);
                    let answers = if start.elapsed() < until {
                        at_first
                    } else {
                        Answers::Address
                    };
                    if let Some(answer) = answer(&datagram[..length], answers) {
                        let _ = socket.send_to(&answer, from);
                    }
                }
            }
        });
        Self {
            asked,
            stopping,
            thread: Some(thread),
        }
    }

    /// How many questions came so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers a question (RFC 1035, section 4).
fn answer(question: &[u8], answers: Answers) -> Option<Vec<u8>> {
    let name_length = question.get(12..)?.iter().position(|&byte| byte == 0)? + 1;
    let question = question.get(..12 + name_length + 4)?;
    let is_for_ipv4 = question[12 + name_length..].starts_with(&[0, 1]);
    let (code, found) = match answers {
        Answers::Address => (0, is_for_ipv4),
        Answers::Silence => return None,
        Answers::Failure => (2, false),
        Answers::NoSuchName => (3, false),
    };
    let mut answer = question.to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    if found {
        // The name of the question, an address of the internet, valid for 0 s.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1]);
    }
    Some(answer)
}
