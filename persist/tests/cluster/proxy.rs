//! A door in front of a member of etcd that holds requests or loses answers on command.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// What it does with bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Pass,
    /// Keeps what comes from clients, and passes it on in the end.
    HoldRequests,
    /// Loses what comes from the member.
    DropAnswers,
    /// Lets nobody in and ends what is open.
    Refuse,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
    held: usize,
    open: Vec<TcpStream>,
}

#[derive(Debug)]
struct Shared(Mutex<Inner>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The door. Dropping it ends all connections.
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn new(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let inner = Inner { mode: Mode::Pass, held: 0, open: Vec::new() };
        let shared = Arc::new(Shared(Mutex::new(inner)));
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, target, &shared)
        });
        Self { port, shared, acceptor: Some(acceptor) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, mode: Mode) {
        let mut inner = self.shared.lock();
        inner.mode = mode;
        if mode == Mode::Refuse {
            // One that is closed already is as good.
            inner.open.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
        }
    }

    /// Bytes of requests that are held.
    pub(crate) fn held(&self) -> usize {
        self.shared.lock().held
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mode::Refuse);
        // Wakes the acceptor, which then ends.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        drop(self.acceptor.take().map(JoinHandle::join));
    }
}

fn accept(listener: &TcpListener, target: u16, shared: &Arc<Shared>) {
    let mut pumps = Vec::new();
    for client in listener.incoming().map_while(Result::ok) {
        let mut inner = shared.lock();
        if inner.mode == Mode::Refuse {
            break;
        }
        let Ok(member) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
        let copy = |stream: &TcpStream| stream.try_clone().expect("a descriptor");
        inner.open.extend([copy(&client), copy(&member)]);
        drop(inner);
        for (from, to, is_request) in [(copy(&client), copy(&member), true), (member, client, false)] {
            let shared = Arc::clone(shared);
            pumps.push(thread::spawn(move || pump(from, to, is_request, &shared)));
        }
    }
    pumps.into_iter().for_each(|pump| drop(pump.join()));
}

fn pump(mut from: TcpStream, mut to: TcpStream, is_request: bool, shared: &Shared) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        let mut kept = buffer[..len].to_vec();
        let mut inner = shared.lock();
        if is_request && inner.mode == Mode::HoldRequests {
            inner.held += len;
            drop(inner);
            kept = hold(&mut from, kept, shared);
            inner = shared.lock();
        }
        let is_lost = !is_request && inner.mode == Mode::DropAnswers;
        drop(inner);
        if !is_lost && to.write_all(&kept).is_err() {
            break;
        }
    }
    drop(to.shutdown(Shutdown::Both));
}

/// Takes in what comes until the mode changes.
fn hold(from: &mut TcpStream, mut kept: Vec<u8>, shared: &Shared) -> Vec<u8> {
    let step = std::time::Duration::from_millis(5);
    from.set_read_timeout(Some(step)).expect("a time-out");
    let mut buffer = vec![0; 64 << 10];
    while shared.lock().mode == Mode::HoldRequests {
        if let Ok(len) = from.read(&mut buffer) {
            kept.extend_from_slice(&buffer[..len]);
            shared.lock().held += len;
            if len == 0 {
                break;
            }
        }
    }
    from.set_read_timeout(None).expect("a time-out");
    kept
}
