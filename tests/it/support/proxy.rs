//! An HTTP proxy on the loopback interface: requests with an absolute target, and tunnels (`CONNECT`). It records what
//! it saw, and can demand credentials or refuse.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::acceptor::Acceptor;

/// What a proxy does with requests.
#[derive(Clone, Debug)]
pub(crate) enum Manner {
    /// Serves everybody.
    Open,
    /// Answers 407 to whoever does not send this as `Proxy-Authorization`.
    Demanding(String),
    /// Answers this status to everybody.
    Refusing(u16),
    /// Serves everybody, but every tunnel leads here.
    Leading(SocketAddr),
}

/// A request as the proxy saw it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET` or `CONNECT`.
    pub(crate) method: String,
    /// As sent: a URL, or host and port for a tunnel.
    pub(crate) target: String,
    /// In the order sent, names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Asked {
    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        values.next().map(|(_, value)| value.as_str())
    }
}

/// A running proxy. See the module's documentation.
pub(crate) struct Proxy {
    acceptor: Acceptor,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Proxy {
    /// Starts on a free port of 127.0.0.1.
    pub(crate) fn start(manner: Manner) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let acceptor = Acceptor::start({
            let asked = Arc::clone(&asked);
            move |stream| serve(stream, manner.clone(), Arc::clone(&asked))
        });
        Self { acceptor, asked }
    }

    /// The proxy's URL, with user information (`user:password@` or nothing).
    pub(crate) fn url(&self, user_information: &str) -> String {
        format!("http://{user_information}{}", self.acceptor.address())
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

async fn serve(
    stream: TcpStream,
    manner: Manner,
    record: Arc<Mutex<Vec<Asked>>>,
) -> io::Result<()> {
    let (from_client, mut to_client) = stream.into_split();
    let mut from_client = BufReader::new(from_client);
    let asked = read_head(&mut from_client, &record).await?;
    let refusal = match &manner {
        Manner::Open | Manner::Leading(_) => None,
        Manner::Demanding(credentials) => {
            let given = asked.header("proxy-authorization");
            (given != Some(credentials.as_str())).then_some(407)
        }
        Manner::Refusing(status) => Some(*status),
    };
    if let Some(status) = refusal {
        let answer = format!(
            "HTTP/1.1 {status} Refused\r\nProxy-Authenticate: Basic realm=\"test\"\r\nContent-Length: 0\r\n\r\n"
        );
        return to_client.write_all(answer.as_bytes()).await;
    }
    if asked.method == "CONNECT" {
        let target = match manner {
            Manner::Leading(address) => address.to_string(),
            _ => asked.target,
        };
        tunnel(from_client, to_client, &target).await
    } else {
        forward(from_client, to_client, asked, &record).await
    }
}

async fn tunnel(
    from_client: BufReader<OwnedReadHalf>,
    mut to_client: OwnedWriteHalf,
    target: &str,
) -> io::Result<()> {
    let Ok(mut server) = TcpStream::connect(target).await else {
        let answer = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n";
        return to_client.write_all(answer).await;
    };
    to_client
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await?;
    let client = from_client.into_inner().reunite(to_client);
    let mut client = client.map_err(io::Error::other)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// Passes requests to the server of the first one's target until one side ends.
async fn forward(
    mut from_client: BufReader<OwnedReadHalf>,
    mut to_client: OwnedWriteHalf,
    first: Asked,
    record: &Mutex<Vec<Asked>>,
) -> io::Result<()> {
    let (host, _) = split_target(&first.target)?;
    let (mut from_server, mut to_server) = TcpStream::connect(host).await?.into_split();
    let requests = async {
        let mut asked = first;
        loop {
            to_server.write_all(&origin_form(&asked)?).await?;
            asked = read_head(&mut from_client, record).await?;
        }
    };
    tokio::select! {
        ended = requests => ended,
        ended = copy(&mut from_server, &mut to_client) => ended.map(drop),
    }
}

/// Returns host with port, and the rest, of an absolute target.
fn split_target(target: &str) -> io::Result<(&str, &str)> {
    let rest = target.strip_prefix("http://");
    let rest = rest.ok_or_else(|| io::Error::from(ErrorKind::InvalidData))?;
    Ok(rest.split_at(rest.find('/').unwrap_or(rest.len())))
}

/// Returns the request as it goes on to the server.
fn origin_form(asked: &Asked) -> io::Result<Vec<u8>> {
    let (_, path) = split_target(&asked.target)?;
    let mut head = format!("{} {path} HTTP/1.1\r\n", asked.method);
    for (name, value) in &asked.headers {
        if !name.starts_with("proxy-") {
            head.push_str(name);
            head.push_str(": ");
            head.push_str(value);
            head.push_str("\r\n");
        }
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

/// Reads a request's head and records it.
async fn read_head(
    from_client: &mut BufReader<OwnedReadHalf>,
    record: &Mutex<Vec<Asked>>,
) -> io::Result<Asked> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from_client.read_line(&mut line).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut lines = lines.into_iter();
    let first = lines.next().unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let headers = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    });
    let asked = Asked {
        method: words.next().unwrap_or_default(),
        target: words.next().unwrap_or_default(),
        headers: headers.collect(),
    };
    let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
    record.push(asked.clone());
    Ok(asked)
}
