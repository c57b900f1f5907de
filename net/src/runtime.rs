//! A core's thread: sockets and time. The only place that names glommio, io_uring or epoll.
//!
//! It moves bytes between sockets and [`Home`](crate::engine::home::Home), and calls it when there is something to
//! do; it decides nothing. One loop ([`core_loop`]) drives one state machine per connection ([`link`]), over one of
//! two transports behind one trait ([`kernel`]):
//!
//! - [`ring`]: a private io_uring per core, polled by an executor of glommio. For kernels from 6.4 on.
//! - [`epoll`]: plain epoll on a plain thread, where io_uring is missing or refused.
//!
//! [`acquire`] chooses one for all cores, before anything listens.

mod acquire;
mod admit;
mod core_loop;
mod epoll;
mod kernel;
mod limits;
mod link;
mod listen;
mod ring;

pub use self::acquire::{CoreThread, Cores, IdleCore, Lack, NoTransport, Part, Transport};
pub use self::listen::{ListenSocket, claim, listen};
