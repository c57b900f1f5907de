//! F7 and F8: what each refusal at the gate costs beside the sold-out answer, and what a token
//! that was seen before costs beside a buyer who is named by header.

use serde_json::{Value, json};
use stampede_loadgen::workload::Workload;

use crate::load::{Cpus, Leg, cpu_us};
use crate::server::{Flags, ServerProcess, jwt_auth, now_ms};
use crate::table::{Goal, Table};
use crate::{SOLD_OUT, Size, label};

/// One refusal: what the item is like, and what the purchases show.
struct Refusal {
    name: &'static str,
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
    fn new(name: &'static str, item: Value) -> Self {
        Self { name, item, pause: false, limit: None, ticket: Ticket::None }
    }
}

fn refusals() -> Vec<Refusal> {
    let hour_ms = 3_600_000;
    let ticketed = json!({"ticket": "required"});
    vec![
        Refusal::new(
            "not open",
            json!({"opens_at_ms": now_ms() + hour_ms, "closes_at_ms": now_ms() + 2 * hour_ms}),
        ),
        Refusal::new("ended", json!({"opens_at_ms": 0, "closes_at_ms": now_ms() - 1})),
        Refusal { pause: true, ..Refusal::new("paused", json!({})) },
        Refusal::new("not eligible", json!({"min_level": 1})),
        Refusal::new("rate of the item", json!({"admit_per_s": 1})),
        Refusal { limit: Some("STAMPEDE_LIMITS_BUYER_PER_S"), ..Refusal::new("rate of a buyer", json!({})) },
        Refusal { limit: Some("STAMPEDE_LIMITS_IP_PER_S"), ..Refusal::new("rate of an address", json!({})) },
        Refusal::new("no ticket", ticketed.clone()),
        Refusal { ticket: Ticket::Forged, ..Refusal::new("forged ticket", ticketed.clone()) },
        Refusal { ticket: Ticket::Good, ..Refusal::new("sold out, good ticket", ticketed) },
    ]
}

/// Items of this bench are numbered from here.
const FIRST_ITEM: u32 = 100;

/// F7: each refusal beside the sold-out answer, which runs before and after it.
pub(crate) fn refusals_beside_sold_out(size: &Size, cpus: Cpus, table: &mut Table) {
    let plain = ServerProcess::start(&Flags::default(), cpus);
    println!("\nF7, µs per answer: sold out, the refusal, sold out");
    for (item, refusal) in (FIRST_ITEM..).zip(refusals()) {
        let limited = refusal
            .limit
            .map(|limit| ServerProcess::start(&Flags { limit: Some(limit), ..Flags::default() }, cpus));
        let server = limited.as_ref().unwrap_or(&plain);
        let workload = prepare(server, item, &refusal);
        let mut ratios = Vec::new();
        for round in 0..=size.pairs {
            let sold_out = || {
                let workload =
                    Workload { users: workload.users, ..Workload::purchases(SOLD_OUT, 1_000 + round) };
                cpu_us(&plain, cpus, &Leg::closed(plain.addr, workload, 64, size.leg / 2))
            };
            let before = sold_out();
            let leg = Leg::closed(server.addr, workload.clone(), 64, size.leg);
            let refused = cpu_us(server, cpus, &leg);
            let after = sold_out();
            println!("{:<24}{:<8}{before:>8.2}{refused:>8.2}{after:>8.2}", refusal.name, label(round));
            if round > 0 {
                ratios.push(refused / ((before + after) / 2.0));
            }
        }
        table.add("F7", refusal.name, Goal::AtMost(1.2), ratios);
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

/// F8: a buyer with a token that its connection has shown before, beside one named by header.
pub(crate) fn tokens_beside_headers(size: &Size, cpus: Cpus, table: &mut Table) {
    let by_header = ServerProcess::start(&Flags::default(), cpus);
    let by_token = ServerProcess::start(&Flags { jwt: true, ..Flags::default() }, cpus);
    let mut ratios = Vec::new();
    println!("\n{:<8}{:>10}{:>10}", "F8", "header", "token");
    for round in 0..=size.pairs {
        let workload = Workload { users: Some(1), ..Workload::purchases(SOLD_OUT, 1_000 + round) };
        let leg = |server: &ServerProcess, workload: Workload| {
            cpu_us(server, cpus, &Leg::closed(server.addr, workload, 64, size.leg))
        };
        let header = leg(&by_header, workload.clone());
        let token = leg(&by_token, Workload { auth: jwt_auth(), ..workload });
        println!("{:<8}{header:>10.2}{token:>10.2}", label(round));
        if round > 0 {
            ratios.push(token / header);
        }
    }
    table.add("F8", "sold out: unchanged token ÷ header, CPU", Goal::AtMost(1.1), ratios);
}
