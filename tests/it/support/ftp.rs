//! FTP on the loopback interface: a real server, and a scripted one that does what a bad network does.

use std::io::{self, BufRead, BufReader as SyncBufReader, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::acceptor::Acceptor;
use super::skip::skip;

/// Debian's Python, which sees Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// Serves a directory to anonymous users and to `user` with the password `p@ss`; says its port.
const SERVE: &str = r#"
import sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_anonymous(sys.argv[1])
FTPHandler.authorizer.add_user("user", "p@ss", sys.argv[1])
FTPHandler.auth_failed_timeout = 0
server = FTPServer((sys.argv[2], 0), FTPHandler)
print(server.address[1], flush=True)
server.serve_forever()
"#;

/// A running pyftpdlib. Dropping it ends it.
pub(crate) struct RealFtp {
    child: Child,
    authority: String,
}

impl RealFtp {
    /// Serves `root` at an address (`127.0.0.1` or `::1`), or reports that the test is skipped.
    pub(crate) fn start(test: &str, root: &Path, address: &str) -> Option<Self> {
        let there = Command::new(PYTHON)
            .args(["-c", "import pyftpdlib"])
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            skip(test, "python3-pyftpdlib is not installed");
            return None;
        }
        let mut child = Command::new(PYTHON)
            .args(["-c", SERVE])
            .args([root.as_os_str(), address.as_ref()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start an FTP server");
        let mut port = String::new();
        let output = child.stdout.take().expect("its output is a pipe");
        let read = SyncBufReader::new(output).read_line(&mut port);
        read.expect("read the FTP server's port");
        let port = port.trim().parse().expect("the FTP server's port");
        let address = address.parse().expect("an address");
        Some(Self {
            child,
            authority: SocketAddr::new(address, port).to_string(),
        })
    }

    /// `ftp://HOST:PORT/…`, with user information (`user:password@` or nothing).
    pub(crate) fn url(&self, user_information: &str, path: &str) -> String {
        format!("ftp://{user_information}{}{path}", self.authority)
    }
}

impl Drop for RealFtp {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one connection is like.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    content: Vec<u8>,
    /// Commands that are answered otherwise, with `{port}` for that of the data connection, in the form `h,l`.
    replies: Vec<(&'static str, &'static str)>,
    end: End,
}

/// How a transfer ends.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Everything is sent, and this said.
    Saying(&'static str),
    /// So many bytes are sent, and this said.
    Cut(usize, &'static str),
    /// So many bytes are sent, then nothing.
    Stall(usize),
    /// Everything is sent, and the control connection closed.
    Silent,
}

impl Script {
    /// Serves this content at every path, well.
    pub(crate) fn serving(content: impl AsRef<[u8]>) -> Self {
        Self {
            content: content.as_ref().to_vec(),
            replies: Vec::new(),
            end: End::Saying("226 Done"),
        }
    }

    /// Answers a command with this line (without its end). An empty line closes the connection.
    pub(crate) fn answering(mut self, command: &'static str, reply: &'static str) -> Self {
        self.replies.push((command, reply));
        self
    }

    /// Ends the data connection after so many bytes, with this last reply.
    pub(crate) fn cut_after(mut self, bytes: usize, reply: &'static str) -> Self {
        self.end = End::Cut(bytes, reply);
        self
    }

    /// Stops sending after so many bytes.
    pub(crate) fn stall_after(mut self, bytes: usize) -> Self {
        self.end = End::Stall(bytes);
        self
    }

    /// Closes the control connection in place of a last reply.
    pub(crate) fn without_last_reply(mut self) -> Self {
        self.end = End::Silent;
        self
    }

    fn reply(&self, command: &str) -> Option<&'static str> {
        let mut replies = self.replies.iter().filter(|(name, _)| *name == command);
        replies.next().map(|(_, reply)| *reply)
    }
}

/// A scripted FTP server.
pub(crate) struct ScriptedFtp {
    acceptor: Acceptor,
    commands: Arc<Mutex<Vec<String>>>,
}

impl ScriptedFtp {
    /// Starts on a free port of 127.0.0.1. Connections take the scripts in turn; the last one repeats.
    pub(crate) fn start(scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::start_on("127.0.0.1:0", scripts)
    }

    /// Starts on this address of 127.0.0.1.
    pub(crate) fn start_on(address: &str, scripts: impl IntoIterator<Item = Script>) -> Self {
        let mut scripts: Vec<Script> = scripts.into_iter().collect();
        scripts.reverse();
        let scripts = Mutex::new(scripts);
        let commands = Arc::new(Mutex::new(Vec::new()));
        let acceptor = Acceptor::start_on(address, {
            let commands = Arc::clone(&commands);
            move |stream| {
                let mut scripts = scripts.lock().unwrap_or_else(PoisonError::into_inner);
                let script = if scripts.len() > 1 {
                    scripts.pop()
                } else {
                    scripts.last().cloned()
                };
                converse(stream, script.expect("a script"), Arc::clone(&commands))
            }
        });
        Self { acceptor, commands }
    }

    /// `ftp://127.0.0.1:PORT/…`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("ftp://{}{path}", self.acceptor.address())
    }

    /// All commands so far, on all connections.
    pub(crate) fn commands(&self) -> Vec<String> {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        commands.clone()
    }

    /// How often a command came.
    pub(crate) fn count(&self, command: &str) -> usize {
        let commands = self.commands();
        commands.iter().filter(|c| verb(c) == command).count()
    }
}

fn verb(line: &str) -> &str {
    line.split(' ').next().unwrap_or_default()
}

async fn converse(
    stream: TcpStream,
    script: Script,
    record: Arc<Mutex<Vec<String>>>,
) -> io::Result<()> {
    let (reader, mut control) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    let data = TcpListener::bind("127.0.0.1:0").await?;
    let port = data.local_addr()?.port();
    let mut offset = 0;
    let greeting = script.reply("CONNECT").unwrap_or("220 Scripted");
    say(&mut control, greeting, port).await?;
    while let Some(line) = lines.next_line().await? {
        record
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line.clone());
        if let Some(reply) = script.reply(verb(&line)) {
            say(&mut control, reply, port).await?;
            continue;
        }
        let reply = match verb(&line) {
            "USER" => "331 Password, please".to_owned(),
            "PASS" => "230 Welcome".to_owned(),
            "TYPE" => "200 Binary".to_owned(),
            "SIZE" => format!("213 {}", script.content.len()),
            "EPSV" => format!("229 Entering Extended Passive Mode (|||{port}|)"),
            "PASV" => "227 Entering Passive Mode (127,0,0,1,{port})".to_owned(),
            "REST" => {
                offset = line[5..].parse().unwrap_or(0);
                "350 From there".to_owned()
            }
            "RETR" => {
                say(&mut control, "150 Here it comes", port).await?;
                transfer(&data, &script, offset).await?
            }
            "QUIT" => "221 Bye".to_owned(),
            _ => "502 Not here".to_owned(),
        };
        say(&mut control, &reply, port).await?;
    }
    Ok(())
}

/// Sends the content and returns the last reply; empty if there is none.
async fn transfer(data: &TcpListener, script: &Script, offset: usize) -> io::Result<String> {
    let (mut stream, _) = data.accept().await?;
    let content = script.content.get(offset..).unwrap_or_default();
    let (bytes, reply) = match script.end {
        End::Saying(reply) => (content.len(), reply),
        End::Silent => (content.len(), ""),
        End::Cut(bytes, reply) => (bytes, reply),
        End::Stall(bytes) => {
            stream.write_all(&content[..bytes]).await?;
            std::future::pending::<()>().await;
            (0, "")
        }
    };
    stream.write_all(&content[..bytes]).await?;
    stream.shutdown().await?;
    Ok(reply.to_owned())
}

async fn say(control: &mut (impl AsyncWriteExt + Unpin), reply: &str, port: u16) -> io::Result<()> {
    if reply.is_empty() {
        return Err(ErrorKind::ConnectionAborted.into());
    }
    let port = format!("{},{}", port >> 8, port & 255);
    let line = format!("{}\r\n", reply.replace("{port}", &port));
    control.write_all(line.as_bytes()).await
}
