//! One owner, its holders and what is between them: messages in any order, a log, a crash.

use super::board::Board;
use super::facts::{Books, Fact};
use super::holder::{Holder, Purchase};
use super::owner::Owner;

/// Everything that cores say to each other about an item.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// A core has a buyer who wants so many, or (zero) would like more in advance.
    Ask { core: usize, want: u64 },
    /// All that a core had, after a recall.
    Yield { round: u64, units: u64 },
    /// Units for a core, perhaps none.
    Grant { units: u64 },
    /// The whole system had just so many, which is fewer than were wanted.
    Dry { available: u64 },
    /// Yield everything, once so many grants have arrived.
    Recall { round: u64, grants_sent: u64, epoch: u64 },
    /// A pause is over.
    Resume { epoch: u64 },
}

/// Whether leases are in the log: see [`super::facts`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Keeping {
    Volatile,
    Logged,
}

/// What a buyer is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Sold,
    SoldOut,
    /// Come again: too many wait at this core.
    Busy,
    Paused,
}

/// What the merchant is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ClaimAnswer {
    Done,
    StockInUse { available: u64 },
}

/// Mistakes that have to be noticed; one at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// A replay books a lease at its core and leaves it in the pool.
    LeaseCountedTwice,
    /// A unit that comes back while its core is called in is dropped.
    ReturnLost,
    /// The owner refuses as soon as its own pool is empty.
    NeighboursForgotten,
    /// The owner does not look whether something came back while it called everything in.
    CountIgnored,
    /// A core yields while a grant is on its way to it.
    GrantsOvertaken,
    /// A unit that comes back leaves the sold-out mark as it is.
    MarkStays,
    /// The pause stands before the cores have yielded.
    PausedTooEarly,
    /// A start with fewer cores takes in what the others held, and writes nothing of it.
    TakenInUnlogged,
}

impl Bug {
    pub(crate) const ALL: [Self; 8] = [
        Self::LeaseCountedTwice,
        Self::ReturnLost,
        Self::NeighboursForgotten,
        Self::CountIgnored,
        Self::GrantsOvertaken,
        Self::MarkStays,
        Self::PausedTooEarly,
        Self::TakenInUnlogged,
    ];

    /// What the judge may say of it.
    pub(crate) fn signs(self) -> &'static [&'static str] {
        match self {
            Self::LeaseCountedTwice | Self::ReturnLost => &["conservation"],
            Self::NeighboursForgotten | Self::CountIgnored | Self::GrantsOvertaken => &["sold out", "in use"],
            Self::MarkStays => &["sold out", "undersell"],
            Self::PausedTooEarly => &["paused"],
            Self::TakenInUnlogged => &["replay"],
        }
    }
}

/// To whom a message goes.
#[derive(Clone, Copy, Debug)]
enum To {
    Owner,
    Core(usize),
}

/// Messages sent, of each kind. Those between the owner and the holder on its own core (0) cost
/// no hop and are not counted.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) asks: u64,
    pub(crate) grants: u64,
    pub(crate) recalls: u64,
    pub(crate) collects: u64,
    pub(crate) leases_logged: u64,
}

/// What a step may touch besides its own core.
#[derive(Debug)]
pub(crate) struct Bus {
    pub(crate) board: Board,
    pub(crate) log: Vec<Fact>,
    pub(crate) keeping: Keeping,
    pub(crate) bug: Option<Bug>,
    pub(crate) counts: Counts,
    pub(crate) answers: Vec<(u64, Answer)>,
    pub(crate) claim_answers: Vec<(u64, ClaimAnswer)>,
    letters: Vec<(To, Message)>,
    /// Units in letters.
    in_flight: u64,
}

impl Bus {
    pub(crate) fn append(&mut self, fact: Fact) {
        self.counts.leases_logged += u64::from(matches!(fact, Fact::Leased { .. } | Fact::Yielded { .. }));
        self.log.push(fact);
    }
    pub(crate) fn answer(&mut self, purchase: u64, answer: Answer) {
        self.answers.push((purchase, answer));
    }
    pub(crate) fn answer_claim(&mut self, claim: u64, answer: ClaimAnswer) {
        self.claim_answers.push((claim, answer));
    }
    pub(crate) fn tell_owner(&mut self, message: Message) {
        if let Message::Yield { units, .. } = message {
            self.in_flight += units;
        }
        self.counts.asks += u64::from(matches!(message, Message::Ask { .. }));
        self.letters.push((To::Owner, message));
    }
    pub(crate) fn tell_core(&mut self, core: usize, message: Message) {
        if let Message::Grant { units } = message {
            self.in_flight += units;
            self.counts.grants += u64::from(units > 0);
        }
        self.counts.recalls += u64::from(matches!(message, Message::Recall { .. }));
        // A question and its answer, both counted here; a resume has none.
        let hops = if matches!(message, Message::Resume { .. }) { 1 } else { 2 };
        self.counts.messages += if core == 0 { 0 } else { hops };
        self.letters.push((To::Core(core), message));
    }
}

/// The whole of it.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) bus: Bus,
    pub(crate) owner: Owner,
    pub(crate) holders: Vec<Holder>,
    parked_max: usize,
}

impl System {
    /// An item with so many units, all in the pool.
    pub(crate) fn new(
        cores: usize,
        stock: u64,
        parked_max: usize,
        keeping: Keeping,
        bug: Option<Bug>,
    ) -> Self {
        let bus = Bus {
            board: Board::default(),
            log: vec![Fact::Granted { units: stock }],
            keeping,
            bug,
            counts: Counts::default(),
            answers: Vec::new(),
            claim_answers: Vec::new(),
            letters: Vec::new(),
            in_flight: 0,
        };
        let holders = (0..cores).map(|core| Holder::new(core, parked_max, 0, 0)).collect();
        Self { bus, owner: Owner::new(cores, stock, false), holders, parked_max }
    }

    /// The process dies; the first `kept` facts were durable. It comes back with `cores` cores.
    ///
    /// # Errors
    /// When the log cannot be replayed.
    pub(crate) fn crash(&mut self, kept: usize, cores: usize) -> Result<(), String> {
        let bus = &mut self.bus;
        bus.log.truncate(kept);
        let mut books = Books::replay(&bus.log, bus.keeping, bus.bug)?;
        let is_logged = bus.keeping == Keeping::Logged && bus.bug != Some(Bug::TakenInUnlogged);
        books.take_in(cores, &mut |fact| {
            if is_logged {
                bus.append(fact);
            }
        });
        bus.board = Board::default();
        bus.letters.clear();
        bus.in_flight = 0;
        self.owner = Owner::new(cores, books.pool, books.paused);
        let holder = |(core, &lease)| Holder::new(core, self.parked_max, lease, u64::from(books.paused));
        self.holders = books.leases.iter().enumerate().map(holder).collect();
        Ok(())
    }

    /// Units available anywhere: in the pool, in leases, in messages.
    pub(crate) fn units(&self) -> u64 {
        let leased: u64 = self.holders.iter().map(Holder::lease).sum();
        self.owner.pool() + leased + self.bus.in_flight
    }

    /// Messages under way.
    pub(crate) fn letters(&self) -> usize {
        self.bus.letters.len()
    }

    /// Delivers one of the messages under way; `which` is below their number.
    pub(crate) fn deliver(&mut self, which: usize) {
        let (to, message) = self.bus.letters.swap_remove(which);
        if let Message::Yield { units, .. } | Message::Grant { units } = message {
            self.bus.in_flight -= units;
        }
        match to {
            To::Owner => self.owner.receive(&message, &mut self.bus),
            To::Core(core) => self.holders[core].receive(&message, &mut self.bus),
        }
    }

    /// Delivers all that are under way now, in the order in which they were sent, and not what
    /// they cause: one round of all cores' loops.
    pub(crate) fn deliver_round(&mut self) {
        for (to, message) in std::mem::take(&mut self.bus.letters) {
            self.bus.letters.push((to, message));
            self.deliver(self.bus.letters.len() - 1);
        }
    }

    /// A purchase arrives at a core.
    pub(crate) fn buy(&mut self, core: usize, purchase: Purchase) {
        self.holders[core].buy(purchase, &mut self.bus);
    }

    /// An order ends at a core; its units come back there.
    pub(crate) fn give_back(&mut self, core: usize, order: u64, units: u64) {
        self.holders[core].give_back(order, units, &mut self.bus);
    }

    /// Whether nobody waits anywhere.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.bus.letters.is_empty() && self.owner.is_at_rest() && self.holders.iter().all(Holder::is_at_rest)
    }
}
