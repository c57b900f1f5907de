//! A proxy between the exporter and Postgres that can cut a connection at its COMMIT:
//! before the server sees it, or after it is executed but before the response.
//!
//! It parses the frames of the wire protocol from the client's side and changes none of
//! them. Next: `fault.rs`, which arms it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

/// Version 3.0 of the protocol, in a startup message.
const PROTOCOL: u32 = 196_608;
/// A request for TLS: the response is one byte, then the client sends a startup message.
const TLS_REQUEST: u32 = 80_877_103;
const COMMIT: &[u8] = b"COMMIT";

/// Where to cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Cut {
    Nowhere = 0,
    BeforeCommit = 1,
    AfterCommit = 2,
}

/// One thread writes all values and others read them; Relaxed would do, because nothing
/// else is published through them.
#[derive(Default)]
struct State {
    armed: AtomicU8,
    cuts: AtomicU32,
    target: AtomicU16,
    over: AtomicBool,
}

/// The proxy. Dropping it closes it.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy to the Postgres on this port of the loopback interface.
    pub(crate) fn new(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = Arc::new(State::default());
        state.target.store(target, Ordering::SeqCst);
        let its_state = state.clone();
        let thread = Some(thread::spawn(move || listen(&listener, &its_state)));
        Self { address, state, thread }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts at the next COMMIT, once.
    pub(crate) fn arm(&self, cut: Cut) {
        self.state.armed.store(cut as u8, Ordering::SeqCst);
    }

    /// Cuts so far.
    pub(crate) fn cuts(&self) -> u32 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        let _wakes_it = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn listen(listener: &TcpListener, state: &Arc<State>) {
    for client in listener.incoming().map_while(Result::ok) {
        if state.over.load(Ordering::SeqCst) {
            return;
        }
        // Nobody is there: the client's connection is closed, as the kernel would refuse it.
        let target = (Ipv4Addr::LOCALHOST, state.target.load(Ordering::SeqCst));
        if let Ok(server) = TcpStream::connect(target) {
            join(client, server, state);
        }
    }
}

/// Two threads that both end when either side does.
fn join(client: TcpStream, server: TcpStream, state: &Arc<State>) {
    let _speed = (client.set_nodelay(true), server.set_nodelay(true));
    let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone()) else { return };
    let doomed = Arc::new(AtomicBool::new(false));
    let (its_state, its_doom) = (state.clone(), doomed.clone());
    thread::spawn(move || ask(&client, &server, &its_state, &its_doom));
    let its_state = state.clone();
    thread::spawn(move || answer(&server_too, &client_too, &its_state, &doomed));
}

fn part(one: &TcpStream, other: &TcpStream) {
    let _gone_already = (one.shutdown(Shutdown::Both), other.shutdown(Shutdown::Both));
}

/// From the client to the server, frame by frame.
fn ask(client: &TcpStream, server: &TcpStream, state: &State, doomed: &AtomicBool) {
    let (mut bytes, mut frames) = ([0; 16 * 1024], Frames::default());
    let (mut from, mut to) = (client, server);
    while let Ok(count) = from.read(&mut bytes) {
        if count == 0 {
            break;
        }
        let commits = frames.push(&bytes[..count]);
        let armed = if commits { state.armed.swap(Cut::Nowhere as u8, Ordering::SeqCst) } else { 0 };
        if armed == Cut::BeforeCommit as u8 {
            state.cuts.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if armed == Cut::AfterCommit as u8 {
            doomed.store(true, Ordering::SeqCst);
        }
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    part(client, server);
}

/// From the server to the client. The response to a cut COMMIT proves that it was
/// executed, and is not passed on.
fn answer(server: &TcpStream, client: &TcpStream, state: &State, doomed: &AtomicBool) {
    let mut bytes = [0; 16 * 1024];
    let (mut from, mut to) = (server, client);
    while let Ok(count) = from.read(&mut bytes) {
        let is_doomed = doomed.load(Ordering::SeqCst);
        if is_doomed && count > 0 {
            state.cuts.fetch_add(1, Ordering::SeqCst);
        }
        if count == 0 || is_doomed || to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    part(server, client);
}

/// The client's bytes as frames.
#[derive(Default)]
struct Frames {
    rest: Vec<u8>,
    /// Whether the startup message is over. After it, frames begin with their kind.
    started: bool,
}

impl Frames {
    /// Adds bytes; returns whether a COMMIT ended among them.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.rest.extend_from_slice(bytes);
        let mut commits = false;
        loop {
            let kind_bytes = usize::from(self.started);
            let Some(length) = self.rest.get(kind_bytes..kind_bytes + 4) else { return commits };
            let length = u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
            let end = kind_bytes + length;
            if self.rest.len() < end || length < 4 {
                return commits;
            }
            let body = &self.rest[kind_bytes + 4..end];
            if self.started {
                commits |= self.rest[0] == b'Q' && body.starts_with(COMMIT);
            } else {
                let code = body.get(..4).map(|code| u32::from_be_bytes(code.try_into().expect("four bytes")));
                self.started = code == Some(PROTOCOL);
                assert!(self.started || code == Some(TLS_REQUEST), "a message nobody knows: {code:?}");
            }
            self.rest.drain(..end);
        }
    }
}
