//! [`Slots`]: whose turn it is to place content.

use std::{
    collections::BinaryHeap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// A bounded number of turns. When one ends, the largest content that waits is next: what takes longest must not begin
/// last, behind many small ones.
pub struct Slots {
    state: Mutex<State>,
}

struct State {
    free: usize,
    waiting: BinaryHeap<Waiting>,
    asked: u64,
}

/// Somebody whose turn has not come.
struct Waiting {
    size: u64,
    /// The negative number of the question: of equal sizes the first is the greatest.
    order: i64,
    turn: oneshot::Sender<Slot>,
}

/// A turn. It ends when this is dropped.
pub(crate) struct Slot(Arc<Slots>);

impl Slots {
    /// Makes this many.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: count,
                waiting: BinaryHeap::new(),
                asked: 0,
            }),
        })
    }

    /// Waits for a turn to place `size` bytes.
    ///
    /// # Cancel safety
    /// A turn that comes to nobody goes to the next.
    pub(crate) async fn wait(self: &Arc<Self>, size: u64) -> Option<Slot> {
        let turn = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Some(Slot(Arc::clone(self)));
            }
            let (sender, turn) = oneshot::channel();
            state.asked += 1;
            let order = -i64::try_from(state.asked).unwrap_or(i64::MAX);
            state.waiting.push(Waiting {
                size,
                order,
                turn: sender,
            });
            turn
        };
        turn.await.ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Taken out of the lock: a turn that nobody takes any more is dropped, and that passes it on.
        let next = {
            let mut state = self.0.state();
            let next = state.waiting.pop();
            state.free += usize::from(next.is_none());
            next
        };
        if let Some(next) = next {
            let _ = next.turn.send(Slot(Arc::clone(&self.0)));
        }
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.size, self.order).cmp(&(other.size, other.order))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

#[cfg(test)]
mod tests {
    use super::Slots;
    use futures::{FutureExt, future::join_all};
    use std::sync::Mutex;

    #[tokio::test]
    async fn the_largest_is_next_and_equals_keep_their_order() {
        let slots = Slots::new(1);
        let first = slots.wait(0).await;
        let order = Mutex::new(Vec::new());
        let wait = async |number: usize, size| {
            let _slot = slots.wait(size).await.unwrap();
            order.lock().unwrap().push(number);
        };
        let waiting = join_all([
            wait(0, 5).boxed_local(),
            wait(1, 9).boxed_local(),
            wait(2, 5).boxed_local(),
            wait(3, 7).boxed_local(),
        ]);
        tokio::join!(waiting, async { drop(first) });
        assert_eq!(*order.lock().unwrap(), [1, 3, 0, 2]);
    }

    #[tokio::test]
    async fn a_turn_nobody_takes_goes_on() {
        let slots = Slots::new(1);
        let first = slots.wait(0).await;
        let mut given_up = slots.wait(9).boxed();
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        let next = slots.wait(1);
        drop(first);
        assert!(next.await.is_some());
        assert!(slots.wait(0).now_or_never().is_some());
    }
}
