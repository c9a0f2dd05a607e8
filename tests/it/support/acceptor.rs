//! A listener on the loopback interface that hands every connection to a task of its own. Dropping it ends all of them.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

/// See the module's documentation.
pub(crate) struct Acceptor {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    runtime: Option<Runtime>,
}

impl Acceptor {
    /// Listens on a free port of 127.0.0.1.
    pub(crate) fn start<F>(converse: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::start_on("127.0.0.1:0", converse)
    }

    /// Listens on this address.
    pub(crate) fn start_on<F>(
        address: &str,
        converse: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self
    where
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener =
            TcpListener::bind(address).unwrap_or_else(|err| panic!("bind to {address}: {err}"));
        let address = listener.local_addr().expect("address of the listener");
        listener
            .set_nonblocking(true)
            .expect("a listener that does not block");
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("start a runtime");
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("take the listener");
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                // How a conversation ends is what tests look at from the other side.
                tokio::spawn(converse(stream));
            }
        });
        Self {
            address,
            accepted,
            runtime: Some(runtime),
        }
    }

    /// Accepts connections and never says anything.
    pub(crate) fn silent() -> Self {
        Self::start(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
            Ok(())
        })
    }

    /// The host and port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections there were so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
