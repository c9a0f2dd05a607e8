//! TLS with a throw-away certificate authority: certificates of all kinds, and a front that puts TLS before the
//! scripted server, so that every scripted fault happens over TLS, too.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::acceptor::Acceptor;
use super::server::Server;

/// A certificate authority that nobody else knows.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes a new one.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "Throw-away Authority");
        let key = KeyPair::generate().expect("make a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("make an authority"))
    }

    /// Its certificate, as `SSL_CERT_FILE` wants it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names and addresses.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.issue_between(names, (2020, 1, 1), (2099, 1, 1))
    }

    /// A certificate that is valid from one day (year, month, day) to another.
    pub(crate) fn issue_between(
        &self,
        names: &[&str],
        from: (i32, u8, u8),
        to: (i32, u8, u8),
    ) -> Identity {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names for a certificate");
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        let key = KeyPair::generate().expect("make a key");
        let certificate = params.signed_by(&key, &self.0).expect("sign a certificate");
        Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    fn config(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .expect("read the certificate");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("read the key");
        let provider = rustls::crypto::ring::default_provider();
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the protocol versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate with its key");
        Arc::new(config)
    }
}

/// What is done when the server behind the front ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// TLS is closed (`close_notify`), then TCP.
    Orderly,
    /// TCP is closed and TLS is not, as by anybody in between who cuts the connection.
    Cut,
}

/// TLS before a scripted server.
pub(crate) struct TlsFront(Acceptor);

impl TlsFront {
    /// Starts on a free port of 127.0.0.1.
    pub(crate) fn start(server: &Server, identity: &Identity, ending: Ending) -> Self {
        Self::to(server.address(), identity, ending)
    }

    /// Starts before any address.
    pub(crate) fn to(address: SocketAddr, identity: &Identity, ending: Ending) -> Self {
        let tls = TlsAcceptor::from(identity.config());
        Self(Acceptor::start(move |stream| {
            let tls = tls.clone();
            async move {
                let outer = tls.accept(stream).await?;
                let inner = TcpStream::connect(address).await?;
                inner.set_nodelay(true)?;
                forward(outer, inner, ending).await
            }
        }))
    }

    /// `https://127.0.0.1:PORT/…`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.0.address())
    }

    /// The host and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// How many connections there were, also such whose handshake failed.
    pub(crate) fn connections(&self) -> usize {
        self.0.accepted()
    }
}

/// Moves bytes both ways until one side ends, and passes the end on.
async fn forward(
    mut outer: TlsStream<TcpStream>,
    mut inner: TcpStream,
    ending: Ending,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = split(&mut outer);
    let (mut from_server, mut to_server) = inner.split();
    let ended = tokio::select! {
        gone = copy(&mut from_client, &mut to_server) => return gone.map(drop),
        ended = copy(&mut from_server, &mut to_client) => ended,
    };
    match ended {
        Ok(_) if ending == Ending::Orderly => outer.shutdown().await,
        Ok(_) => Ok(()),
        Err(err) => {
            if err.kind() == ErrorKind::ConnectionReset {
                outer.get_ref().0.set_zero_linger()?;
            }
            Err(err)
        }
    }
}
