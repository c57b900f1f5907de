//! One history out of one seed: a random crowd, a merchant, delays, crashes, and the end.

use super::holder::Purchase;
use super::judge::{Judge, Told};
use super::system::{Bug, Counts, Keeping, System};

/// Most cores of a history.
pub(crate) const CORES_MAX: usize = 64;
/// Rounds after which a system that got nothing new has to be at rest.
const ROUNDS_MAX: usize = 10_000;

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// Where the crowd is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Crowd {
    Everywhere,
    AtOneCore,
    InBursts,
    /// At one core, which changes now and then.
    Wandering,
    /// Everywhere at first; then nobody comes.
    Vanishing,
}

/// What was seen, over many histories.
#[derive(Default, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Coverage {
    histories_by_cores: std::collections::BTreeMap<usize, u64>,
    facts: u64,
    deliveries: u64,
    returns: u64,
    restocks: u64,
    withdrawals: u64,
    pauses: u64,
    crashes: u64,
    facts_lost: u64,
    /// Crashes with units in messages or leases.
    crashes_with_leases: u64,
    last_units: u64,
    told: Told,
    counts: Counts,
}

impl Coverage {
    /// Fails when something has hardly happened: then the histories show nothing of it.
    pub(crate) fn assert_complete(&self) {
        for cores in [1, 2, 7, 16, 64] {
            assert!(self.histories_by_cores.get(&cores) > Some(&500), "too few with {cores} cores");
        }
        let Told { sold, sold_out, busy, paused, stock_in_use } = self.told;
        let seen = [self.returns, self.restocks, self.withdrawals, self.pauses, self.crashes];
        let seen = seen.into_iter().chain([self.crashes_with_leases, self.facts_lost, self.last_units]);
        let seen = seen.chain([sold, sold_out, busy, paused, stock_in_use, self.counts.leases_logged]);
        for (n, seen) in seen.enumerate() {
            assert!(seen > 1_000, "only {seen} of what is counted as number {n}: {self:?}");
        }
    }
}

/// A history as it runs.
struct History<'a> {
    rng: Rng,
    system: System,
    judge: Judge,
    crowd: Crowd,
    cores: usize,
    /// Where the crowd is, if it is at one core.
    at: usize,
    next_id: u64,
    /// Facts that are durable.
    durable: usize,
    /// One in so many steps is a crash; zero: none.
    crash_one_in: usize,
    /// Things that end what was known: returns, changes by the merchant, crashes.
    disturbances: u64,
    cover: &'a mut Coverage,
}

/// Runs the history of a seed.
///
/// # Errors
/// The first promise that was broken, in words.
pub(crate) fn run(seed: u64, bug: Option<Bug>, cover: &mut Coverage) -> Result<(), String> {
    let mut rng = Rng(seed);
    let cores = rng.pick(&[1, 2, 2, 2, 3, 7, 7, 7, 16, 16, 64]);
    let stock = rng.pick(&[0, 1, 1, 2, 5, 20, 60, 150, 400]) + rng.below(3) as u64;
    let keeping = rng.pick(&[Keeping::Volatile, Keeping::Logged]);
    let parked_max = rng.pick(&[1, 2, 4, 8]);
    let crowd =
        rng.pick(&[Crowd::Everywhere, Crowd::AtOneCore, Crowd::InBursts, Crowd::Wandering, Crowd::Vanishing]);
    let crash_one_in = rng.pick(&[0, 60, 300]);
    let at = rng.below(cores);
    *cover.histories_by_cores.entry(cores).or_default() += 1;
    let system = System::new(cores, stock, parked_max, keeping, bug);
    let judge = Judge::new();
    let (next_id, durable, disturbances) = (1, 0, 1);
    let mut history =
        History { rng, system, judge, crowd, cores, at, next_id, durable, crash_one_in, disturbances, cover };
    history.judge.look(&mut history.system)?;
    history.live()?;
    history.end()
}

impl History<'_> {
    fn live(&mut self) -> Result<(), String> {
        let steps = 30 + self.rng.below(330);
        // Slow messages or quick ones; quiet merchants or busy ones.
        let (patience, trouble) = (self.rng.pick(&[2, 5, 9]), self.rng.pick(&[0, 1, 3]));
        for step in 0..steps {
            if self.crash_one_in > 0 && self.rng.one_in(self.crash_one_in) {
                self.crash()?;
            }
            let crowded = self.crowd != Crowd::Vanishing || step < steps / 3;
            match self.rng.below(14) {
                n if n < patience => self.deliver_some()?,
                9..=11 if crowded => self.demand()?,
                12 => self.return_one()?,
                13 if self.rng.below(4) < trouble => self.merchant()?,
                _ => self.durable += self.rng.below(self.system.bus.log.len() - self.durable + 1),
            }
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        self.judge.look(&mut self.system)
    }

    fn deliver_some(&mut self) -> Result<(), String> {
        for _ in 0..1 + self.rng.below(2 * self.cores) {
            if self.system.letters() == 0 {
                break;
            }
            let which = self.rng.below(self.system.letters());
            self.system.deliver(which);
            self.cover.deliveries += 1;
            self.look()?;
        }
        Ok(())
    }

    fn demand(&mut self) -> Result<(), String> {
        match self.crowd {
            Crowd::Everywhere | Crowd::Vanishing => {
                for _ in 0..1 + self.rng.below(8) {
                    let core = self.rng.below(self.cores);
                    self.buy(core)?;
                }
            }
            Crowd::AtOneCore => self.buy(self.at)?,
            Crowd::InBursts => {
                let (core, buyers) = (self.rng.below(self.cores), 1 + self.rng.below(30));
                (0..buyers).try_for_each(|_| self.buy(core))?;
            }
            Crowd::Wandering => {
                if self.rng.one_in(8) {
                    self.at = self.rng.below(self.cores);
                }
                self.buy(self.at)?;
            }
        }
        Ok(())
    }

    fn buy(&mut self, core: usize) -> Result<(), String> {
        let units = if self.rng.one_in(6) { 1 + self.rng.below(4) as u64 } else { 1 };
        self.buy_units(core, units)
    }

    fn buy_units(&mut self, core: usize, units: u64) -> Result<(), String> {
        let id = self.new_id();
        self.judge.buys(id, core, units);
        self.system.buy(core, Purchase { id, units });
        self.look()
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// An order is cancelled or expires: any that holds units, at any core.
    fn return_one(&mut self) -> Result<(), String> {
        let live = self.judge.live();
        if live.is_empty() {
            return Ok(());
        }
        let which = self.rng.below(live.len());
        let (&order, &units) = live.iter().nth(which).expect("below their number");
        self.system.give_back(self.rng.below(self.cores), order, units);
        self.cover.returns += 1;
        self.disturbances += 1;
        self.look()
    }

    fn merchant(&mut self) -> Result<(), String> {
        self.disturbances += 1;
        let units = 1 + self.rng.below(20) as u64;
        let claim = self.new_id();
        let System { owner, bus, .. } = &mut self.system;
        match self.rng.below(4) {
            0 => {
                self.cover.restocks += 1;
                owner.restock(units, bus);
            }
            1 => {
                self.cover.withdrawals += 1;
                self.judge.claims(claim, units);
                owner.withdraw(claim, units, bus);
            }
            2 => {
                self.cover.pauses += 1;
                self.judge.claims(claim, 0);
                owner.pause(claim, bus);
            }
            _ => {
                owner.resume(bus);
            }
        }
        self.look()
    }

    /// The process dies at this step; any prefix from what was durable on may have landed.
    fn crash(&mut self) -> Result<(), String> {
        let written = self.system.bus.log.len();
        let kept = self.durable.max(1) + self.rng.below(written - self.durable.max(1) + 1);
        self.cover.crashes += 1;
        self.cover.facts_lost += (written - kept) as u64;
        self.cover.crashes_with_leases += u64::from(self.system.units() > self.system.owner.pool());
        if self.rng.one_in(3) {
            self.cores = self.rng.pick(&[1, 2, 3, 7, 16]);
            self.at %= self.cores;
        }
        self.disturbances += 1;
        self.system.crash(kept, self.cores)?;
        self.durable = kept;
        self.judge.crashed(&mut self.system)
    }

    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            if self.system.letters() == 0 {
                return self.judge.rests(&self.system);
            }
            self.deliver_some()?;
        }
        Err("it never comes to rest".to_owned())
    }

    /// Everything is delivered, pauses end; then one buyer after the other, at one core, until
    /// the first is told that it is sold out: by then everything must be.
    fn end(&mut self) -> Result<(), String> {
        self.settle()?;
        self.system.owner.resume(&mut self.system.bus);
        self.settle()?;
        let (core, left) = (self.rng.below(self.cores), self.judge.available());
        let before = self.judge.told;
        for _ in 0..=left {
            self.buy_units(core, 1)?;
            self.settle()?;
        }
        let told = self.judge.told;
        let (sold, sold_out) = (told.sold - before.sold, told.sold_out - before.sold_out);
        if (sold, sold_out, self.judge.available()) != (left, 1, 0) {
            return Err(format!("undersell: of {left} units {sold} were sold, {sold_out} told sold out"));
        }
        self.check_messages()?;
        self.cover.facts += self.system.bus.log.len() as u64;
        self.cover.last_units += left;
        self.add_up();
        Ok(())
    }

    /// Everything is called in only when units are wanted that the pool does not have. Then
    /// either some are found and granted, or it is known that there are too few: until the next
    /// grant or disturbance.
    fn check_messages(&self) -> Result<(), String> {
        let Counts { grants, collects, asks, .. } = self.system.bus.counts;
        let max = grants + self.disturbances;
        if collects > max {
            return Err(format!(
                "messages: {collects} collects for {grants} grants, {asks} asks, above {max}"
            ));
        }
        Ok(())
    }

    fn add_up(&mut self) {
        let (told, counts) = (self.judge.told, self.system.bus.counts);
        let sum = &mut self.cover.told;
        sum.sold += told.sold;
        sum.sold_out += told.sold_out;
        sum.busy += told.busy;
        sum.paused += told.paused;
        sum.stock_in_use += told.stock_in_use;
        let sum = &mut self.cover.counts;
        sum.messages += counts.messages;
        sum.asks += counts.asks;
        sum.grants += counts.grants;
        sum.recalls += counts.recalls;
        sum.collects += counts.collects;
        sum.leases_logged += counts.leases_logged;
    }
}
