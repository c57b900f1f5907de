//! Does other work while a call to the database waits.

use std::future::{Future, poll_fn};
use std::pin::pin;

/// Waits for the work. Each time it has to wait, a piece of something else is done, as long as
/// the piece says that there is more.
pub(super) async fn beside<T>(work: impl Future<Output = T>, piece: &mut dyn FnMut() -> bool) -> T {
    let mut work = pin!(work);
    let mut more = true;
    poll_fn(|cx| {
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() && more {
            more = piece();
            if more {
                // Whoever drives this looks after the connection first.
                cx.waker().wake_by_ref();
            }
        }
        polled
    })
    .await
}
