//! Epoll with socket pairs: what is short, stopped, hung up or used again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;

use socket2::SockRef;

use super::super::listen;
use super::*;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connected pair: our end, and the peer's.
fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), peer)
}

/// Turns until `done` says so about everything that has happened.
fn until(kernel: &mut Epoll, mut done: impl FnMut(&mut Epoll, Completion<Chunk>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "waited in vain");
        kernel.enter(true).expect("epoll goes on");
        let mut is_done = false;
        while let Some(completion) = kernel.next() {
            is_done |= done(kernel, completion);
        }
        if is_done {
            return;
        }
    }
}

fn kernel() -> Epoll {
    let mut kernel = Epoll::new().unwrap();
    kernel.tick_every(5);
    kernel
}

fn numbered(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn bytes_and_the_end_that_came_early_are_received_later() {
    let (ours, mut peer) = pair();
    let mut kernel = kernel();
    kernel.receive(0, ours.as_fd());
    kernel.stop_receiving(0);
    until(&mut kernel, |_, completion| {
        matches!(completion, Completion::ReceiveEnded { place: 0, error: libc::ECANCELED })
    });
    // More than one buffer, and the end: all edges pass while nobody receives.
    let sent = numbered(3 * RECEIVE_BYTES + 7);
    peer.write_all(&sent).unwrap();
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    for _ in 0..3 {
        until(&mut kernel, |_, completion| {
            assert!(!matches!(completion, Completion::Received { .. }), "nobody receives");
            matches!(completion, Completion::Tick { .. })
        });
    }
    kernel.receive(0, ours.as_fd());
    let mut came = Vec::new();
    until(&mut kernel, |kernel, completion| match completion {
        Completion::Received { place: 0, chunk, more: true } => {
            came.extend_from_slice(kernel.bytes(&chunk));
            false
        }
        Completion::ReceiveEnded { place: 0, error } => {
            assert_eq!(error, 0, "the peer has ended in order");
            true
        }
        _ => false,
    });
    assert!(came == sent);
}

#[test]
fn a_flood_at_one_socket_keeps_nobody_out_of_the_other() {
    let sockets: Vec<_> = (0..2).map(|_| listen(([127, 0, 0, 1], 0).into(), false).unwrap()).collect();
    let address = |socket: &socket2::Socket| socket.local_addr().unwrap().as_socket().unwrap();
    let flood: Vec<_> =
        (0..3 * ACCEPT_AT_ONCE).map(|_| TcpStream::connect(address(&sockets[0])).unwrap()).collect();
    let few: Vec<_> = (0..8).map(|_| TcpStream::connect(address(&sockets[1])).unwrap()).collect();
    let mut kernel = kernel();
    for (number, socket) in sockets.iter().enumerate() {
        socket.set_nonblocking(true).unwrap();
        kernel.accept(number as u32, socket.as_fd());
    }
    let (mut turns, mut accepted) = (0, [0; 2]);
    while accepted[0] + accepted[1] == 0 {
        assert!(turns < 1_000, "nothing was accepted");
        kernel.enter(true).unwrap();
        turns += 1;
        while let Some(completion) = kernel.next() {
            if let Completion::Accepted { acceptor, .. } = completion {
                accepted[acceptor as usize] += 1;
            }
        }
    }
    assert_eq!(accepted, [ACCEPT_AT_ONCE - few.len(), few.len()], "in the first turn");
    drop(flood);
}

#[test]
fn a_socket_that_brings_much_lets_others_have_their_turn() {
    let (loud, mut loud_peer) = pair();
    let (quiet, mut quiet_peer) = pair();
    let mut kernel = kernel();
    SockRef::from(&loud).set_recv_buffer_size(1 << 20).unwrap();
    kernel.receive(0, loud.as_fd());
    kernel.receive(1, quiet.as_fd());
    loud_peer.set_nonblocking(true).unwrap();
    let poured = numbered(8 * RECEIVE_BYTES);
    let poured = loud_peer.write(&poured).expect("it takes some");
    assert!(poured >= 2 * RECEIVE_BYTES, "only {poured}");
    quiet_peer.write_all(b"here").unwrap();
    // Both are there: the loud one may bring one buffer before the quiet one had its turn.
    let (mut loud_first, mut heard) = (0, false);
    until(&mut kernel, |_, completion| {
        match completion {
            Completion::Received { place: 0, .. } if !heard => loud_first += 1,
            Completion::Received { place: 1, .. } => heard = true,
            _ => {}
        }
        heard
    });
    assert!(loud_first <= 1, "{loud_first} buffers before another's turn");
}

#[test]
fn a_blocked_send_continues_when_the_peer_reads() {
    let (ours, mut peer) = pair();
    SockRef::from(&ours).set_send_buffer_size(1).unwrap();
    SockRef::from(&peer).set_recv_buffer_size(1).unwrap();
    let mut kernel = kernel();
    let sent = numbered(300_000);
    kernel.send(0, ours.as_fd(), sent.clone());
    let mut rest = None;
    until(&mut kernel, |_, completion| {
        if let Completion::Unsent { place: 0, rest: left, error: libc::EAGAIN } = completion {
            rest = Some(left);
        }
        rest.is_some()
    });
    kernel.send_rest(0, ours.as_fd(), rest.expect("a rest"), 0);
    peer.set_nonblocking(true).unwrap();
    let (mut came, mut part, mut at) = (Vec::new(), [0; 4096], 0);
    until(&mut kernel, |kernel, completion| {
        while let Ok(len @ 1..) = peer.read(&mut part) {
            came.extend_from_slice(&part[..len]);
        }
        if let Completion::Sent { place: 0, buffer, result } = completion {
            at += result.expect("the peer reads");
            if at < buffer.len() {
                kernel.send_rest(0, ours.as_fd(), buffer, at);
            }
        }
        came.len() == sent.len()
    });
    assert!(came == sent);
    // Once more, and nobody reads: closing ends it, and the place hears nothing later.
    kernel.send(0, ours.as_fd(), sent.clone());
    until(&mut kernel, |kernel, completion| match completion {
        Completion::Unsent { place: 0, rest, .. } => {
            kernel.send_rest(0, ours.as_fd(), rest, 0);
            true
        }
        _ => false,
    });
    until(&mut kernel, |_, completion| matches!(completion, Completion::Tick { .. }));
    kernel.close(0, ours);
    until(&mut kernel, |_, completion| {
        matches!(completion, Completion::Sent { place: 0, result: Err(libc::ECANCELED), .. })
    });
    until(&mut kernel, |_, completion| {
        assert!(matches!(completion, Completion::Tick { .. }), "it was closed");
        true
    });
}

#[test]
fn a_place_that_is_used_again_hears_nothing_of_what_was_before() {
    let mut kernel = kernel();
    for round in 0..200u8 {
        let (ours, mut peer) = pair();
        kernel.receive(0, ours.as_fd());
        peer.write_all(&[round]).unwrap();
        until(&mut kernel, |_, completion| matches!(completion, Completion::Received { place: 0, .. }));
        // Bytes that are there when it is closed.
        peer.write_all(&[round; 100]).unwrap();
        kernel.close(0, ours);
        until(&mut kernel, |_, completion| {
            assert!(!matches!(completion, Completion::Received { .. }), "it was closed");
            matches!(completion, Completion::ReceiveEnded { place: 0, error: libc::ECANCELED })
        });
    }
    assert!(kernel.sockets.len() == 1 && kernel.sockets[0].fd.is_none());
}

#[test]
fn a_held_thread_finds_afterwards_what_has_happened() {
    let event = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
    let mut kernel = Epoll::new().unwrap();
    kernel.watch(event.as_fd()).unwrap();
    kernel.tick_every(60_000);
    for _ in 0..3 {
        // Between looking and sleeping: the write comes first, the sleep ends at once.
        rustix::io::write(&event, &1u64.to_ne_bytes()).unwrap();
        let begun = Instant::now();
        until(&mut kernel, |_, completion| matches!(completion, Completion::Woken { more: true }));
        assert!(begun.elapsed() < PATIENCE);
    }
}

#[test]
fn a_socket_accepts_all_who_wait_and_none_once_closed() {
    let listener = super::super::listen(([127, 0, 0, 1], 0).into(), false).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let crowd: Vec<_> = (0..3 * ACCEPT_AT_ONCE).map(|_| TcpStream::connect(address)).collect();
    let mut kernel = kernel();
    kernel.accept(7, listener.as_fd());
    let mut sockets = Vec::new();
    until(&mut kernel, |_, completion| {
        if let Completion::Accepted { acceptor: 7, socket, more: true } = completion {
            sockets.push(socket);
        }
        sockets.len() == crowd.iter().flatten().count()
    });
    kernel.close_acceptor(7, listener.into());
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}
