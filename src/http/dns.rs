//! Names to addresses, by the system's resolver.
//!
//! The system offers a blocking call without a limit. It runs on threads of its own: those of tokio's pool are waited
//! for when the program ends, so that a resolver that hangs would keep an interrupted program from ending.

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::{
    collections::HashMap,
    io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};
use tokio::sync::mpsc;

/// How long to wait before asking again, beside the question that has no answer. A lost datagram would cost the
/// system's time-out, which is 5 s, and a question asked while the name server restarts is such a datagram.
const PATIENCE: Duration = Duration::from_secs(1);

/// Questions for one name at a time. The system waits about 10 s per name server before it gives up.
const MOST_QUESTIONS: usize = 5;

/// A name that could not be resolved. Found in the chain of causes, it tells this apart from a connection that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot resolve {host}: {reason}")]
pub(super) struct ResolveError {
    host: Arc<str>,
    reason: Arc<str>,
}

/// Addresses, in the order the system prefers them, with port 0.
type Answer = Result<Arc<[SocketAddr]>, ResolveError>;
type Running = Arc<Mutex<HashMap<String, WeakShared<BoxFuture<'static, Answer>>>>>;

/// Resolves names. Who asks for the same name at the same time shares the answer; nothing is kept beyond that.
#[derive(Clone, Default)]
pub(super) struct Resolver {
    running: Running,
}

impl Resolver {
    /// Returns the addresses of a host, with port 0.
    ///
    /// # Cancel safety
    /// When dropped, the threads that ask the system are left to themselves; nothing waits for them.
    pub(super) async fn addresses(&self, host: &str) -> Answer {
        self.share(host).await
    }

    fn share(&self, host: &str) -> Shared<BoxFuture<'static, Answer>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = running.get(host).and_then(WeakShared::upgrade) {
            return shared;
        }
        let own = Arc::clone(&self.running);
        let asked = host.to_owned();
        let shared = async move {
            let answer = ask(&asked, &system).await;
            // Whoever asks from now on wants an answer from now on.
            own.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&asked);
            answer
        }
        .boxed()
        .shared();
        if let Some(weak) = shared.downgrade() {
            running.insert(host.to_owned(), weak);
        }
        shared
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let shared = self.share(name.as_str());
        Box::pin(async move {
            let addresses = shared.await?.to_vec();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Asks until there is an answer, of whatever kind; several times at once if it takes long.
async fn ask(host: &str, resolve: &(impl Fn(&str) -> Answer + Clone + Send + 'static)) -> Answer {
    let (sender, mut answers) = mpsc::channel(MOST_QUESTIONS);
    for _ in 0..MOST_QUESTIONS {
        let (sender, asked, resolve) = (sender.clone(), host.to_owned(), resolve.clone());
        thread::Builder::new()
            .name("resolver".into())
            .spawn(move || {
                // Nobody may be listening any more.
                let _ = sender.try_send(resolve(&asked));
            })
            .map_err(|err| failure(host, &err))?;
        if let Ok(Some(answer)) = tokio::time::timeout(PATIENCE, answers.recv()).await {
            return answer;
        }
    }
    drop(sender);
    let died = || io::Error::other("the resolver's thread died");
    answers
        .recv()
        .await
        .unwrap_or_else(|| Err(failure(host, &died())))
}

/// Asks the system.
fn system(host: &str) -> Answer {
    match (host, 0).to_socket_addrs() {
        Ok(addresses) if addresses.len() > 0 => Ok(addresses.collect()),
        Ok(_none) => Err(failure(host, &io::Error::other("it has no address"))),
        Err(err) => Err(failure(host, &err)),
    }
}

fn failure(host: &str, err: &io::Error) -> ResolveError {
    let reason = err.to_string();
    let reason = reason
        .strip_prefix("failed to lookup address information: ")
        .unwrap_or(&reason);
    ResolveError {
        host: host.into(),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, MOST_QUESTIONS, Resolver, ask, failure};
    use std::{
        io,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        thread,
        time::Duration,
    };

    /// Answers the question of this number (from 1), and is silent for all before.
    fn answering(number: usize) -> (Arc<AtomicUsize>, impl Fn(&str) -> Answer + Clone) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let resolve = move |_: &str| {
            if count.fetch_add(1, Ordering::SeqCst) + 1 < number {
                thread::sleep(Duration::from_secs(60));
            }
            Ok(Arc::from(["127.0.0.1:0".parse().unwrap()]))
        };
        (asked, resolve)
    }

    #[tokio::test]
    async fn a_question_without_an_answer_is_asked_again() {
        let (asked, resolve) = answering(2);
        assert_eq!(ask("h", &resolve).await.unwrap().len(), 1);
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_are_bounded() {
        let (asked, resolve) = answering(usize::MAX);
        let late = tokio::time::timeout(Duration::from_secs(3600), ask("h", &resolve)).await;
        assert!(late.is_err());
        assert!(asked.load(Ordering::SeqCst) <= MOST_QUESTIONS);
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_shares_the_answer() {
        let resolver = Resolver::default();
        let (first, second) = (resolver.share("localhost"), resolver.share("localhost"));
        assert!(first.ptr_eq(&second));
        first.await.unwrap();
        drop(second);
        assert!(resolver.running.lock().unwrap().is_empty());
    }

    #[test]
    fn the_system_s_reason_is_told_once() {
        let err = io::Error::other("failed to lookup address information: Name unknown");
        let text = failure("a.example", &err).to_string();
        assert_eq!(text, "cannot resolve a.example: Name unknown");
    }
}
