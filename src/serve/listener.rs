//! [`Server`]: connections, their time-outs, and the end.

use crate::{
    error::{Error, Result},
    serve::{Shared, router},
    store::Store,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};

/// Connections at a time. More wait to be accepted.
const CONNECTIONS: usize = 1024;

/// How long requests may go on after the server was told to end.
const GRACE: Duration = Duration::from_secs(10);

/// The pause after a connection could not be accepted, as when there are no more descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What a server is to do.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Where to listen. Port 0 is any that is free.
    pub listen: SocketAddr,
    /// Whether requests may change the store.
    pub write: bool,
    /// After this long without progress a connection is closed: one that sends no request, or takes no content.
    pub stall_timeout: Duration,
}

/// A server that accepts connections.
pub struct Server {
    listener: TcpListener,
    shared: Shared,
}

impl Server {
    /// Begins to listen. `report` takes what the owner of the server should know.
    ///
    /// # Errors
    /// [`Error::Usage`] when the address cannot be listened on.
    pub async fn bind(
        store: Arc<Store>,
        settings: Settings,
        report: Arc<dyn Fn(&str) + Send + Sync>,
    ) -> Result<Self> {
        let listen = settings.listen;
        let bound = async {
            let listener = TcpListener::bind(listen).await?;
            let address = listener.local_addr()?;
            Ok::<_, io::Error>((listener, address))
        };
        let (listener, address) = bound.await.map_err(|err| Error::Usage {
            what: format!("cannot listen on {listen}: {err}"),
            hint: Some("--listen 127.0.0.1:0 takes any port that is free".into()),
        })?;
        let shared = Shared {
            store,
            write: settings.write,
            address,
            stall_timeout: settings.stall_timeout,
            report,
        };
        Ok(Self { listener, shared })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Answers requests until `stop`, and then those that have begun, but not for long.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let turns = Arc::new(Semaphore::new(CONNECTIONS));
        let (graceful, stall_timeout) = (GracefulShutdown::new(), self.shared.stall_timeout);
        let Self { listener, shared } = self;
        let (routes, watched) = (router(shared), &graceful);
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(stall_timeout);
        // It takes the listener with it when it ends, so that nobody connects any more.
        let serve = async move {
            loop {
                let Ok(turn) = Arc::clone(&turns).acquire_owned().await else {
                    return;
                };
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                // Without it a stalled connection only costs more.
                let _ = give_up_after(&stream, stall_timeout);
                let service = TowerToHyperService::new(routes.clone());
                let connection = http.serve_connection(TokioIo::new(stream), service);
                let connection = watched.watch(connection);
                tokio::spawn(async move {
                    // How it ended is the client's business.
                    let _ = connection.await;
                    drop(turn);
                });
            }
        };
        tokio::select! {
            () = serve => {}
            () = stop => {}
        }
        let _ = tokio::time::timeout(GRACE, graceful.shutdown()).await;
    }
}

/// Makes the system close a connection whose other end takes nothing for so long.
fn give_up_after(stream: &TcpStream, silence: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
    rustix::net::sockopt::set_tcp_user_timeout(stream, milliseconds)?;
    Ok(())
}
