//! FTP, for upstreams that offer nothing else: one file by `RETR`, in passive and binary mode, from any offset.
//!
//! The protocol marks the end of a file only by the end of a connection. Whether that was the end of the file is told
//! by the server's last reply and by the size it said before.

use crate::{
    error::{Error, Result},
    http::{
        Address, Body, Settings, dns::Resolver, part::Place, refusal::shown,
        transport::connect_timed_out,
    },
    safe_url::SafeUrl,
    size::ByteSize,
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use percent_encoding::percent_decode_str;
use std::{io, net::SocketAddr, time::Duration};
use suppaftp::{
    FtpError, Mode,
    tokio::{AsyncFtpStream, AsyncNoTlsStream, TransferStream},
    types::{FileType, Response},
};
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use url::{Host, Url};

/// Chunk size of bodies, in bytes.
const CHUNK: usize = 256 * 1024;

/// How long to wait for one address before trying the next one beside it (RFC 8305, section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);

/// How long to wait for the last reply when the size says that everything has come. What stands between may have
/// forgotten a control connection that was silent throughout a long transfer.
const LAST_REPLY: Duration = Duration::from_secs(5);

/// What a server or a URL refuses. [`Refusal::NoRestart`] and [`Refusal::Shrunk`] concern an offset only: from the
/// beginning, the file may be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the server answered {code}: {text}")]
    Reply { code: u16, text: String },
    #[error("the server does not accept the user name or password of the URL (it answered {code})")]
    Login { code: u16 },
    #[error("the server's answer is not FTP")]
    NotFtp,
    #[error("the server cannot begin at an offset (it answered {code})")]
    NoRestart { code: u16 },
    #[error("the file has {size} bytes now, fewer than the {offset} that were received")]
    Shrunk { size: u64, offset: u64 },
    #[error("an FTP URL must name a file, without control characters")]
    NoFile,
}

/// Opens the file at `url`, from `offset` on. The body's length is that of what remains.
///
/// # Errors
/// [`Error::Http`] and [`Error::Stalled`]; [`Error::Changed`] when there is nothing at the offset.
pub(super) async fn open(
    asked: &Address,
    offset: u64,
    settings: &Settings,
    resolver: &Resolver,
) -> Result<Body> {
    let url = &asked.url;
    let session = Session {
        url: url.into(),
        patience: settings.stall_timeout,
    };
    let login = Login::of(url).ok_or_else(|| session.lasting(Refusal::NoFile))?;
    let socket = timeout(settings.connect_timeout, session.connect(url, resolver))
        .await
        .unwrap_or_else(|_elapsed| Err(connect_timed_out(session.url.clone())))?;
    let mut control = session
        .step(AsyncFtpStream::connect_with_stream(socket))
        .await?;
    session.login(&mut control, &login).await?;
    session
        .step(control.transfer_type(FileType::Binary))
        .await?;
    let size = session.size(&mut control, &login.path).await?;
    if let Some(size) = size.filter(|&size| size < offset) {
        return Err(session.changed(offset, &Refusal::Shrunk { size, offset }));
    }
    let data = session.retrieve(&mut control, &login.path, offset).await?;
    let url = session.url.clone();
    let download = Download {
        session,
        control,
        data,
        received: offset,
        size,
    };
    let chunks = futures::stream::try_unfold(Some(download), Download::next);
    let place = Place {
        location: asked.clone(),
        validator: None,
        total: size,
        offers_ranges: false,
    };
    let chunks = chunks.map_err(io::Error::other).boxed();
    let length = size.map(|size| size - offset);
    Ok(Body::of_chunks(url, length, chunks, settings).at(place))
}

/// Who asks for what, without percent-encoding.
struct Login {
    user: String,
    password: String,
    path: String,
    /// Whether the server's words about user and password may be shown.
    anonymous: bool,
}

impl Login {
    /// Returns `None` for a URL without a file name, or with something that cannot be sent on a line.
    fn of(url: &Url) -> Option<Self> {
        let decoded = |text| {
            let text = percent_decode_str(text).decode_utf8().ok()?.into_owned();
            (!text.contains(char::is_control)).then_some(text)
        };
        // Relative to where the login leads (RFC 1738, section 3.2.2); `%2F` in front makes it absolute.
        let path = decoded(url.path().strip_prefix('/')?)?;
        if path.is_empty() || path.ends_with('/') {
            return None;
        }
        let anonymous = url.username().is_empty();
        let (user, password) = if anonymous {
            ("anonymous".to_owned(), "anonymous@".to_owned())
        } else {
            (
                decoded(url.username())?,
                decoded(url.password().unwrap_or_default())?,
            )
        };
        Some(Self {
            user,
            password,
            path,
            anonymous,
        })
    }
}

/// What every step of a conversation needs to fail well.
struct Session {
    url: SafeUrl,
    patience: Duration,
}

impl Session {
    fn lasting(&self, refusal: Refusal) -> Error {
        self.error(false, io::Error::other(refusal))
    }

    /// Returns the error for content that cannot be gone on with; it can be started over.
    fn changed(&self, offset: u64, refusal: &Refusal) -> Error {
        Error::Changed {
            url: self.url.clone(),
            offset,
            problem: refusal.to_string(),
        }
    }

    fn passing(&self, refusal: Refusal) -> Error {
        self.error(true, io::Error::other(refusal))
    }

    fn error(&self, transient: bool, source: io::Error) -> Error {
        Error::Http {
            url: self.url.clone(),
            transient,
            source,
        }
    }

    fn failure(&self, err: FtpError) -> Error {
        match err {
            FtpError::UnexpectedResponse(reply) => {
                let code = code(&reply);
                let text = text(&reply);
                // 5yz: the command is not to be repeated (RFC 959, section 4.2.1).
                self.error(code < 500, io::Error::other(Refusal::Reply { code, text }))
            }
            FtpError::ConnectionError(source) => self.error(true, source),
            FtpError::BadResponse
            | FtpError::InvalidAddress(_)
            | FtpError::DataConnectionAlreadyOpen => self.passing(Refusal::NotFtp),
        }
    }

    /// Waits for one exchange of the conversation, but not for ever.
    async fn exchange<T>(
        &self,
        exchange: impl Future<Output = Result<T, FtpError>>,
    ) -> Result<Result<T, FtpError>> {
        timeout(self.patience, exchange)
            .await
            .map_err(|_elapsed| Error::Stalled {
                url: self.url.clone(),
                after: self.patience,
                received: ByteSize(0),
            })
    }

    async fn step<T>(&self, exchange: impl Future<Output = Result<T, FtpError>>) -> Result<T> {
        self.exchange(exchange)
            .await?
            .map_err(|err| self.failure(err))
    }

    async fn connect(&self, url: &Url, resolver: &Resolver) -> Result<TcpStream> {
        let addresses = match url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, 0))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, 0))],
            Some(Host::Domain(host)) => {
                let addresses = resolver.addresses(host).await;
                let addresses = addresses.map_err(|err| self.error(true, io::Error::other(err)))?;
                addresses.to_vec()
            }
            None => return Err(self.lasting(Refusal::NoFile)),
        };
        let port = url.port().unwrap_or(21);
        let connected = first_to_connect(&addresses, port).await;
        connected.map_err(|err| self.error(true, err))
    }

    async fn login(&self, control: &mut AsyncFtpStream, login: &Login) -> Result<()> {
        let answer = self
            .exchange(control.login(&login.user, &login.password))
            .await?;
        answer.map_err(|err| match err {
            // Its words may repeat what it was told.
            FtpError::UnexpectedResponse(reply) if !login.anonymous && code(&reply) >= 500 => {
                self.lasting(Refusal::Login { code: code(&reply) })
            }
            err => self.failure(err),
        })
    }

    /// Returns the size in bytes, if the server tells sizes.
    async fn size(&self, control: &mut AsyncFtpStream, path: &str) -> Result<Option<u64>> {
        match self.exchange(control.size(path)).await? {
            Ok(size) => Ok(Some(size as u64)),
            // Not offered, or no such file: then what comes next says so.
            Err(FtpError::UnexpectedResponse(reply)) if code(&reply) != 421 => Ok(None),
            Err(FtpError::BadResponse) => Ok(None),
            Err(err) => Err(self.failure(err)),
        }
    }

    /// Begins the transfer. Data connections go to the server's own address, whatever it says.
    async fn retrieve(
        &self,
        control: &mut AsyncFtpStream,
        path: &str,
        offset: u64,
    ) -> Result<TransferStream<AsyncNoTlsStream>> {
        let offset =
            usize::try_from(offset).map_err(|err| self.error(false, io::Error::other(err)))?;
        control.set_passive_nat_workaround(true);
        // In this order: only the first knows IPv6, only the second is known to old servers.
        control.set_mode(Mode::ExtendedPassive);
        self.step(control.resume_transfer(offset)).await?;
        match self.exchange(control.retr_as_stream(path)).await? {
            Err(FtpError::UnexpectedResponse(reply)) if matches!(code(&reply), 500..=504 | 522) => {
            }
            begun => return begun.map_err(|err| self.failure(err)),
        }
        control.set_mode(Mode::Passive);
        self.step(control.resume_transfer(offset)).await?;
        match self.exchange(control.retr_as_stream(path)).await? {
            Err(FtpError::UnexpectedResponse(reply))
                if offset > 0 && matches!(code(&reply), 500..=504) =>
            {
                Err(self.changed(offset as u64, &Refusal::NoRestart { code: code(&reply) }))
            }
            begun => begun.map_err(|err| self.failure(err)),
        }
    }
}

/// A file on its way.
struct Download {
    session: Session,
    control: AsyncFtpStream,
    data: TransferStream<AsyncNoTlsStream>,
    /// Bytes of the file so far, from its beginning.
    received: u64,
    size: Option<u64>,
}

impl Download {
    /// Returns the next chunk, and what brings the one after that. How long it may take is looked after by [`Body`].
    async fn next(download: Option<Self>) -> Result<Option<(Bytes, Option<Self>)>> {
        let Some(mut download) = download else {
            return Ok(None);
        };
        let mut chunk = BytesMut::with_capacity(CHUNK);
        let read = download.data.read_buf(&mut chunk).await;
        let read = read.map_err(|err| download.broken(err))?;
        if read == 0 {
            download.finish().await?;
            return Ok(None);
        }
        download.received += read as u64;
        Ok(Some((chunk.freeze(), Some(download))))
    }

    /// Makes sure that the end of the data was the end of the file.
    async fn finish(mut self) -> Result<()> {
        let reply = if self.size == Some(self.received) {
            match timeout(LAST_REPLY, self.data.finish()).await {
                Ok(Err(FtpError::ConnectionError(_))) | Err(_) => Ok(()),
                Ok(reply) => reply,
            }
        } else {
            self.data.finish().await
        };
        match self.size {
            Some(expected) if self.received < expected => Err(Error::Truncated {
                url: self.session.url,
                received: self.received,
                expected,
            }),
            _ => {
                reply.map_err(|err| self.session.failure(err))?;
                // A courtesy: nothing depends on it.
                let _ = timeout(Duration::from_millis(100), self.control.quit()).await;
                Ok(())
            }
        }
    }

    fn broken(&self, err: io::Error) -> Error {
        match self.size {
            Some(expected) if self.received < expected => Error::Truncated {
                url: self.session.url.clone(),
                received: self.received,
                expected,
            },
            _ => self.session.error(true, err),
        }
    }
}

/// Connects to the first address that answers; one that hangs does not keep the others waiting.
async fn first_to_connect(addresses: &[SocketAddr], port: u16) -> io::Result<TcpStream> {
    let mut connecting = FuturesUnordered::new();
    let mut rest = addresses.iter();
    let mut failed = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        let more = rest
            .next()
            .map(|address| SocketAddr::new(address.ip(), port));
        connecting.extend(more.map(TcpStream::connect));
        tokio::select! {
            ended = connecting.next() => match ended {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(err)) => failed = err,
                None => return Err(failed),
            },
            () = tokio::time::sleep(NEXT_ADDRESS), if rest.len() > 0 => {}
        }
    }
}

/// Returns the number of a reply. The crate knows some by name and takes the others for 0.
fn code(reply: &Response) -> u16 {
    let digits = reply
        .body
        .get(..3)
        .and_then(|digits| str::from_utf8(digits).ok());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Returns the words of a reply's last line, for people.
fn text(reply: &Response) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let line = text.trim_end().lines().next_back().unwrap_or_default();
    let words = line.get(4..).unwrap_or(line).trim();
    let words: String = words.chars().take(200).collect();
    shown(&words)
}

#[cfg(test)]
mod tests {
    use super::{Login, code, open, text};
    use crate::{
        error::{Error, Result},
        http::{Address, Body, Settings, dns::Resolver},
    };
    use suppaftp::{Status, types::Response};
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };
    use url::Url;

    /// Serves `0123456789` once, on one connection, and answers REST with `restart`.
    async fn open_at(offset: u64, restart: &'static str) -> Result<Body> {
        let control = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let data = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, data_port) = (
            control.local_addr().unwrap().port(),
            data.local_addr().unwrap().port(),
        );
        tokio::spawn(async move {
            let (mut stream, _) = control.accept().await.unwrap();
            let (reader, mut writer) = stream.split();
            let mut lines = BufReader::new(reader).lines();
            writer.write_all(b"220 Ready\r\n").await.unwrap();
            let mut from = 0;
            while let Ok(Some(line)) = lines.next_line().await {
                let reply = match line.split(' ').next().unwrap() {
                    "USER" => "230 Welcome".to_owned(),
                    "TYPE" => "200 Binary".to_owned(),
                    "SIZE" => "213 10".to_owned(),
                    "EPSV" => format!("229 Passive (|||{data_port}|)"),
                    "PASV" => format!(
                        "227 Passive (127,0,0,1,{},{})",
                        data_port >> 8,
                        data_port & 255
                    ),
                    "REST" => {
                        from = line[5..].parse().unwrap();
                        restart.to_owned()
                    }
                    "RETR" => {
                        let (mut stream, _) = data.accept().await.unwrap();
                        writer.write_all(b"150 Here\r\n").await.unwrap();
                        stream.write_all(&b"0123456789"[from..]).await.unwrap();
                        "226 Done".to_owned()
                    }
                    _ => "500 No".to_owned(),
                };
                writer
                    .write_all(format!("{reply}\r\n").as_bytes())
                    .await
                    .unwrap();
            }
        });
        let url = Url::parse(&format!("ftp://127.0.0.1:{port}/a")).unwrap();
        open(
            &Address::from(url),
            offset,
            &Settings::default(),
            &Resolver::default(),
        )
        .await
    }

    fn refusal(opened: Result<Body>) -> String {
        match opened.err().unwrap() {
            Error::Changed { problem, .. } => problem,
            err => panic!("{err:?}"),
        }
    }

    #[tokio::test]
    async fn a_file_can_begin_at_an_offset() {
        for (offset, rest) in [(0, "0123456789"), (4, "456789"), (10, "")] {
            let body = open_at(offset, "350 From there").await.unwrap();
            assert_eq!(body.head().length, Some(rest.len() as u64));
            assert_eq!(body.read_all(100).await.unwrap(), rest.as_bytes());
        }
    }

    #[tokio::test]
    async fn offsets_that_cannot_be_had_are_told_apart() {
        assert_eq!(
            refusal(open_at(4, "502 No").await),
            "the server cannot begin at an offset (it answered 502)"
        );
        assert_eq!(
            refusal(open_at(11, "350 From there").await),
            "the file has 10 bytes now, fewer than the 11 that were received"
        );
    }

    #[test]
    fn urls_name_a_user_and_a_file() {
        let login = |url| {
            let login = Login::of(&Url::parse(url).unwrap())?;
            Some((login.user, login.password, login.path))
        };
        let some = |user: &str, password: &str, path: &str| {
            Some((user.to_owned(), password.to_owned(), path.to_owned()))
        };
        assert_eq!(
            login("ftp://h/gnu/a%20b.tar"),
            some("anonymous", "anonymous@", "gnu/a b.tar")
        );
        assert_eq!(login("ftp://u:p%40ss@h/a"), some("u", "p@ss", "a"));
        assert_eq!(login("ftp://u@h/%2Fetc/x"), some("u", "", "/etc/x"));
        for url in [
            "ftp://h",
            "ftp://h/",
            "ftp://h/dir/",
            "ftp://h/a%0D%0ADELE%20b",
            "ftp://u%0A@h/a",
            "ftp://h/%FF",
        ] {
            assert_eq!(login(url), None, "{url}");
        }
    }

    #[test]
    fn replies_are_shown_escaped_and_short() {
        let reply = |body: &[u8]| Response::new(Status::Unknown, body.to_vec());
        let two = reply(b"550-first\r\n550 No such \"file\" \x1b[31m\xff\r\n");
        assert_eq!(code(&two), 550);
        assert_eq!(text(&two), "No such \"file\" \\u{1b}[31m\u{fffd}");
        assert_eq!(text(&reply(&[b'x'; 5000])).len(), 200);
        assert_eq!((code(&reply(b"?")), &*text(&reply(b""))), (0, ""));
    }
}
