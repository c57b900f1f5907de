//! Does other work while a call to the database is waiting.

use std::future::{Future, poll_fn};
use std::pin::pin;

/// Drives the call to its end. Each time it has to wait, does one piece of other work, as long as
/// `do_piece` returns that there is more.
pub(super) async fn while_waiting<T>(call: impl Future<Output = T>, do_piece: &mut dyn FnMut() -> bool) -> T {
    let mut call = pin!(call);
    let mut more = true;
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() && more {
            more = do_piece();
            if more {
                // Before the next piece, the runtime drives the connection.
                cx.waker().wake_by_ref();
            }
        }
        polled
    })
    .await
}
