//! How the store's crate reaches a cloud: over the connections of the one [`Client`], with its proxies, certificates
//! and time-outs.

use crate::http::Client;
use futures::{FutureExt, future::BoxFuture};
use hyper::body::{Body, Frame, SizeHint};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
        HttpResponseBody, HttpService,
    },
};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep};

/// Makes clients for clouds.
pub(crate) struct Connector(Client);

impl Client {
    /// Returns a way for the store's crate to use this client.
    pub(crate) fn connector(&self) -> Connector {
        Connector(self.clone())
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").finish_non_exhaustive()
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Self(self.0.clone())))
    }
}

impl HttpService for Connector {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        let settings = self.0.settings();
        let stall = settings.stall_timeout;
        // An answer begins when the request has been sent, however long that takes.
        let sending = request.body().content_length() as u64 / settings.min_speed.max(1);
        let limit = stall.saturating_add(Duration::from_secs(sending));
        async move {
            let answer = self.0.shared().call(request);
            let answer = tokio::time::timeout(limit, answer).await;
            let answer = answer.unwrap_or_else(|_elapsed| Err(silence(limit)));
            let (parts, body) = answer.map_err(repeatable)?.into_parts();
            let body = HttpResponseBody::new(Watched {
                body,
                stall,
                waiting: false,
                silent: Box::pin(tokio::time::sleep(stall)),
            });
            Ok(HttpResponse::from_parts(parts, body))
        }
        .boxed()
    }
}

/// Lets a request be repeated when it is not known whether it has arrived, as the crate does only with those that overwrite.
/// All of a store's can be: who writes a record that is there already looks at it, an upload that was begun twice is one
/// that nobody ends, and what was removed is not missed.
fn repeatable(err: HttpError) -> HttpError {
    match err.kind() {
        HttpErrorKind::Interrupted | HttpErrorKind::Timeout => {
            HttpError::new(HttpErrorKind::Request, err)
        }
        _ => err,
    }
}

fn silence(after: Duration) -> HttpError {
    let text = format!("it sent nothing for {after:?}");
    HttpError::new(
        HttpErrorKind::Timeout,
        std::io::Error::new(std::io::ErrorKind::TimedOut, text),
    )
}

/// A body that fails when nothing of it comes for too long.
struct Watched {
    body: HttpResponseBody,
    stall: Duration,
    /// Whether the time counts. It does not while nobody wants to read.
    waiting: bool,
    silent: Pin<Box<Sleep>>,
}

impl Body for Watched {
    type Data = bytes::Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, HttpError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            self.waiting = false;
            return Poll::Ready(frame);
        }
        if !self.waiting {
            self.waiting = true;
            let limit = Instant::now() + self.stall;
            self.silent.as_mut().reset(limit);
        }
        ready!(self.silent.as_mut().poll(cx));
        Poll::Ready(Some(Err(silence(self.stall))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
