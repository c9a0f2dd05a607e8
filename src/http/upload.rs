//! Sending a file: piece by piece, hashed as it goes, and only to its end if it stays as it is.

use crate::{
    digest::{Sha256Digest, Sha512Digest},
    error::{Error, Result},
    fs::{Outgoing, Reading},
    http::{
        Address, Client, Reply,
        client::{MAX_REDIRECTS, check_followable},
        refusal::refusal,
        transport::transport_error,
    },
    observe::{Event, Observer},
    safe_url::SafeUrl,
    size::ByteSize,
};
use bytes::Bytes;
use futures::stream;
use reqwest::{Method, Response, header::CONTENT_LENGTH};
use sha2::{Digest, Sha256, Sha512};
use std::{convert::Infallible, io, pin::pin, time::Duration};
use tokio::{sync::mpsc, time::timeout};

/// Size of a piece, in bytes. The time that one may take is the stall time-out: with 60 s, what is slower than about
/// 1 kB/s is given up, as it is for downloads.
const PIECE: usize = 64 * 1024;

/// Pieces that wait to be sent.
const DEPTH: usize = 4;

/// What was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// In bytes.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Sha256Digest,
    /// Its other digest, if that was wanted.
    pub sha512: Option<Sha512Digest>,
}

/// The hashes to make of what is sent.
#[derive(Clone, Debug)]
pub struct Hashes {
    bytes: u64,
    sha256: Sha256,
    sha512: Option<Sha512>,
}

impl Hashes {
    /// SHA-256 alone.
    #[must_use]
    pub fn one() -> Self {
        Self {
            bytes: 0,
            sha256: Sha256::default(),
            sha512: None,
        }
    }

    /// SHA-256 and SHA-512.
    #[must_use]
    pub fn both() -> Self {
        Self {
            sha512: Some(Sha512::default()),
            ..Self::one()
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
    }

    /// Takes bytes that begin at `offset`. Those that were taken before are left out, so that what is sent twice is
    /// hashed once.
    pub fn update_at(&mut self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.bytes.saturating_sub(offset));
        if let Some(new) = known.ok().and_then(|known| bytes.get(known..)) {
            self.update(new);
        }
    }

    /// Returns how many bytes were taken.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what they are of.
    #[must_use]
    pub fn finish(self) -> Sent {
        let sha512 = self.sha512.map(|sha512| sha512.finalize().into());
        Sent {
            bytes: self.bytes,
            sha256: Sha256Digest::from_bytes(self.sha256.finalize().into()),
            sha512: sha512.map(Sha512Digest::from_bytes),
        }
    }
}

impl Client {
    /// Sends a file with PUT, with the headers of `address` and its length. Redirects are not followed.
    ///
    /// # Errors
    /// As [`Client::send_file`].
    ///
    /// # Cancel safety
    /// As [`Client::send_file`].
    pub async fn put_file(
        &self,
        address: &Address,
        file: &Outgoing,
        mut hashes: Hashes,
        observer: &dyn Observer,
    ) -> Result<Sent> {
        observer.on_event(&Event::Started {
            url: &SafeUrl::from(&address.url),
            size: Some(file.size()),
        });
        let on_piece = |offset: u64, piece: &[u8]| {
            hashes.update_at(offset, piece);
            observer.on_event(&Event::Received {
                bytes: piece.len() as u64,
            });
        };
        self.send_file(Method::PUT, address, file, on_piece).await?;
        Ok(hashes.finish())
    }

    /// Sends a file (or a part of one), with the headers of `address` and its length. `on_piece` sees each piece as it
    /// goes, with where in the file it begins. Redirects are not followed; a detour is, and then the file is sent from
    /// its beginning once more.
    ///
    /// # Errors
    /// [`Error::Send`] and [`Error::Status`]; [`Error::Fs`] when the file cannot be read or changes meanwhile, and then
    /// the server has not got the last of it.
    ///
    /// # Cancel safety
    /// When dropped, the server has not got the last of the file, or is about to have all of it.
    pub async fn send_file(
        &self,
        method: Method,
        address: &Address,
        file: &Outgoing,
        mut on_piece: impl FnMut(u64, &[u8]) + Send,
    ) -> Result<Reply> {
        let mut here = address.clone();
        for _ in 0..=MAX_REDIRECTS {
            let url = SafeUrl::from(&here.url);
            let sending = self.send_once(method.clone(), &here, file, &mut on_piece);
            let (all_sent, response) = sending.await?;
            if let Some(next) = self.detour(&here, &response).await? {
                check_followable(&here.url, &next.url)?;
                here = next;
                continue;
            }
            if !response.status().is_success() {
                return Err(refusal(&here.url, response, here.handed_out).await);
            }
            if !all_sent {
                return Err(Error::Send {
                    url,
                    transient: true,
                    source: io::Error::other("the server is content with less than all of it"),
                });
            }
            return Ok(Reply::without_body(here.url, &response));
        }
        Err(Error::Redirect {
            url: SafeUrl::from(&address.url),
            problem: format!("more than {MAX_REDIRECTS} times"),
        })
    }

    /// Returns whether all of a file was sent when the answer came.
    async fn send_once(
        &self,
        method: Method,
        address: &Address,
        file: &Outgoing,
        on_piece: &mut (impl FnMut(u64, &[u8]) + Send),
    ) -> Result<(bool, Response)> {
        let url = SafeUrl::from(&address.url);
        let patience = self.settings().stall_timeout;
        // Before anything is sent: of an empty file, all is sent then, however soon the answer comes.
        let reading = file.open().await?;
        let (pieces, mut taken) = mpsc::channel::<Bytes>(DEPTH);
        let body = stream::poll_fn(move |context| {
            let piece = taken.poll_recv(context);
            piece.map(|piece| piece.map(Ok::<_, Infallible>))
        });
        // A length in place of chunks: storages take nothing else.
        let request = self
            .sending(method, address)?
            .header(CONTENT_LENGTH, file.size());
        let answer = request.body(reqwest::Body::wrap_stream(body)).send();
        let mut answer = pin!(answer);
        let feed = Feed {
            url: &url,
            pieces,
            patience,
            on_piece,
        };
        let (all_sent, response) = tokio::select! {
            sent = feed.run(reading) => {
                let sent = sent?;
                let Ok(answer) = timeout(patience, &mut answer).await else {
                    return Err(silent(&url, patience, "no answer", sent));
                };
                (true, answer)
            }
            answer = &mut answer => (false, answer),
        };
        let response = response.map_err(|err| transport_error(url, err).while_sending())?;
        Ok((all_sent, response))
    }
}

/// Feeds a request with pieces.
struct Feed<'a, P> {
    url: &'a SafeUrl,
    pieces: mpsc::Sender<Bytes>,
    patience: Duration,
    on_piece: P,
}

impl<P: FnMut(u64, &[u8])> Feed<'_, P> {
    /// Reads the file to its end, which is the request's, and returns how many bytes that were. A request that has
    /// ended takes nothing more: then this waits for ever, since what became of the request is for the answer to tell.
    async fn run(mut self, mut reading: Reading<'_>) -> Result<u64> {
        let mut buffer = vec![0; PIECE];
        let mut sent = 0;
        // There is nothing to wait for behind the last piece: its answer may be there at once.
        while !reading.is_over() {
            let length = reading.fill(&mut buffer).await?;
            let piece = &buffer[..length];
            let sending = self.pieces.send(Bytes::copy_from_slice(piece));
            match timeout(self.patience, sending).await {
                Ok(Ok(())) => {
                    (self.on_piece)(sent, piece);
                    sent += length as u64;
                }
                Ok(Err(_ended)) => std::future::pending().await,
                Err(_elapsed) => {
                    return Err(silent(self.url, self.patience, "nothing was taken", sent));
                }
            }
        }
        Ok(sent)
    }
}

fn silent(url: &SafeUrl, after: Duration, what: &str, sent: u64) -> Error {
    let sent = ByteSize(sent);
    Error::Send {
        url: url.clone(),
        transient: true,
        source: io::Error::new(
            io::ErrorKind::TimedOut,
            format!("{what} for {after:?} ({sent} were sent until then)"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{Hashes, Outgoing};
    use crate::http::{Address, Client, Settings};
    use std::{
        io::{Read, Write},
        net::TcpListener,
        sync::mpsc,
        thread,
        time::Duration,
    };
    use tokio::runtime::Builder;

    /// Answers one request without a body, and tells so.
    fn answer_once(listener: TcpListener) -> mpsc::Receiver<()> {
        let (answered, heard) = mpsc::channel();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).unwrap();
            let _ = answered.send(());
            // Until the other side has read it.
            let _ = stream.read(&mut [0]);
        });
        heard
    }

    #[test]
    fn an_empty_file_is_sent_however_late_it_is_opened() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/empty", listener.local_addr().unwrap());
        let answered = answer_once(listener);
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).max_blocking_threads(1);
        let runtime = runtime.enable_all().build().unwrap();
        // Nothing is opened before the answer is there, or would be.
        runtime.spawn_blocking(move || {
            let _ = answered.recv_timeout(Duration::from_millis(300));
            thread::sleep(Duration::from_millis(50));
        });
        let empty = tempfile::NamedTempFile::new().unwrap();
        let file = Outgoing::at(empty.path()).unwrap();
        let client = Client::new(Settings::default()).unwrap();
        let address = Address::from(url.parse::<url::Url>().unwrap());
        let sending = client.put_file(&address, &file, Hashes::one(), &());
        assert_eq!(runtime.block_on(sending).unwrap().bytes, 0);
    }
}
