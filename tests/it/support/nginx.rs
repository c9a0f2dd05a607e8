//! Debian's nginx on loopback ports: ranges, validators, HTTP/2, TLS and a limit per connection as the real thing does
//! them, with a log of what was sent.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::sandbox::wait_until;
use super::skip::have_programs;
use super::tls::Identity;

/// Where Debian has it, which is not in everybody's `PATH`.
const PROGRAM: &str = "/usr/sbin/nginx";

/// What nginx is to do.
#[derive(Default)]
pub(crate) struct Site<'a> {
    /// Names (without slashes) and contents.
    pub(crate) files: &'a [(&'a str, &'a [u8])],
    /// Also listen with TLS and HTTP/2, with this certificate.
    pub(crate) identity: Option<&'a Identity>,
    /// The limit per connection, in nginx's words, such as `500k`.
    pub(crate) limit_rate: Option<&'a str>,
    /// More directives for the server block.
    pub(crate) directives: &'a str,
}

/// One request, from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub(crate) protocol: String,
    /// The path.
    pub(crate) path: String,
    /// The `Range` asked for.
    pub(crate) range: Option<String>,
    /// The status answered; 499 if the client went away first.
    pub(crate) status: u16,
    /// Bytes of the body that were sent.
    pub(crate) bytes: u64,
    /// Which connection it came over; numbers grow.
    pub(crate) connection: u64,
}

/// A running nginx. Dropping it ends it.
pub(crate) struct Nginx {
    child: Child,
    dir: TempDir,
    ports: [u16; 2],
}

impl Nginx {
    /// Starts nginx, or reports that the test is skipped if it is not installed.
    pub(crate) fn start(test: &str, site: &Site) -> Option<Self> {
        if !have_programs(test, &[PROGRAM]) {
            return None;
        }
        // Ports are free when they are chosen; somebody else may be quicker.
        let mut attempts = (0..5).filter_map(|_| Self::try_start(site));
        Some(attempts.next().expect("nginx listens"))
    }

    fn try_start(site: &Site) -> Option<Self> {
        let dir = tempfile::tempdir().expect("make a temporary directory");
        let ports = free_ports();
        let files = dir.path().join("files");
        fs::create_dir(&files).expect("make a directory for nginx");
        for (name, content) in site.files {
            fs::write(files.join(name), content).expect("write a file for nginx");
        }
        if let Some(identity) = site.identity {
            fs::write(dir.path().join("certificate.pem"), &identity.certificate)
                .expect("write the certificate");
            fs::write(dir.path().join("key.pem"), &identity.key).expect("write the key");
        }
        let configuration = configuration(site, ports);
        fs::write(dir.path().join("nginx.conf"), configuration).expect("configure nginx");
        let mut child = Command::new(PROGRAM)
            .args(["-e", "error.log", "-c", "nginx.conf", "-p"])
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start nginx");
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0])).is_err() {
            let ended = child.try_wait().expect("wait for nginx").is_some();
            if ended && log(dir.path(), "error.log").contains("Address already in use") {
                return None;
            }
            let error = || log(dir.path(), "error.log");
            assert!(!ended, "nginx does not start: {}", error());
            assert!(start.elapsed() < Duration::from_secs(20), "{}", error());
            thread::sleep(Duration::from_millis(5));
        }
        Some(Self { child, dir, ports })
    }

    /// `http://127.0.0.1:PORT/…`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[0])
    }

    /// `https://127.0.0.1:PORT/…`, where HTTP/2 is offered, too.
    pub(crate) fn tls_url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.ports[1])
    }

    /// The requests that have ended so far, in that order, when there are at least `least`.
    pub(crate) fn served(&self, least: usize) -> Vec<Served> {
        let mut served = Vec::new();
        wait_until("requests in nginx's log", || {
            served = log(self.dir.path(), "access.log")
                .lines()
                .filter_map(parse)
                .collect();
            served.len() >= least
        });
        served
    }

    /// Bytes of bodies that were sent in at least `least` requests.
    pub(crate) fn bytes_sent(&self, least: usize) -> u64 {
        self.served(least).iter().map(|served| served.bytes).sum()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap_or_default()
}

fn free_ports() -> [u16; 2] {
    // Both are held until both are known, so that they differ.
    let listeners =
        [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("bind to the loopback interface"));
    listeners.map(|listener| {
        listener
            .local_addr()
            .expect("address of the listener")
            .port()
    })
}

/// One process, so that ending it is ending nginx.
fn configuration(site: &Site, [plain, tls]: [u16; 2]) -> String {
    let tls = site.identity.map_or_else(String::new, |_| {
        format!(
            "listen 127.0.0.1:{tls} ssl http2; ssl_certificate certificate.pem; ssl_certificate_key key.pem;"
        )
    });
    let limit = site.limit_rate.map_or_else(String::new, |rate| {
        format!("limit_rate {rate}; limit_rate_after 0;")
    });
    let directives = site.directives;
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log error.log;
         events {{ worker_connections 256; }}
         http {{
             log_format sent '$connection $status $body_bytes_sent $server_protocol \"$http_range\" $uri';
             access_log access.log sent;
             client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;
             default_type application/octet-stream;
             server {{ listen 127.0.0.1:{plain}; {tls} root files; {limit} {directives} }}
         }}"
    )
}

/// Parses a line of the log; the last one may not be whole yet.
fn parse(line: &str) -> Option<Served> {
    let mut words = line.splitn(5, ' ');
    let mut word = || words.next();
    let (connection, status, bytes) = (
        word()?.parse().ok()?,
        word()?.parse().ok()?,
        word()?.parse().ok()?,
    );
    let protocol = word()?.to_owned();
    let (range, path) = word()?.strip_prefix('"')?.split_once("\" ")?;
    Some(Served {
        protocol,
        path: path.to_owned(),
        range: (range != "-").then(|| range.to_owned()),
        status,
        bytes,
        connection,
    })
}
