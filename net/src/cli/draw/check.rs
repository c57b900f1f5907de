//! The protocol of docs/DRAW.md, implemented a second time: checks a claim and reports the first difference.

use sha2::{Digest, Sha256};
use stampede_core::types::ItemId;

use crate::http::draw::hex;

/// A claim about a draw.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) item: ItemId,
    pub(super) commitment: [u8; 32],
    pub(super) seed: [u8; 32],
    pub(super) units: u64,
    pub(super) entries_total: u64,
    /// `None` where the source does not say.
    pub(super) winners: Option<u64>,
    pub(super) entries: Vec<Entry>,
}

/// One entry, and whether the claim says that it has won.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) order: u64,
    pub(super) quantity: u64,
    pub(super) won: bool,
}

/// What a draw comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Counted {
    pub(super) winners: u64,
    pub(super) units_won: u64,
}

/// Compares a claim with what follows from its seed and entries; the error is the first difference.
pub(super) fn check(claim: &Claim, before: Option<&[u8; 32]>) -> Result<Counted, String> {
    let commitment: [u8; 32] = Sha256::new()
        .chain_update("stampede-draw-seed-1")
        .chain_update(claim.item.get().to_be_bytes())
        .chain_update(claim.seed)
        .finalize()
        .into();
    if commitment != claim.commitment {
        return Err(format!("the seed makes the commitment {}, not the published one", hex(&commitment)));
    }
    if let Some(before) = before.filter(|before| **before != commitment) {
        return Err(format!("the commitment noted before is {}, not the published one", hex(before)));
    }
    check_list(claim)?;
    let counted = walk(claim)?;
    match claim.winners {
        Some(winners) if winners != counted.winners => {
            Err(format!("{winners} winners are said, there are {}", counted.winners))
        }
        _ => Ok(counted),
    }
}

/// The list is whole, in order, and of this item alone.
fn check_list(claim: &Claim) -> Result<(), String> {
    let listed = claim.entries.len() as u64;
    if listed != claim.entries_total {
        return Err(format!("{} entries took part, {listed} are listed", claim.entries_total));
    }
    let mut last = 0;
    for entry in &claim.entries {
        if entry.order <= last {
            return Err(format!("order {} is listed behind order {last}", entry.order));
        }
        if entry.order >> 32 != u64::from(claim.item.get()) {
            return Err(format!("order {} is not one of item {}", entry.order, claim.item));
        }
        last = entry.order;
    }
    Ok(())
}

/// Walks over the entries by rank: one wins if its units are still there.
fn walk(claim: &Claim) -> Result<Counted, String> {
    let rank = |entry: &Entry| -> [u8; 32] {
        let hash = Sha256::new().chain_update("stampede-draw-1").chain_update(claim.seed);
        hash.chain_update(entry.order.to_be_bytes()).finalize().into()
    };
    let mut ranked: Vec<([u8; 32], Entry)> =
        claim.entries.iter().map(|entry| (rank(entry), *entry)).collect();
    ranked.sort_unstable_by_key(|(rank, _)| *rank);
    let mut counted = Counted { winners: 0, units_won: 0 };
    for (place, (_, entry)) in (1_u64..).zip(&ranked) {
        let wins = entry.quantity <= claim.units - counted.units_won;
        if wins != entry.won {
            let (said, is) = if wins { ("lost", "won") } else { ("won", "lost") };
            let (order, total) = (entry.order, claim.entries_total);
            return Err(format!("order {order} (place {place} of {total}) is said to have {said}; it {is}"));
        }
        if wins {
            counted.winners += 1;
            counted.units_won += entry.quantity;
        }
    }
    Ok(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Five entries with these units by rank, of which as many won as `units` allow.
    fn right(units: u64) -> Claim {
        let item = ItemId::new(7).expect("an item");
        let seed: [u8; 32] = std::array::from_fn(|n| n as u8);
        let commitment: [u8; 32] = Sha256::new()
            .chain_update("stampede-draw-seed-1")
            .chain_update([0, 0, 0, 7])
            .chain_update(seed)
            .finalize()
            .into();
        let entry = |seq: u64| Entry { order: 7 << 32 | seq, quantity: 1 + seq % 2, won: false };
        let mut claim = Claim {
            item,
            commitment,
            seed,
            units,
            entries_total: 5,
            winners: None,
            entries: (1..=5).map(entry).collect(),
        };
        // Whoever is said to have lost wrongly has won: the checker itself tells, one by one.
        while let Err(difference) = check(&claim, None) {
            let order: u64 = difference.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("an order");
            let entry = claim.entries.iter_mut().find(|entry| entry.order == order).expect("listed");
            assert!(!entry.won, "{difference}");
            entry.won = true;
        }
        claim
    }

    #[test]
    fn the_published_example_is_right() {
        let claim = right(4);
        assert_eq!(
            hex(&claim.commitment),
            "e01dce05c637e79d256a1da1353c674bda63fc6a19437a2ac3773f04a6e1da98"
        );
        let counted = check(&claim, Some(&claim.commitment)).expect("right");
        assert!(
            counted.units_won <= 4
                && counted.winners == claim.entries.iter().filter(|e| e.won).count() as u64
        );
    }

    #[test]
    fn every_difference_is_reported() {
        let wrong = |change: fn(&mut Claim), said: &str| {
            let mut claim = right(4);
            change(&mut claim);
            let difference = check(&claim, None).expect_err(said);
            assert!(difference.contains(said), "{difference}");
        };
        wrong(|claim| claim.seed[0] ^= 1, "the seed makes the commitment");
        wrong(|claim| claim.commitment[31] ^= 1, "the seed makes the commitment");
        wrong(|claim| claim.units -= 1, "is said to have won; it lost");
        wrong(|claim| claim.units += 9, "is said to have lost; it won");
        wrong(|claim| claim.entries.truncate(4), "5 entries took part, 4 are listed");
        wrong(|claim| claim.entries.swap(0, 1), "is listed behind");
        wrong(|claim| claim.entries[4].order += 1 << 32, "is not one of item 7");
        wrong(|claim| claim.winners = Some(9), "9 winners are said");
        wrong(|claim| claim.entries[0].won ^= true, "is said to have");
        let difference = check(&right(4), Some(&[0; 32])).expect_err("another commitment");
        assert!(difference.contains("noted before"), "{difference}");
    }
}
