//! Debian's docker-registry on a loopback port: the real thing, with or without authentication; and a token server that
//! it believes.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use url::Url;

use super::server::{Reply, Seen, Server};
use super::skip::have_programs;

const PROGRAM: &str = "docker-registry";

/// The only user, and the password.
pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "s3cret:word";

/// What the token server is called, and what its tokens are for.
const ISSUER: &str = "token server of the tests";
const SERVICE: &str = "registry of the tests";

/// Who may do what.
pub(crate) enum Door<'a> {
    /// Everybody, everything.
    Open,
    /// The user, with the password.
    Password,
    /// Whoever has a token.
    Tokens(&'a TokenServer),
}

/// A running registry. Dropping it ends it.
pub(crate) struct DockerRegistry {
    child: Child,
    dir: TempDir,
    port: u16,
}

impl DockerRegistry {
    /// Starts a registry, or reports that the test is skipped if it is not installed.
    pub(crate) fn start(test: &str, door: &Door) -> Option<Self> {
        if !have_programs(test, &[PROGRAM]) {
            return None;
        }
        // Ports are free when they are chosen; somebody else may be quicker.
        let mut attempts = (0..5).filter_map(|_| Self::try_start(door));
        Some(attempts.next().expect("the registry listens"))
    }

    fn try_start(door: &Door) -> Option<Self> {
        let dir = tempfile::tempdir().expect("make a temporary directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind to the loopback interface");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let auth = auth(door, &dir);
        let configuration = json!({
            "version": "0.1",
            "log": {"accesslog": {"disabled": true}, "level": "error"},
            "storage": {"filesystem": {"rootdirectory": dir.path().join("data")}},
            "http": {"addr": format!("127.0.0.1:{port}")},
        });
        let mut configuration = configuration;
        if let Some(auth) = auth {
            configuration["auth"] = auth;
        }
        let path = dir.path().join("config.yml");
        fs::write(&path, configuration.to_string()).expect("configure the registry");
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the registry");
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if child.try_wait().expect("wait for the registry").is_some() {
                return None;
            }
            assert!(
                start.elapsed() < Duration::from_secs(60),
                "it never listens"
            );
            thread::sleep(Duration::from_millis(10));
        }
        Some(Self { child, dir, port })
    }

    /// The name of an image there.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.host())
    }

    /// Host and port.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How many bytes all of its blobs have.
    pub(crate) fn stored(&self) -> u64 {
        fn below(path: &std::path::Path) -> u64 {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            let sizes = entries.map(|entry| match entry.metadata() {
                Ok(found) if found.is_dir() => below(&entry.path()),
                Ok(found) => found.len(),
                Err(_) => 0,
            });
            sizes.sum()
        }
        below(&self.dir.path().join("data/docker/registry/v2/blobs"))
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn auth(door: &Door, dir: &TempDir) -> Option<Value> {
    match door {
        Door::Open => None,
        Door::Password => {
            let path = dir.path().join("htpasswd");
            // bcrypt of the password, by Python's crypt module.
            let line = format!("{USER}:{HASH}\n");
            fs::write(&path, line).expect("write the password");
            Some(json!({"htpasswd": {"realm": "tests", "path": path}}))
        }
        Door::Tokens(server) => {
            let path = dir.path().join("certificate.pem");
            fs::write(&path, &server.certificate).expect("write the certificate");
            Some(json!({"token": {
                "realm": server.server.url("/token"), "service": SERVICE, "issuer": ISSUER, "rootcertbundle": path,
            }}))
        }
    }
}

const HASH: &str = "$2b$04$gZ0fCtkNlN6I3BPtsd0ANuRhwKVrZC.tJsW0tyGgoEG7Oa/frNovq";

/// Gives tokens for repositories below `public/` to everybody (to read), and for all to the user.
pub(crate) struct TokenServer {
    pub(crate) server: Server,
    certificate: String,
}

impl TokenServer {
    /// Starts one whose tokens say that they are good for this long, and are for some more.
    pub(crate) fn start(seconds: u64) -> Self {
        let key = KeyPair::generate().expect("make a key");
        let names = vec![ISSUER.replace(' ', "-")];
        let params = CertificateParams::new(names).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        let signer = Signer {
            key: EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                &key.serialize_der(),
                &SystemRandom::new(),
            )
            .expect("the key"),
            certificate: BASE64_STANDARD.encode(certificate.der()),
            seconds,
        };
        let signer = Arc::new(signer);
        let server = Server::start();
        server.serve_by("/token", move |seen| signer.answer(seen));
        Self {
            server,
            certificate: certificate.pem(),
        }
    }

    /// The scopes that were asked for, request by request.
    pub(crate) fn scopes(&self) -> Vec<Vec<String>> {
        let requests = self.server.requests();
        let asked = requests.iter().map(scopes);
        asked.collect()
    }
}

/// Query and form of a request.
fn parameters(seen: &Seen) -> Vec<(String, String)> {
    let url = Url::parse(&format!("http://h{}", seen.path)).expect("a URL");
    let query = url.query_pairs().into_owned();
    query
        .chain(url::form_urlencoded::parse(&seen.body).into_owned())
        .collect()
}

fn scopes(seen: &Seen) -> Vec<String> {
    let parameters = parameters(seen);
    let scopes = parameters.iter().filter(|(name, _)| name == "scope");
    let all = scopes.flat_map(|(_, value)| value.split(' ').map(str::to_owned));
    all.collect()
}

struct Signer {
    key: EcdsaKeyPair,
    certificate: String,
    seconds: u64,
}

impl Signer {
    fn answer(&self, seen: &Seen) -> Reply {
        let basic = format!(
            "Basic {}",
            BASE64_STANDARD.encode(format!("{USER}:{PASSWORD}"))
        );
        let is_user = match (seen.method.as_str(), seen.header("authorization")) {
            ("POST", _) => {
                let token = ("refresh_token".to_owned(), PASSWORD.to_owned());
                parameters(seen).contains(&token)
            }
            (_, Some(given)) if given == basic => true,
            (_, Some(_)) => {
                return Reply::with_status(
                    401,
                    r#"{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}"#,
                );
            }
            (_, None) => false,
        };
        let access: Vec<Value> = scopes(seen)
            .iter()
            .filter_map(|scope| allowed(scope, is_user))
            .collect();
        let token = self.token(&access);
        Reply::ok(json!({"token": token, "expires_in": self.seconds}).to_string())
    }

    fn token(&self, access: &[Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("a clock").as_secs();
        let header = json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": ISSUER, "sub": USER, "aud": SERVICE, "iat": now, "nbf": now - 60, "exp": now + 600, "jti": "1",
            "access": access,
        });
        let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
        let signed = format!(
            "{}.{}",
            encode(header.to_string().as_bytes()),
            encode(claims.to_string().as_bytes())
        );
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.expect("sign a token");
        format!("{signed}.{}", encode(signature.as_ref()))
    }
}

/// What a token allows of a scope.
fn allowed(scope: &str, is_user: bool) -> Option<Value> {
    let mut parts = scope.splitn(3, ':');
    let (kind, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
    let actions: Vec<&str> = actions
        .split(',')
        .filter(|action| is_user || (*action == "pull" && name.starts_with("public/")))
        .collect();
    Some(json!({"type": kind, "name": name, "actions": actions}))
}
