//! A purchase is parsed, identified and answered without allocating, once the
//! buffers are there. A binary of its own, because it counts every allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};

use stampede_core::item::OrderState;
use stampede_core::types::{HashSecret, Lsn, OrderId, UnixMillis};
use stampede_net::http::answer::{self, OrderHeaders, OrderView, Status, VisibleState, date_line};
use stampede_net::http::body;
use stampede_net::http::conn::{Conn, Next, Request};
use stampede_net::http::problem::{Code, Problem};
use stampede_net::http::route::{Listener, Route};
use stampede_net::identity::key::IdentityKey;
use stampede_net::identity::mint::{Claims, MintKey};
use stampede_net::identity::{Identity, VerdictCache};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what this thread asks for, and hands everything on.
struct Counting;

fn count() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes to the system allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const NOW: UnixMillis = UnixMillis(1_000);

/// What a server does with one request, short of deciding.
fn serve(
    request: &Request<'_>,
    identity: &Identity,
    cache: &mut VerdictCache,
    round: u64,
    out: &mut Vec<u8>,
) {
    let date = date_line(784_111_777);
    let manner = request.head.response_mode();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let buyer = identity.identify(&request.head, NOW, peer, cache).expect("a good token");
    assert_eq!(buyer.subject.as_bytes(), b"bob");
    let Ok(Route::Buy(item)) = request.route else { panic!("a purchase") };
    let purchase = body::purchase(request.body).expect("a good body");
    assert_eq!(request.head.idempotency_key(), Ok(Some(b"key-1".as_slice())));
    let order = OrderId::new(item, 1 + round as u32);
    let view = OrderView {
        order,
        quantity: purchase.quantity,
        state: VisibleState::Durable(OrderState::Confirmed),
        created_at_ms: NOW,
        pay_by_ms: UnixMillis(0),
        lsn: Lsn(round),
        price: stampede_core::money::Price::UNKNOWN,
        refunded: 0,
    };
    answer::order(out, Status::Created, &view, OrderHeaders::default(), manner, &date);
    for problem in [Code::SoldOut.problem(), Problem::not_open(round), Problem::cap_reached(order)] {
        answer::problem(out, &problem, manner, &date);
    }
    answer::problem(out, &Code::BadJson.problem().detail("slow road"), manner, &date);
}

#[test]
fn a_purchase_allocates_nothing() {
    let secret = [7; 32];
    let token = MintKey::hs256("k", &secret).expect("a key");
    let token = token.mint(&Claims { sub: "bob", exp_s: 10, ..Claims::default() }).expect("claims");
    let identity =
        Identity::jwt(vec![IdentityKey::hs256("k", &secret).expect("a key")], vec![]).expect("a key");
    let raw = format!(
        "POST /v1/items/7/orders HTTP/1.1\r\nHost: shop\r\nAuthorization: Bearer {token}\r\n\
         Idempotency-Key: \"key-1\"\r\nContent-Type: application/json\r\nContent-Length: 29\r\n\r\n\
         {{\"quantity\":1,\"ticket\":\"a.b\"}}"
    );
    let mut conn = Conn::new(Listener::Public, 0);
    let mut cache = VerdictCache::new(HashSecret([3; 16]));
    let mut out = Vec::with_capacity(4_096);
    let mut per_round = [0; 50];
    for (round, allocations) in per_round.iter_mut().enumerate() {
        let before = ALLOCATIONS.with(Cell::get);
        out.clear();
        if round % 10 == 9 {
            // A token that was not seen before is verified, and that does not allocate either.
            cache.forget();
        }
        // Pipelined in pairs, cut in the middle of a head.
        let mut served = 0;
        for piece in [&raw.as_bytes()[..20], &raw.as_bytes()[20..], raw.as_bytes()] {
            assert_eq!(conn.feed(piece, 0), piece.len());
            while let Next::Request(request) = conn.next() {
                out.clear();
                serve(&request, &identity, &mut cache, round as u64, &mut out);
                served += 1;
            }
        }
        assert_eq!(served, 2);
        *allocations = ALLOCATIONS.with(Cell::get) - before;
    }
    assert!(per_round[0] > 0, "the counter counts: the first round makes the buffers");
    assert_eq!(per_round[1..].iter().sum::<u64>(), 0, "{per_round:?}");
}
