//! The ring with socket pairs and small sizes: what is short, lost, full, cancelled or used again.
//!
//! Every stream carries numbered bytes, so that a byte that is lost, repeated or out of place shows.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use socket2::SockRef;
use stampede_testkit::{Missing, Need, skip};

use super::*;

/// Longest wait for anything.
const PATIENCE: Duration = Duration::from_secs(30);
const SMALL: Sizes = Sizes {
    submissions: 64,
    completions: 256,
    receive_bytes: 16 << 10,
    incremental_bytes: Some(4 << 10),
    single_bytes: 1 << 10,
};
/// Without the mode in which a buffer takes many messages.
const SINGLE: Sizes = Sizes { incremental_bytes: None, ..SMALL };

/// Whether a ring can be had here; said aloud if not.
pub(in super::super) fn is_there() -> bool {
    let missing = Uring::new().err().map(|error| Missing::new(Need::Ring, error));
    missing.iter().for_each(skip);
    missing.is_none()
}

/// A ring that never sleeps for long, and an end to all patience.
struct Rig {
    uring: Uring,
    until: Instant,
}

impl Rig {
    fn new(sizes: &Sizes) -> Self {
        let mut uring = Uring::with(sizes).expect("a ring");
        uring.tick_every(5);
        Self { uring, until: Instant::now() + PATIENCE }
    }

    /// One turn: everything that has happened, but for time.
    fn turn(&mut self) -> Vec<Completion<Chunk>> {
        assert!(Instant::now() < self.until, "waited in vain");
        self.uring.enter(true).expect("the ring goes on");
        let mut happened = Vec::new();
        while let Some(completion) = self.uring.next() {
            match completion {
                Completion::Tick { more: true } | Completion::Nothing => {}
                Completion::Tick { more: false } => self.uring.tick_every(5),
                completion => happened.push(completion),
            }
        }
        happened
    }

    /// Turns until something has come of what was submitted, if anything does.
    fn ticks(&mut self, turns: usize) -> Vec<Completion<Chunk>> {
        (0..turns).flat_map(|_| self.turn()).collect()
    }

    /// Waits until the peer has been sent exactly that, and whether an end behind it.
    fn expect(&mut self, peer: &mut TcpStream, sent: &[u8], ends: bool) {
        let mut came = Vec::new();
        let mut ended = drink(peer, &mut came);
        while came.len() < sent.len() || ended != ends {
            assert!(Instant::now() < self.until, "waited in vain for the peer's bytes");
            std::thread::yield_now();
            ended |= drink(peer, &mut came);
        }
        assert!(came == sent, "the bytes came otherwise than they were sent");
    }

    fn take(&mut self, chunk: Chunk, into: &mut Vec<u8>) {
        into.extend_from_slice(self.uring.bytes(&chunk));
        self.uring.give_back(chunk);
    }
}

/// A connected pair: our end, and the peer's, which does not block.
fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    peer.set_nonblocking(true).unwrap();
    peer.set_nodelay(true).unwrap();
    (ours.into(), peer)
}

/// The bytes of a stream: no two places of it look alike for long.
fn numbered(len: usize, stream: u32) -> Vec<u8> {
    let word = |number: u32| (number ^ stream.rotate_left(16)).wrapping_mul(0x9E37_79B1).to_be_bytes();
    (0..len.div_ceil(4) as u32).flat_map(word).take(len).collect()
}

/// What the peer can read now; whether the stream has ended.
fn drink(peer: &mut TcpStream, into: &mut Vec<u8>) -> bool {
    let mut part = [0; 8 << 10];
    loop {
        match peer.read(&mut part) {
            Ok(0) => return true,
            Ok(len) => into.extend_from_slice(&part[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

fn reset(peer: TcpStream) {
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Feeds a peer as much of its stream as the kernel takes; returns how far it came.
fn pour(peer: &mut TcpStream, stream: &[u8], from: usize, at_most: usize) -> usize {
    let end = stream.len().min(from + at_most);
    match peer.write(&stream[from..end]) {
        Ok(len) => from + len,
        Err(error) if error.kind() == ErrorKind::WouldBlock => from,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn what_a_short_send_leaves_is_exactly_the_rest() {
    if !is_there() {
        return;
    }
    let mut rig = Rig::new(&SMALL);
    for round in 0..3 {
        let (socket, mut peer) = pair();
        SockRef::from(&socket).set_send_buffer_size(8 << 10).unwrap();
        let message = numbered(1 << 20, round);
        rig.uring.send(7, socket.as_fd(), message.clone());
        let rest = match rig.turn().pop() {
            Some(Completion::Unsent { place: 7, rest, error: libc::EAGAIN }) => rest,
            _ => panic!("a send that cannot have fitted says nothing"),
        };
        assert!(!rest.is_empty() && rest.len() < message.len());
        assert!(message.ends_with(&rest), "the rest is not the end of the message");
        let (mut came, mut from) = (Vec::new(), 0);
        rig.uring.send_rest(7, socket.as_fd(), rest, 0);
        while came.len() < message.len() {
            drink(&mut peer, &mut came);
            for completion in rig.turn() {
                let Completion::Sent { place: 7, buffer, result: Ok(len) } = completion else {
                    panic!("not how a send ends")
                };
                assert!(len > 0);
                from += len;
                if from < buffer.len() {
                    rig.uring.send_rest(7, socket.as_fd(), buffer, from);
                }
            }
        }
        assert!(came == message, "the bytes came otherwise than they were sent");
        assert!(!drink(&mut peer, &mut came) && came.len() == message.len());
    }
}

#[test]
fn sends_that_fit_say_nothing_and_give_their_buffers_back() {
    if !is_there() {
        return;
    }
    let mut rig = Rig::new(&SMALL);
    let mut pairs: Vec<_> = (0..4).map(|_| pair()).collect();
    let mut sent = Vec::new();
    for round in 0..200 {
        // Something is sent in every turn, as under load.
        let message = numbered(100, round);
        sent.extend_from_slice(&message);
        for (place, (socket, _)) in pairs.iter().enumerate() {
            let mut buffer = rig.uring.spare();
            assert!(buffer.is_empty());
            assert!(round < 2 || buffer.capacity() > 0, "buffers do not come back");
            buffer.extend_from_slice(&message);
            rig.uring.send(place as Place, socket.as_fd(), buffer);
        }
        assert!(rig.turn().is_empty(), "a send that fits reports");
        assert!(rig.uring.flying.is_empty(), "{} buffers are kept", rig.uring.flying.len());
    }
    for (_, peer) in &mut pairs {
        rig.expect(peer, &sent, false);
    }
}

#[test]
fn a_send_to_a_peer_that_is_gone_fails() {
    if !is_there() {
        return;
    }
    let mut rig = Rig::new(&SMALL);
    let (socket, peer) = pair();
    reset(peer);
    for _ in 0..2 {
        rig.uring.send(3, socket.as_fd(), numbered(100, 1));
        match rig.turn().pop() {
            Some(Completion::Unsent { place: 3, rest, error: libc::ECONNRESET | libc::EPIPE }) => {
                assert_eq!(rest, numbered(100, 1));
            }
            _ => panic!("nobody is told"),
        }
    }
    rig.uring.send_rest(3, socket.as_fd(), numbered(100, 1), 0);
    assert!(matches!(
        rig.turn().pop(),
        Some(Completion::Sent { place: 3, result: Err(libc::ECONNRESET | libc::EPIPE), .. })
    ));
    // A send that waits is ended by a shutdown.
    let (socket, _peer) = pair();
    rig.uring.send(4, socket.as_fd(), numbered(8 << 20, 2));
    let Some(Completion::Unsent { rest, .. }) = rig.turn().pop() else { panic!("it fitted") };
    rig.uring.send_rest(4, socket.as_fd(), rest, 0);
    let mut from = 0;
    let mut happened = rig.ticks(3);
    rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap();
    loop {
        match happened.pop() {
            Some(Completion::Sent { place: 4, result: Err(_), .. }) => break,
            // The peer's kernel took a little more.
            Some(Completion::Sent { place: 4, buffer, result: Ok(len) }) => {
                from += len;
                rig.uring.send_rest(4, socket.as_fd(), buffer, from);
            }
            Some(_) => panic!("not what was submitted"),
            None => {}
        }
        happened.extend(rig.turn());
    }
}

#[test]
fn without_buffers_receiving_ends_and_nothing_is_lost() {
    if !is_there() {
        return;
    }
    for sizes in [SMALL, SINGLE] {
        let mut rig = Rig::new(&sizes);
        let (socket, mut peer) = pair();
        let stream = numbered(100 << 10, 5);
        let mut poured = 0;
        let (mut came, mut starved) = (Vec::new(), 0);
        rig.uring.receive(1, socket.as_fd());
        let mut kept = Vec::new();
        while came.len() < stream.len() {
            poured = pour(&mut peer, &stream, poured, 64 << 10);
            for completion in rig.turn() {
                match completion {
                    // Nothing goes back before there is nothing left.
                    Completion::Received { place: 1, chunk, more } => {
                        came.extend_from_slice(rig.uring.bytes(&chunk));
                        kept.push(chunk);
                        if !more {
                            rig.uring.receive(1, socket.as_fd());
                        }
                    }
                    Completion::ReceiveEnded { place: 1, error: libc::ENOBUFS } => {
                        starved += 1;
                        kept.drain(..).for_each(|chunk| rig.uring.give_back(chunk));
                        rig.uring.receive(1, socket.as_fd());
                    }
                    _ => panic!("not what was submitted"),
                }
            }
        }
        assert!(came == stream, "the bytes came otherwise than they were sent");
        assert!(starved >= 3, "{starved} times without buffers");
    }
}

#[test]
fn what_overflows_the_queue_is_neither_lost_nor_late() {
    if !is_there() {
        return;
    }
    const CROWD: usize = 60;
    let tiny = Sizes { submissions: 8, completions: 16, ..SMALL };
    let mut rig = Rig::new(&tiny);
    let mut pairs: Vec<_> = (0..CROWD).map(|_| pair()).collect();
    let streams: Vec<_> = (0..CROWD as u32).map(|place| numbered(3_000, place)).collect();
    let mut came = vec![Vec::new(); CROWD];
    for (place, (socket, _)) in pairs.iter().enumerate() {
        rig.uring.receive(place as Place, socket.as_fd());
    }
    rig.ticks(2);
    for step in 0..3 {
        for (place, (_, peer)) in pairs.iter_mut().enumerate() {
            peer.write_all(&streams[place][step * 1_000..][..1_000]).unwrap();
        }
        while came.iter().any(|came| came.len() < (step + 1) * 1_000) {
            for completion in rig.turn() {
                match completion {
                    Completion::Received { place, chunk, more } => {
                        rig.take(chunk, &mut came[place as usize]);
                        if !more {
                            rig.uring.receive(place, pairs[place as usize].0.as_fd());
                        }
                    }
                    Completion::ReceiveEnded { place, error: libc::ENOBUFS } => {
                        rig.uring.receive(place, pairs[place as usize].0.as_fd());
                    }
                    _ => panic!("not what was submitted"),
                }
            }
        }
    }
    assert!(came == streams, "the bytes came otherwise than they were sent");
    // Sends that fail, far more of them than fit: all are told within one turn.
    let gone: Vec<_> = (0..CROWD).map(|_| pair()).map(|(socket, peer)| (reset(peer), socket).1).collect();
    for (place, socket) in gone.iter().enumerate() {
        rig.uring.send(place as Place, socket.as_fd(), streams[place].clone());
    }
    let mut told = HashMap::new();
    for completion in rig.turn() {
        if let Completion::Unsent { place, rest, .. } = completion {
            assert!(told.insert(place, rest).is_none(), "told twice");
        }
    }
    assert_eq!(told.len(), CROWD, "failed sends that nobody was told of");
    assert!(told.iter().all(|(place, rest)| *rest == streams[*place as usize]));
}

#[test]
fn receiving_that_is_cancelled_ends_once_and_loses_nothing() {
    if !is_there() {
        return;
    }
    for sizes in [SMALL, SINGLE] {
        let mut rig = Rig::new(&sizes);
        let (socket, mut peer) = pair();
        let stream = numbered(300 << 10, 9);
        let (mut poured, mut came, mut cancelled) = (0, Vec::new(), 0);
        for round in 0.. {
            rig.uring.receive(2, socket.as_fd());
            let mut receives = true;
            poured = pour(&mut peer, &stream, poured, 100 + round % 7 * 900);
            if round % 3 > 0 {
                receives &= hear(&mut rig, &mut came, &mut cancelled);
            }
            poured = pour(&mut peer, &stream, poured, round % 5 * 700);
            if receives {
                rig.uring.stop_receiving(2);
            }
            poured = pour(&mut peer, &stream, poured, round % 2 * 2_000);
            while receives {
                receives = hear(&mut rig, &mut came, &mut cancelled);
            }
            // Ended: whatever is sent now waits.
            poured = pour(&mut peer, &stream, poured, 500);
            assert!(rig.turn().is_empty(), "something comes after the end");
            if came.len() == stream.len() {
                break;
            }
        }
        assert!(came == stream, "the bytes came otherwise than they were sent");
        assert!(cancelled > 10, "{cancelled} were cancelled");
    }
}

/// One turn of a receiver; whether it goes on.
fn hear(rig: &mut Rig, came: &mut Vec<u8>, cancelled: &mut usize) -> bool {
    let mut receives = true;
    for completion in rig.turn() {
        assert!(receives, "something comes after the end");
        match completion {
            Completion::Received { place: 2, chunk, more } => {
                rig.take(chunk, came);
                receives = more;
            }
            Completion::ReceiveEnded { place: 2, error } => {
                assert!([libc::ECANCELED, libc::ENOBUFS].contains(&error), "ended with error {error}");
                *cancelled += usize::from(error == libc::ECANCELED);
                receives = false;
            }
            _ => panic!("not what was submitted"),
        }
    }
    receives
}

#[test]
fn a_number_that_is_used_again_hears_nothing_of_what_was_before() {
    if !is_there() {
        return;
    }
    let mut rig = Rig::new(&SMALL);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rig.uring.accept(0, listener.as_fd());
    let mut again = 0;
    for round in 0..200 {
        let (socket, mut peer) = pair();
        let number = socket.as_raw_fd();
        rig.uring.receive(1, socket.as_fd());
        assert!(rig.turn().is_empty());
        // In one submission: the last words, the end of receiving, the end of the socket.
        rig.uring.send(1, socket.as_fd(), numbered(500, round));
        rig.uring.stop_receiving(1);
        rig.uring.close(1, socket);
        let (other, mut others_peer) = pair();
        assert_ne!(other.as_raw_fd(), number, "closed before its last words have gone off");
        let mut newcomer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        newcomer.set_nonblocking(true).unwrap();
        rig.uring.send(2, other.as_fd(), numbered(300, round));
        let (mut ended, mut accepted) = (false, None);
        while !ended || accepted.is_none() {
            for completion in rig.turn() {
                match completion {
                    Completion::ReceiveEnded { place: 1, error: libc::ECANCELED } => ended = true,
                    Completion::Accepted { acceptor: 0, socket, more: true } => accepted = Some(socket),
                    _ => panic!("not what was submitted"),
                }
            }
        }
        let accepted = accepted.unwrap();
        again += usize::from(accepted.as_raw_fd() == number);
        rig.uring.send(3, accepted.as_fd(), numbered(200, round));
        rig.turn();
        let expected = [(&mut peer, 500, true), (&mut others_peer, 300, false), (&mut newcomer, 200, false)];
        for (peer, len, ends) in expected {
            rig.expect(peer, &numbered(len, round), ends);
        }
    }
    println!("{again} of 200 numbers were used again at once");
    assert!(again > 0);
    rig.uring.close_acceptor(0, listener.into());
    let ended = rig.ticks(2).pop();
    assert!(matches!(ended, Some(Completion::AcceptEnded { acceptor: 0, error: libc::ECANCELED })));
}

#[test]
fn chunks_hold_what_was_sent_when_buffers_are_reused() {
    if !is_there() {
        return;
    }
    const CROWD: usize = 9;
    for sizes in [SMALL, SINGLE] {
        let mut rig = Rig::new(&sizes);
        let mut pairs: Vec<_> = (0..CROWD).map(|_| pair()).collect();
        let streams: Vec<_> = (0..CROWD as u32).map(|place| numbered(400 << 10, place)).collect();
        let (mut came, mut poured) = (vec![Vec::new(); CROWD], [0; CROWD]);
        for (place, (socket, _)) in pairs.iter().enumerate() {
            rig.uring.receive(place as Place, socket.as_fd());
        }
        let mut kept = Vec::new();
        for round in 0.. {
            for (place, (_, peer)) in pairs.iter_mut().enumerate() {
                let at_most = 1 + (round * 7 + place * 131) % 3_000;
                poured[place] = pour(peer, &streams[place], poured[place], at_most);
            }
            for completion in rig.turn() {
                match completion {
                    // Looked at and given back later, and not in the order in which they came.
                    Completion::Received { place, chunk, more } => {
                        kept.push((place, chunk));
                        if !more {
                            rig.uring.receive(place, pairs[place as usize].0.as_fd());
                        }
                    }
                    Completion::ReceiveEnded { place, error: libc::ENOBUFS } => {
                        rig.uring.receive(place, pairs[place as usize].0.as_fd());
                    }
                    _ => panic!("not what was submitted"),
                }
            }
            for (place, chunk) in &kept {
                came[*place as usize].extend_from_slice(rig.uring.bytes(chunk));
            }
            kept.drain(..).rev().for_each(|(_, chunk)| rig.uring.give_back(chunk));
            if came.iter().map(Vec::len).sum::<usize>() >= streams.iter().map(Vec::len).sum() {
                break;
            }
        }
        assert!(came == streams, "the bytes came otherwise than they were sent");
    }
}

#[test]
fn half_closing_is_told_after_the_last_bytes() {
    if !is_there() {
        return;
    }
    let mut rig = Rig::new(&SMALL);
    for round in 0..50 {
        let (socket, mut peer) = pair();
        let stream = numbered(6_000, round);
        rig.uring.receive(1, socket.as_fd());
        peer.write_all(&stream).unwrap();
        peer.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut came, mut ended) = (Vec::new(), false);
        while !ended {
            for completion in rig.turn() {
                assert!(!ended);
                match completion {
                    Completion::Received { chunk, more, .. } => {
                        rig.take(chunk, &mut came);
                        if !more {
                            rig.uring.receive(1, socket.as_fd());
                        }
                    }
                    Completion::ReceiveEnded { error: 0, .. } => ended = true,
                    Completion::ReceiveEnded { error: libc::ENOBUFS, .. } => {
                        rig.uring.receive(1, socket.as_fd());
                    }
                    _ => panic!("not what was submitted"),
                }
            }
        }
        assert!(came == stream);
    }
}

#[test]
fn whoever_rings_wakes_it_each_time() {
    if !is_there() {
        return;
    }
    let mut rig = Rig::new(&SMALL);
    let event = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
    rig.uring.watch(event.as_fd()).unwrap();
    rig.turn();
    for _ in 0..100 {
        let event = event.try_clone().unwrap();
        let ringer = std::thread::spawn(move || rustix::io::write(&event, &1u64.to_ne_bytes()).map(drop));
        let mut woken = false;
        while !woken {
            for completion in rig.turn() {
                let Completion::Woken { more } = completion else { panic!("not what was submitted") };
                assert!(more, "it watches no more");
                woken = true;
            }
        }
        ringer.join().unwrap().unwrap();
    }
}

#[test]
fn a_ring_that_serves_can_be_made_and_left_with_work_under_way() {
    if !is_there() {
        return;
    }
    for _ in 0..4 {
        let mut uring = Uring::new().expect("a ring");
        let (socket, _peer) = pair();
        uring.receive(1, socket.as_fd());
        uring.send(1, socket.as_fd(), numbered(8 << 20, 1));
        uring.enter(true).unwrap();
        let Some(Completion::Unsent { rest, .. }) = uring.next() else { panic!("it fitted") };
        uring.send_rest(1, socket.as_fd(), rest, 0);
        uring.enter(false).unwrap();
    }
}
