//! Whether a connection is accepted, and the response to a refused one.

use std::net::IpAddr;

use crate::engine::counters::Count;
use crate::engine::home::Home;
use crate::http::answer::{self, ResponseMode};
use crate::http::problem::Code;
use crate::http::route::Listener;

/// Errors of `accept` for a connection that failed before it was accepted (accept(2)), or for an interrupted
/// call: the server itself is fine.
pub(super) const GONE_BEFORE_TAKEN: [i32; 11] = [
    libc::ECONNABORTED,
    libc::EINTR,
    libc::EPROTO,
    libc::ENETDOWN,
    libc::ENOPROTOOPT,
    libc::EHOSTDOWN,
    libc::ENONET,
    libc::EHOSTUNREACH,
    libc::EOPNOTSUPP,
    libc::ENETUNREACH,
    libc::ETIMEDOUT,
];

/// Accepts a connection, or returns why not: too many in all, or from its address.
pub(super) fn admit(
    home: &mut Home,
    (open, open_max): (usize, usize),
    listener: Listener,
    peer: IpAddr,
) -> Option<Code> {
    home.count(Count::Accepted);
    let refused = match () {
        () if open >= open_max => Some(Code::Overloaded),
        () if !home.enter(listener, peer) => Some(Code::RateLimited),
        () => None,
    };
    if refused.is_some() {
        home.count(Count::TurnedAway);
    }
    refused
}

/// The response to a refused connection.
pub(super) fn refusal_bytes(code: Code) -> Vec<u8> {
    let mut out = Vec::new();
    answer::problem(&mut out, &code.problem(), ResponseMode::CLOSE, &answer::date_line(0));
    out
}
