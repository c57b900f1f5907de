//! Which connections may be open: a limited number per address; the merchant API and trusted proxies are exempt.
//!
//! Next: [`crate::gate::CoreLimits`], which counts them.

use std::net::IpAddr;

use super::state::{Client, Home};
use crate::engine::counters::Count;
use crate::http::proxy_header::Flaw;
use crate::http::route::Listener;

impl Home {
    /// Whether one more connection from an address may be open; if so, [`Self::leave`] ends it.
    /// Connections to the merchant API and from trusted proxies always may.
    pub fn enter(&mut self, listener: Listener, peer: IpAddr) -> bool {
        self.is_uncounted(listener, peer) || self.limits.enter(&self.shared.secret, peer)
    }

    /// A connection that entered is closed.
    pub fn leave(&mut self, listener: Listener, peer: IpAddr) {
        if !self.is_uncounted(listener, peer) {
            self.limits.leave(&self.shared.secret, peer);
        }
    }

    /// A trusted proxy has named the client of this connection to the buyers' API: from now on it counts as if
    /// the client had connected itself. False if the client has too many connections.
    pub fn hand_over(&mut self, client: &mut Client, to: IpAddr) -> bool {
        let fits = self.enter(client.conn.listener(), to);
        if fits {
            client.peer = to;
        }
        fits
    }

    /// A trusted proxy has begun a connection with something other than a PROXY header. That raises an alarm,
    /// since its buyers cannot connect.
    pub fn note_no_header(&mut self, proxy: IpAddr, flaw: Flaw) {
        self.count(Count::ProxyHeadersBad);
        if self.headerless_proxy.replace(proxy) != Some(proxy) {
            self.shared.alarm_once(format!(
                "the trusted proxy {proxy} begins connections without a PROXY header ({flaw}); they are closed. Have it send \
                 one (send-proxy-v2, health checks included: check-send-proxy), or remove identity.proxy_protocol"
            ));
        }
    }

    fn is_uncounted(&self, listener: Listener, peer: IpAddr) -> bool {
        listener == Listener::Merchant || self.shared.identity.is_proxy(peer)
    }
}
