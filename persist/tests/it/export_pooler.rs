//! Behind a pooler in transaction mode the server's end of a connection belongs to somebody else between two
//! transactions: nothing of ours may stand there then.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use stampede_core::item::OrderState::{Confirmed, Paid};
use stampede_persist::export::Step;

use crate::export_bed::{
    DEADLINE, FakeEngine, client, cluster, created, drain, exporter_to, fresh_database, moved, order, sales,
    step_until,
};

/// Passes one connection on, and lets another client use its server's end in between.
struct Tap {
    port: u16,
    server: Arc<Mutex<Option<TcpStream>>>,
    asks: Arc<AtomicBool>,
    answers: Receiver<Vec<u8>>,
}

impl Tap {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("it").port();
        let (server, asks) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let (sender, answers) = mpsc::channel();
        let (slot, asked) = (Arc::clone(&server), Arc::clone(&asks));
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let upstream = TcpStream::connect(("127.0.0.1", cluster().port())).expect("connected");
                *slot.lock().expect("lock") = Some(upstream.try_clone().expect("a handle"));
                pass_on(&client, &upstream, &asked, &sender);
            }
        });
        Self { port, server, asks, answers }
    }

    /// What the server's end of the connection answers another client, as the bytes come; no transaction is open.
    fn ask(&self, sql: &str) -> String {
        self.asks.store(true, Ordering::SeqCst);
        let mut message = vec![b'Q'];
        message.extend_from_slice(&(sql.len() as u32 + 5).to_be_bytes());
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        let guard = self.server.lock().expect("lock");
        guard.as_ref().expect("connected").write_all(&message).expect("sent");
        let mut answer = Vec::new();
        // `Z`, five bytes long, ends it; its state has to be "no transaction".
        while !answer.ends_with(b"Z\0\0\0\x05I") {
            answer.extend(self.answers.recv_timeout(DEADLINE).expect("an answer"));
        }
        self.asks.store(false, Ordering::SeqCst);
        String::from_utf8_lossy(&answer).into_owned()
    }
}

fn pass_on(client: &TcpStream, server: &TcpStream, asks: &Arc<AtomicBool>, answers: &Sender<Vec<u8>>) {
    let clone = |stream: &TcpStream| stream.try_clone().expect("a handle");
    let (mut from, mut to) = (clone(client), clone(server));
    thread::spawn(move || {
        drop(std::io::copy(&mut from, &mut to));
        drop(to.shutdown(Shutdown::Both));
    });
    let (mut from, mut to, asks, answers) = (clone(server), clone(client), Arc::clone(asks), answers.clone());
    thread::spawn(move || {
        let mut bytes = [0; 1 << 14];
        while let Ok(len @ 1..) = from.read(&mut bytes) {
            let sent = if asks.load(Ordering::SeqCst) {
                answers.send(bytes[..len].to_vec()).is_ok()
            } else {
                to.write_all(&bytes[..len]).is_ok()
            };
            if !sent {
                break;
            }
        }
        drop(to.shutdown(Shutdown::Both));
    });
}

const LEFT: &str = "SELECT '<' || coalesce(string_agg(what, ' '), '') || '>' FROM ( \
         SELECT name || '=' || setting AS what FROM pg_settings WHERE source = 'session' \
             AND name NOT IN ('client_encoding') \
         UNION ALL SELECT name FROM pg_prepared_statements \
         UNION ALL SELECT name FROM pg_cursors \
         UNION ALL SELECT locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' \
         UNION ALL SELECT relname FROM pg_class WHERE relpersistence = 't' \
     ) AS left_behind";

#[test]
fn nothing_stands_on_the_servers_end_between_two_transactions() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let tap = Tap::new();
    let through = url.replace(&format!(":{}/", cluster().port()), &format!(":{}/", tap.port));
    assert_ne!(url, through);
    let engine = FakeEngine::with([created(1, 100_000)]);
    let mut machine = exporter_to(&engine, through, |_| {});
    let mut asked = 0;
    let mut look = |place: &str| {
        let left = tap.ask(LEFT);
        assert!(left.contains("<>"), "{place}: {left}");
        asked += 1;
    };
    // Attaching with its migration; few orders; many; moves; a look at stock rows; a row that is refused.
    step_until(&mut machine, "attached", |step, _| step == Step::Again);
    look("attached");
    for (place, facts) in [
        ("few", sales(1, 1, 5)),
        ("many", sales(1, 6, 3_000)),
        ("moves", vec![moved(order(1, 1), 1, Confirmed, Paid)]),
    ] {
        engine.append(facts);
        step_until(&mut machine, place, |step, _| {
            if !matches!(step, Step::Stopped | Step::Wait(_)) {
                look(place);
            }
            step == Step::Idle && engine.exported() == engine.durable()
        });
    }
    client(&url)
        .batch_execute("ALTER TABLE stock_order ADD CHECK (quantity < 1) NOT VALID")
        .expect("altered");
    engine.append(sales(1, 4_000, 2));
    step_until(&mut machine, "refused", |step, _| {
        look("refused");
        step == Step::Idle && engine.exported() == engine.durable()
    });
    assert!(asked > 8, "{asked}");
}

#[test]
fn a_pooler_is_noticed() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with([created(1, 100)]);
    let mut direct = exporter_to(&engine, url.clone(), |_| {});
    drain(&mut direct, &engine);
    assert!(!direct.status().pooler(), "we called ourselves");
    let tap = Tap::new();
    let through = url.replace(&format!(":{}/", cluster().port()), &format!(":{}/", tap.port));
    let mut machine = exporter_to(&engine, through, |_| {});
    drain(&mut machine, &engine);
    assert!(machine.status().pooler());
}
