//! F7 and F8: what each refusal at the gate costs beside the sold-out answer, and what a token
//! that was seen before costs beside a buyer who is named by header.

use serde_json::{Value, json};
use stampede_loadgen::meaning::Code;
use stampede_loadgen::workload::Workload;

use crate::load::{CONNECTIONS, Leg, Serving};
use crate::server::{Flags, ServerProcess, jwt_auth, now_ms};
use crate::table::Table;
use crate::{Bench, SOLD_OUT, fresh_seed, ratios};

/// One refusal: what the item is like, and what the purchases show.
struct Refusal {
    /// Its key among the figures.
    key: &'static str,
    /// The refusal that is expected.
    code: Code,
    /// Settings of the item beside those of a plain sale.
    item: Value,
    /// Whether the item is stopped at once.
    pause: bool,
    /// The setting that limits the server to one request a second, if it takes one.
    limit: Option<&'static str>,
    ticket: Ticket,
}

enum Ticket {
    None,
    Forged,
    /// A good one of the workload's only buyer, for an item that is sold out.
    Good,
}

impl Refusal {
    fn new(key: &'static str, code: Code, item: Value) -> Self {
        Self { key, code, item, pause: false, limit: None, ticket: Ticket::None }
    }
}

fn refusals() -> Vec<Refusal> {
    let hour_ms = 3_600_000;
    let ticketed = json!({"ticket": "required"});
    vec![
        Refusal::new(
            "F7.not-open",
            Code::NotOpen,
            json!({"opens_at_ms": now_ms() + hour_ms, "closes_at_ms": now_ms() + 2 * hour_ms}),
        ),
        Refusal::new("F7.ended", Code::Ended, json!({"opens_at_ms": 0, "closes_at_ms": now_ms() - 1})),
        Refusal { pause: true, ..Refusal::new("F7.paused", Code::Paused, json!({})) },
        Refusal::new("F7.not-eligible", Code::NotEligible, json!({"min_level": 1})),
        Refusal::new("F7.item-rate", Code::RateLimited, json!({"admit_per_s": 1})),
        Refusal {
            limit: Some("STAMPEDE_LIMITS_BUYER_PER_S"),
            ..Refusal::new("F7.buyer-rate", Code::RateLimited, json!({}))
        },
        Refusal {
            limit: Some("STAMPEDE_LIMITS_IP_PER_S"),
            ..Refusal::new("F7.address-rate", Code::RateLimited, json!({}))
        },
        Refusal::new("F7.no-ticket", Code::TicketRequired, ticketed.clone()),
        Refusal {
            ticket: Ticket::Forged,
            ..Refusal::new("F7.forged-ticket", Code::TicketInvalid, ticketed.clone())
        },
        Refusal { ticket: Ticket::Good, ..Refusal::new("F7.good-ticket", Code::SoldOut, ticketed) },
    ]
}

/// Items of this bench are numbered from here.
const FIRST_ITEM: u32 = 100;

/// F7: each refusal beside the sold-out answer, which runs before and after it.
pub(crate) fn refusals_beside_sold_out(bench: &Bench, table: &mut Table) {
    let plain = ServerProcess::start(bench, &Flags::default());
    for (item, refusal) in (FIRST_ITEM..).zip(refusals()) {
        println!("{}", refusal.key);
        let limited = refusal
            .limit
            .map(|limit| ServerProcess::start(bench, &Flags { limit: Some(limit), ..Flags::default() }));
        let server = limited.as_ref().unwrap_or(&plain);
        let workload = prepare(server, item, &refusal);
        let sold_out = || {
            let workload = Workload { users: workload.users, ..Workload::purchases(SOLD_OUT, fresh_seed()) };
            let leg = Leg::closed(plain.addr, workload, Code::SoldOut, bench.size.leg / 4);
            plain.cpu_us(bench.cpus, &leg).0
        };
        let rounds = bench.rounds(["sold out", "refusal", "sold out"], || {
            let before = sold_out();
            let leg = Leg::closed(server.addr, workload.clone(), refusal.code, bench.size.leg / 2);
            [before, server.cpu_us(bench.cpus, &leg).0, sold_out()]
        });
        let ratio = |[before, refused, after]: &[f64; 3]| refused / ((before + after) / 2.0);
        table.add(refusal.key, rounds.iter().map(ratio).collect());
    }
}

/// Puts the item on sale as the refusal wants it; the purchases that are refused.
fn prepare(server: &ServerProcess, item: u32, refusal: &Refusal) -> Workload {
    let stock = if matches!(refusal.ticket, Ticket::Good) { 1 } else { 1_000 };
    server.put(item, stock, &refusal.item);
    if refusal.pause {
        server.shop_post(&format!("/admin/items/{item}/pause"), &json!({}));
    }
    let one_buyer = refusal.limit.is_some() || matches!(refusal.ticket, Ticket::Good);
    let workload = Workload { users: one_buyer.then_some(1), ..Workload::purchases(item, u64::from(item)) };
    let ticket = match refusal.ticket {
        Ticket::None => None,
        Ticket::Forged => Some("A".repeat(96)),
        Ticket::Good => {
            let ticket = server.ticket(item, &workload.names().buyer(0));
            server.shop_post(&format!("/admin/items/{item}/restock"), &json!({"add": -1}));
            Some(ticket)
        }
    };
    Workload { ticket, ..workload }
}

/// F8: buyers with tokens that the core has seen before, beside buyers who are named by header: one over many
/// connections, and eight that take turns on one, as behind a proxy.
pub(crate) fn tokens_beside_headers(bench: &Bench, table: &mut Table) {
    let by_header = ServerProcess::start(bench, &Flags::default());
    let by_token = ServerProcess::start(bench, &Flags { jwt: true, ..Flags::default() });
    let mut measure = |users: u32, connections: u32, key: &str| {
        let rounds = bench.rounds(["token µs", "header µs"], || {
            let workload = Workload { users: Some(users), ..Workload::purchases(SOLD_OUT, fresh_seed()) };
            let leg = |server: &ServerProcess, workload: Workload| {
                let leg = Leg::closed(server.addr, workload, Code::SoldOut, bench.size.leg).over(connections);
                server.cpu_us(bench.cpus, &leg).0
            };
            [leg(&by_token, Workload { auth: jwt_auth(), ..workload.clone() }), leg(&by_header, workload)]
        });
        table.add(key, ratios(&rounds));
    };
    measure(1, CONNECTIONS, "F8");
    measure(8, 1, "F8.proxy");
}
