//! Opens listening sockets, each for the buyers' API or the merchant API.

use std::io;

use socket2::{Domain, Protocol, Socket, Type};

use crate::http::route::Listener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;

/// A listening socket of one core.
pub struct ListenSocket {
    /// Which API it serves.
    pub listener: Listener,
    /// The socket; see [`listen`].
    pub socket: Socket,
    /// Most connections on it, on this core.
    pub connections_max: usize,
}

/// Opens a listening socket. With `shared`, several cores can listen on the same address and
/// the kernel spreads connections over them.
///
/// # Errors
/// The system's error: the address is in use, or not one of this machine.
pub fn listen(address: std::net::SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}
