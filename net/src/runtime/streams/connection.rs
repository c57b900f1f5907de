//! One connection on glommio's stream: read, let the home serve, write.
//!
//! Per wake: one read, every complete request in the buffer, one write.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use super::super::{LINGER_MS, WRITE_MS_MAX, farewell};
use super::Seat;
use crate::engine::home::{Client, Home};
use crate::http::conn::Conn;
use crate::http::problem::Code;
use crate::http::route::Listener;

/// Rounds of read, serve and write before other tasks get their turn.
const ROUNDS_MAX: usize = 8;
/// Capacity of an output buffer that an idle connection may keep, in bytes.
const OUT_BYTES_KEPT: usize = 4 << 10;

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Serving,
    /// The last answer is written; what still comes in is thrown away.
    Lingering,
}

/// What a connection's task remembers from one wake to the next.
struct Progress {
    stage: Stage,
    /// When a write that stands still is given up; `None` while none does.
    write_until_ms: Option<u64>,
}

/// What a step came to.
enum Turn {
    /// Wait for the socket, or for an answer.
    Wait,
    /// Go on.
    Again,
    /// The connection is over.
    Over,
}

/// Serves a connection to its end.
pub(super) async fn run(seat: &Seat, mut stream: TcpStream, listener: Listener, peer: IpAddr) {
    let (token, now_ms) = {
        let mut home = seat.home.borrow_mut();
        (home.connections.enter(), home.read_clock().mono_ms)
    };
    let mut client = Client::new(token, Conn::new(listener, now_ms), peer);
    let mut progress = Progress { stage: Stage::Serving, write_until_ms: None };
    poll_fn(|cx| drive(seat, &mut stream, &mut client, &mut progress, cx)).await;
    seat.home.borrow_mut().connections.leave(token);
}

/// Tells a connection that there are too many (`code` says: of all, or of its address), and closes it.
pub(super) async fn turn_away(mut stream: TcpStream, code: Code) {
    let out = farewell(code);
    // One attempt: a client that does not take it is cut off.
    let _sent = poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_write(cx, &out))).await;
}

fn drive(
    seat: &Seat,
    stream: &mut TcpStream,
    client: &mut Client,
    progress: &mut Progress,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let mut home = seat.home.borrow_mut();
    home.read_clock();
    seat.register(client.token, cx);
    if home.connections.is_overdue(client.token) {
        return Poll::Ready(());
    }
    for _ in 0..ROUNDS_MAX {
        let turn = match progress.stage {
            Stage::Serving => serve(&mut home, stream, client, progress, cx),
            Stage::Lingering => linger(stream, cx),
        };
        if home.needs_pump() {
            seat.wake_pump();
        }
        seat.wake_ready(&mut home);
        match turn {
            Turn::Again => {}
            Turn::Wait => return Poll::Pending,
            Turn::Over => return Poll::Ready(()),
        }
    }
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn serve(
    home: &mut Home,
    stream: &mut TcpStream,
    client: &mut Client,
    progress: &mut Progress,
    cx: &mut Context<'_>,
) -> Turn {
    let more = home.serve(client);
    let owed = client.out.len();
    match write(stream, &mut client.out, cx) {
        Poll::Ready(Ok(())) => progress.write_until_ms = None,
        Poll::Ready(Err(_)) => return Turn::Over,
        Poll::Pending => {
            // This task is woken for other reasons, too (an answer has become durable, the sweep
            // asks for buffers): only bytes that went off buy time.
            let stands_still = client.out.len() == owed;
            let until_ms = progress.write_until_ms.filter(|_| stands_still);
            let until_ms = until_ms.unwrap_or(home.mono_ms() + WRITE_MS_MAX);
            progress.write_until_ms = Some(until_ms);
            home.connections.set_deadline(client.token, until_ms);
            return Turn::Wait;
        }
    }
    if client.is_closing() {
        if client.conn.may_close_at_once() {
            return Turn::Over;
        }
        progress.stage = Stage::Lingering;
        let _half_closed = Pin::new(&mut *stream).poll_close(cx);
        home.connections.set_deadline(client.token, home.mono_ms() + LINGER_MS);
        return Turn::Again;
    }
    if more {
        return Turn::Again;
    }
    if client.conn.is_finished() || !home.connections.has_room(client.token) {
        // What is owed wakes this task.
        home.connections.set_deadline(client.token, u64::MAX);
        return Turn::Wait;
    }
    read(home, stream, client, cx)
}

fn read(home: &mut Home, stream: &mut TcpStream, client: &mut Client, cx: &mut Context<'_>) -> Turn {
    match Pin::new(stream).poll_read(cx, client.conn.space()) {
        Poll::Ready(Ok(0)) => {
            client.conn.finish();
            if home.connections.is_idle(client.token) { Turn::Over } else { Turn::Again }
        }
        Poll::Ready(Ok(len)) => {
            client.conn.filled(len, home.mono_ms());
            Turn::Again
        }
        Poll::Ready(Err(_)) => Turn::Over,
        Poll::Pending => {
            let owed = !home.connections.is_idle(client.token);
            let deadline_ms = if owed { u64::MAX } else { client.conn.deadline_ms() };
            home.connections.set_deadline(client.token, deadline_ms);
            if home.connections.take_quiet(client.token) {
                client.conn.shrink();
                client.out.shrink_to(0);
            }
            Turn::Wait
        }
    }
}

fn write(stream: &mut TcpStream, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
    let mut written = 0;
    while written < out.len() {
        match Pin::new(&mut *stream).poll_write(cx, &out[written..]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(len)) => written += len,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                out.drain(..written);
                return Poll::Pending;
            }
        }
    }
    out.clear();
    if out.capacity() > OUT_BYTES_KEPT {
        out.shrink_to(OUT_BYTES_KEPT);
    }
    Poll::Ready(Ok(()))
}

fn linger(stream: &mut TcpStream, cx: &mut Context<'_>) -> Turn {
    let mut thrown_away = [0; 4096];
    match Pin::new(stream).poll_read(cx, &mut thrown_away) {
        Poll::Ready(Ok(len)) if len > 0 => Turn::Again,
        Poll::Ready(_) => Turn::Over,
        Poll::Pending => Turn::Wait,
    }
}
