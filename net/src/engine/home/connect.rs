//! Which connections may be open: so many of one address, but for the merchant's and those of trusted proxies.
//!
//! Next: [`crate::gate::CoreLimits`], which counts them.

use std::net::IpAddr;

use super::state::{Client, Home};
use crate::engine::counters::Count;
use crate::http::proxy_header::Flaw;
use crate::http::route::Listener;

impl Home {
    /// Whether one more connection from an address may be open; if so, [`Self::leave`] gives it
    /// back. The shop's own and those of trusted proxies always may.
    pub fn enter(&mut self, listener: Listener, peer: IpAddr) -> bool {
        self.is_uncounted(listener, peer) || self.limits.enter(&self.shared.secret, peer)
    }

    /// A connection that entered is over.
    pub fn leave(&mut self, listener: Listener, peer: IpAddr) {
        if !self.is_uncounted(listener, peer) {
            self.limits.leave(&self.shared.secret, peer);
        }
    }

    /// A trusted proxy has named the client whose connection to the buyers' listener this is: from here on it
    /// is as if the client had connected itself. False if that has too many connections.
    pub fn hand_over(&mut self, client: &mut Client, to: IpAddr) -> bool {
        let fits = self.enter(client.conn.listener(), to);
        if fits {
            client.peer = to;
        }
        fits
    }

    /// A trusted proxy has begun a connection with something else than a PROXY header. That is an alarm: its
    /// buyers are shut out.
    pub fn note_no_header(&mut self, proxy: IpAddr, flaw: Flaw) {
        self.count(Count::ProxyHeadersBad);
        if self.headerless_proxy.replace(proxy) != Some(proxy) {
            self.shared.alarm_once(format!(
                "the trusted proxy {proxy} begins connections without a PROXY header ({flaw}), which are closed. Have it send \
                 one (send-proxy-v2, health checks included: check-send-proxy), or take identity.proxy_protocol out"
            ));
        }
    }

    fn is_uncounted(&self, listener: Listener, peer: IpAddr) -> bool {
        listener == Listener::Merchant || self.shared.identity.is_proxy(peer)
    }
}
