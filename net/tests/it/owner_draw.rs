//! An owner in the middle of a draw: an edit of the stock row in the database, and
//! what a page may show of a result that is not durable.

use stampede_core::command::{Command, ItemPatch, Purchase, Ticket};
use stampede_core::draw::DrawSeed;
use stampede_core::gauge::Rules;
use stampede_core::shard::Shard;
use stampede_core::types::{HashSecret, ItemId, Lsn, Quantity, UnixMillis};
use stampede_net::engine::ask::{OwnedItem, RareAsk};
use stampede_net::engine::owner::Owner;
use stampede_net::engine::shared::Shared;

use crate::rig::Base;

const ANNOUNCED_AT: UnixMillis = UnixMillis(1_000);
const OPENS_AT: UnixMillis = UnixMillis(2_000);
const DRAWS_AT: UnixMillis = UnixMillis(4_000);
const STOCK: u64 = 2;

fn item() -> ItemId {
    ItemId::new(1).unwrap()
}

/// Three entries for two units.
fn enter(shard: &mut Shard, secret: HashSecret, shared: &Shared) {
    let mut log = shared.queue.producer();
    let patch = ItemPatch {
        name: Some("drawn"),
        stock: Some(STOCK),
        opens_at_ms: Some(OPENS_AT),
        closes_at_ms: Some(UnixMillis(100_000)),
        draw_ms: Some(2_000),
        ..ItemPatch::default()
    };
    let put = Command::PutItem { item: item(), patch, seed: DrawSeed([5; 32]), actor: "shop" };
    shard.decide(ANNOUNCED_AT, &put, &mut log);
    for subject in [b"ann", b"bob", b"cyd"] {
        let (buyer, quantity) = (secret.buyer(subject), Quantity::ONE);
        let purchase = Purchase { item: item(), buyer, subject, quantity, key: b"", ticket: Ticket::Good };
        shard.decide(OPENS_AT, &Command::Purchase(purchase), &mut log);
    }
    log.flush();
}

/// Runs `test` with the owner of an item whose draw is due and has not been held.
fn with_owner(test: impl FnOnce(Owner)) {
    let base = Base::new(1, 0);
    let shared = &base.shared;
    let mut shard = Shard::new(0, shared.secret, shared.catalogue.clone());
    enter(&mut shard, shared.secret, shared);
    test(Owner::new(shard, shared.queue.producer(), shared.clone()));
}

#[test]
fn a_stock_edit_during_a_draw_waits_for_its_end() {
    with_owner(|mut owner| {
        let edit = RareAsk::FollowPostgres { item: item(), delta: 5, as_of: Lsn(1) };
        owner.answer_outside(DRAWS_AT, edit);
        let granted = |owner: &Owner| owner.shard().item(item()).unwrap().granted;
        assert_eq!(granted(&owner), STOCK, "nothing may come in before the draw");
        assert_eq!(owner.tick(DRAWS_AT), 4, "the draw and its three entries");
        owner.tick(DRAWS_AT);
        let seen = owner.shard().item(item()).unwrap();
        assert_eq!((seen.granted, seen.available, seen.sold), (STOCK + 5, 5, STOCK));
        assert_eq!(seen.flags & Rules::PAUSED, 0, "it could be accepted a moment later");
        assert_eq!(seen.draw.unwrap().held.unwrap().drawn.units, STOCK);
    });
}

#[test]
fn the_result_of_a_draw_is_hidden_until_it_is_durable() {
    with_owner(|mut owner| {
        let waiting = OwnedItem::new(&owner.shard().item(item()).unwrap()).hide_draw(Lsn::ZERO);
        assert!(!waiting, "an announced draw has nothing to hide");
        owner.tick(DRAWS_AT);
        let seen = owner.shard().item(item()).unwrap();
        let last = seen.draw.unwrap().held.unwrap().lsn;
        let shown = |durable: Lsn| {
            let mut item = OwnedItem::new(&seen);
            (item.hide_draw(durable), item.get().draw.unwrap().held.is_some())
        };
        assert_eq!(shown(Lsn(last.0 - 1)), (true, false));
        assert_eq!(shown(last), (false, true));
    });
}
