//! The owner's side: the pool, who waits for it, and how everything is called in.

use std::collections::VecDeque;

use super::board::Count;
use super::facts::Fact;
use super::system::{Bug, Bus, ClaimAnswer, Keeping, Message};

/// Who waits for the pool, in order.
#[derive(Clone, Copy, Debug)]
enum Claim {
    /// A core; with `want` zero it only sees its lease end soon.
    Ask { core: usize, want: u64 },
    /// The merchant takes unsold units away.
    Withdraw { claim: u64, units: u64 },
    /// The merchant pauses the item.
    Pause { claim: u64 },
}

/// Everything is being called in.
#[derive(Clone, Copy, Debug)]
struct Collect {
    round: u64,
    /// Cores that have not yielded yet.
    left: usize,
    /// The board's count before the first recall.
    since: Count,
}

/// What the owner core keeps of the item.
#[derive(Debug)]
pub(crate) struct Owner {
    cores: usize,
    pool: u64,
    claims: VecDeque<Claim>,
    collect: Option<Collect>,
    rounds: u64,
    /// No core held anything when the last collect ended, and none was granted anything since:
    /// while the board's count is still this, the pool is all there is.
    whole_since: Option<Count>,
    grants_sent: Vec<u64>,
    /// As in the holders. Odd from the moment a pause begins.
    epoch: u64,
    /// Whether the fact of the pause stands.
    paused: bool,
}

impl Owner {
    pub(crate) fn new(cores: usize, pool: u64, paused: bool) -> Self {
        Self {
            cores,
            pool,
            claims: VecDeque::new(),
            collect: None,
            rounds: 0,
            whole_since: None,
            grants_sent: vec![0; cores],
            epoch: u64::from(paused),
            paused,
        }
    }

    /// Units that nobody holds.
    pub(crate) fn pool(&self) -> u64 {
        self.pool
    }

    /// Whether nobody waits.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.claims.is_empty() && self.collect.is_none()
    }

    /// A message of a holder.
    pub(crate) fn receive(&mut self, message: &Message, bus: &mut Bus) {
        match *message {
            Message::Ask { core, want } => self.claims.push_back(Claim::Ask { core, want }),
            Message::Yield { round, units } => self.take_in(round, units),
            _ => unreachable!("a holder's"),
        }
        self.serve(bus);
    }

    fn take_in(&mut self, round: u64, units: u64) {
        self.pool += units;
        let collect = self.collect.as_mut().expect("a yield answers a recall");
        assert_eq!(collect.round, round, "one collect at a time");
        collect.left -= 1;
        if collect.left == 0 {
            self.whole_since = Some(collect.since);
            self.collect = None;
        }
    }

    /// The merchant grants more.
    pub(crate) fn restock(&mut self, units: u64, bus: &mut Bus) {
        bus.append(Fact::Granted { units });
        self.pool += units;
        bus.board.came_back();
        self.serve(bus);
    }

    /// The merchant takes units away; answered when it is clear whether there are so many.
    pub(crate) fn withdraw(&mut self, claim: u64, units: u64, bus: &mut Bus) {
        self.claims.push_back(Claim::Withdraw { claim, units });
        self.serve(bus);
    }

    /// The merchant pauses the item; answered when no core can sell any more.
    pub(crate) fn pause(&mut self, claim: u64, bus: &mut Bus) {
        self.claims.push_back(Claim::Pause { claim });
        self.serve(bus);
    }

    /// The merchant ends a pause; false when there is none.
    pub(crate) fn resume(&mut self, bus: &mut Bus) -> bool {
        if !self.paused {
            return false;
        }
        self.paused = false;
        self.epoch += 1;
        bus.append(Fact::Resumed);
        (0..self.cores).for_each(|core| bus.tell_core(core, Message::Resume { epoch: self.epoch }));
        true
    }

    /// Serves whoever waits, strictly in order, as far as it is clear what to say. While
    /// everything is called in nobody is served: a grant would leave again at once, and the
    /// collect would have to begin anew.
    fn serve(&mut self, bus: &mut Bus) {
        while self.collect.is_none()
            && let Some(&claim) = self.claims.front()
        {
            let served = match claim {
                Claim::Ask { core, want } => self.serve_ask(core, want, bus),
                Claim::Withdraw { claim, units } => self.serve_withdrawal(claim, units, bus),
                Claim::Pause { claim } => self.serve_pause(claim, bus),
            };
            if served {
                self.claims.pop_front();
            } else {
                self.call_in(bus);
            }
        }
    }

    fn serve_ask(&mut self, core: usize, want: u64, bus: &mut Bus) -> bool {
        // Nobody waits for it: what is left over may be nothing.
        let optional = want == 0 || self.paused;
        if optional || self.pool >= want {
            let share = self.pool / (2 * self.cores as u64);
            let units = if self.paused { 0 } else { share.max(want) };
            self.grant(core, units, bus);
            return true;
        }
        let known = self.knows_all(bus) || bus.bug == Some(Bug::NeighboursForgotten);
        if known {
            bus.tell_core(core, Message::Dry { available: self.pool });
        }
        known
    }

    fn grant(&mut self, core: usize, units: u64, bus: &mut Bus) {
        if units > 0 {
            self.pool -= units;
            self.whole_since = None;
            if bus.keeping == Keeping::Logged {
                bus.append(Fact::Leased { core, units });
            }
        }
        self.grants_sent[core] += 1;
        bus.tell_core(core, Message::Grant { units });
    }

    /// Whether the pool is all there is in the whole system, now. Sets the mark if that is nothing.
    fn knows_all(&mut self, bus: &mut Bus) -> bool {
        if bus.board.is_sold_out() {
            return true;
        }
        let Some(since) = self.whole_since else { return false };
        let ignored = bus.bug == Some(Bug::CountIgnored);
        let since = if ignored { bus.board.count() } else { since };
        if self.pool == 0 { bus.board.try_sell_out(since) } else { bus.board.count() == since }
    }

    fn serve_withdrawal(&mut self, claim: u64, units: u64, bus: &mut Bus) -> bool {
        if self.pool >= units {
            self.pool -= units;
            bus.append(Fact::Withdrawn { units });
            bus.answer_claim(claim, ClaimAnswer::Done);
            return true;
        }
        let known = self.knows_all(bus);
        if known {
            bus.answer_claim(claim, ClaimAnswer::StockInUse { available: self.pool });
        }
        known
    }

    /// A pause begins with a collect that carries the new epoch, and stands when that has ended.
    fn serve_pause(&mut self, claim: u64, bus: &mut Bus) -> bool {
        let called_in = self.epoch % 2 == 1;
        if !called_in {
            self.epoch += 1;
            if bus.bug != Some(Bug::PausedTooEarly) {
                return false;
            }
        }
        if !self.paused {
            self.paused = true;
            bus.append(Fact::Paused);
        }
        bus.answer_claim(claim, ClaimAnswer::Done);
        true
    }

    fn call_in(&mut self, bus: &mut Bus) {
        self.rounds += 1;
        bus.counts.collects += 1;
        self.whole_since = None;
        self.collect = Some(Collect { round: self.rounds, left: self.cores, since: bus.board.count() });
        for core in 0..self.cores {
            let (round, epoch) = (self.rounds, self.epoch);
            bus.tell_core(core, Message::Recall { round, grants_sent: self.grants_sent[core], epoch });
        }
    }
}
