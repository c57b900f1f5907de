//! The transport on glommio's streams: one task per connection, one that pumps, one that ticks.
//!
//! For kernels that lack something that the private ring needs. Next: [`connection`] for what
//! happens on a socket.

mod connection;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use glommio::timer::Timer;

use super::{ACCEPT_PAUSE_MS, Door, SWEEP_TICKS, TICK_MS};
use crate::engine::ask::Token;
use crate::engine::home::Home;
use crate::engine::shared::Phase;
use crate::http::route::Listener;

/// A home and the tasks around it, on one thread.
struct Seat {
    home: RefCell<Home>,
    pump: RefCell<Option<Waker>>,
    /// The task of each connection, by its place.
    tasks: RefCell<Vec<Option<Waker>>>,
}

impl Seat {
    fn new(home: Home) -> Self {
        Self { home: RefCell::new(home), pump: RefCell::default(), tasks: RefCell::default() }
    }

    /// Has the pump run after the tasks that are ready now: what they leave behind goes
    /// off as one batch.
    fn wake_pump(&self) {
        if let Some(waker) = &*self.pump.borrow() {
            waker.wake_by_ref();
        }
    }

    /// How the task of a connection is woken.
    fn register(&self, token: Token, cx: &Context<'_>) {
        let (mut tasks, place) = (self.tasks.borrow_mut(), token.place as usize);
        if tasks.len() <= place {
            tasks.resize(place + 1, None);
        }
        if !tasks[place].as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
            tasks[place] = Some(cx.waker().clone());
        }
    }

    /// Wakes the tasks of the connections that are ready.
    fn wake_ready(&self, home: &mut Home) {
        while let Some(token) = home.connections.next_ready() {
            if let Some(Some(waker)) = self.tasks.borrow().get(token.place as usize) {
                waker.wake_by_ref();
            }
        }
    }

    fn phase(&self) -> Phase {
        self.home.borrow().shared().phase()
    }
}

/// Serves a core until the engine has drained or closes.
pub(super) async fn run(home: Home, doors: Vec<Door>) {
    let seat = Rc::new(Seat::new(home));
    glommio::spawn_local(pump(seat.clone())).detach();
    let accepting: Vec<_> =
        doors.into_iter().map(|door| glommio::spawn_local(accept(seat.clone(), door))).collect();
    let mut ticks = 0u32;
    while seat.phase() == Phase::Serving {
        tick(&seat, &mut ticks).await;
    }
    for task in accepting {
        task.cancel().await;
    }
    {
        let mut home = seat.home.borrow_mut();
        home.connections.wake_all();
        seat.wake_ready(&mut home);
    }
    while seat.phase() == Phase::Draining && seat.home.borrow().connections.open() > 0 {
        tick(&seat, &mut ticks).await;
    }
    seat.home.borrow_mut().pump();
}

async fn tick(seat: &Seat, ticks: &mut u32) {
    Timer::new(Duration::from_millis(TICK_MS)).await;
    let mut home = seat.home.borrow_mut();
    home.tick();
    *ticks = ticks.wrapping_add(1);
    if ticks.is_multiple_of(SWEEP_TICKS) {
        home.sweep();
    }
    seat.wake_ready(&mut home);
}

async fn pump(seat: Rc<Seat>) {
    poll_fn(|cx| -> Poll<()> {
        let mut home = seat.home.borrow_mut();
        if seat.pump.borrow().is_none() {
            *seat.pump.borrow_mut() = Some(cx.waker().clone());
            home.register_pump(cx.waker());
        }
        home.read_clock();
        home.listen();
        if home.pump() {
            cx.waker().wake_by_ref();
        }
        seat.wake_ready(&mut home);
        Poll::Pending
    })
    .await;
}

async fn accept(seat: Rc<Seat>, door: Door) {
    // SAFETY: the descriptor is a listening socket, and `into_raw_fd` has given it up.
    let listener = unsafe { TcpListener::from_raw_fd(door.socket.into_raw_fd()) };
    let open = Rc::new(Cell::new(0usize));
    loop {
        match listener.accept().await {
            Ok(stream) => admit(&seat, stream, &open, door.listener, door.connections_max),
            // No descriptors, or the peer is gone already: come back in a moment.
            Err(_) => drop(Timer::new(Duration::from_millis(ACCEPT_PAUSE_MS)).await),
        }
    }
}

fn admit(seat: &Rc<Seat>, stream: TcpStream, open: &Rc<Cell<usize>>, listener: Listener, open_max: usize) {
    let Ok(peer) = stream.peer_addr() else { return };
    let peer = peer.ip();
    if let Some(code) = super::admit(&mut seat.home.borrow_mut(), (open.get(), open_max), listener, peer) {
        glommio::spawn_local(connection::turn_away(stream, code)).detach();
        return;
    }
    open.set(open.get() + 1);
    let (seat, open): (_, Rc<Cell<usize>>) = (seat.clone(), open.clone());
    glommio::spawn_local(async move {
        connection::run(&seat, stream, listener, peer).await;
        open.set(open.get() - 1);
        seat.home.borrow_mut().leave(listener, peer);
    })
    .detach();
}
