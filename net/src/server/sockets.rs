//! The listening sockets, bound before anything else is done.
//!
//! Next: [`super::starting`], which responds on them until the cores do.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::http::route::Listener;
use crate::runtime::{self, ListenSocket};
use crate::settings::Settings;

/// How long to wait for a port that a killed server may still hold: the kernel closes the sockets of a
/// ring only after the process is gone.
const PORT_PATIENCE: Duration = Duration::from_secs(10);
/// Time between two attempts at such a port.
const PORT_RETRY: Duration = Duration::from_millis(20);

/// Listening sockets: one per core for the buyers' API, one for the merchant API.
pub(super) struct Sockets {
    pub(super) public: Vec<socket2::Socket>,
    pub(super) merchant: socket2::Socket,
}

impl Sockets {
    /// Duplicates of the same sockets.
    pub(super) fn share(&self) -> io::Result<Self> {
        let public = self.public.iter().map(socket2::Socket::try_clone).collect::<Result<_, _>>()?;
        Ok(Self { public, merchant: self.merchant.try_clone()? })
    }

    /// The sockets of each core. Only core 0 serves the merchant API: see `Home::block`.
    pub(super) fn listen_sockets(self, settings: &Settings) -> Vec<Vec<ListenSocket>> {
        let mut merchant = Some(self.merchant);
        let per_core = self.public.into_iter().map(|socket| {
            let connections_max = settings.connections_per_core() as usize;
            let mut sockets = vec![ListenSocket { listener: Listener::Public, socket, connections_max }];
            if let Some(socket) = merchant.take() {
                let connections_max = settings.limits.admin_connections as usize;
                sockets.push(ListenSocket { listener: Listener::Merchant, socket, connections_max });
            }
            sockets
        });
        per_core.collect()
    }
}

pub(super) fn bind(settings: &Settings) -> anyhow::Result<Sockets> {
    let hint = |what: &str, address| {
        format!("cannot listen on {address} for {what}; stop what uses it, or choose another address")
    };
    // Without this check, a second server would share the port of the first.
    drop(
        patiently(settings.listen, runtime::claim)
            .with_context(|| hint("the buyers' API", settings.listen))?,
    );
    let public = settings.cores.iter().map(|_| runtime::listen(settings.listen, true));
    let public =
        public.collect::<Result<_, _>>().with_context(|| hint("the buyers' API", settings.listen))?;
    let merchant = patiently(settings.admin_listen, |address| runtime::listen(address, false));
    let merchant = merchant.with_context(|| hint("the merchant API", settings.admin_listen))?;
    Ok(Sockets { public, merchant })
}

/// Tries again for a while if the address is in use.
fn patiently<T>(address: SocketAddr, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + PORT_PATIENCE;
    let mut is_told = false;
    loop {
        match open(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(
                        "{address} is in use, perhaps by a server that has just been killed; waiting for it"
                    );
                }
                std::thread::sleep(PORT_RETRY);
            }
            done => return done,
        }
    }
}
