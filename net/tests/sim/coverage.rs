//! What the histories have tried: faults by kind, and where each one struck.

use std::collections::BTreeMap;

use crate::sim_disk::{Op, Part};

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub(crate) enum $name { $($variant),+ }
        impl $name {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

named! {
    /// What goes wrong.
    Fault {
        PowerCut = "power cut",
        Kill = "kill",
        WriteFails = "EIO, ENOSPC",
        WriteTears = "torn write",
        ShortWrite = "short write",
        Misdirected = "misdirected write",
        Misread = "misdirected read",
        BitFlip = "bit flip",
        DiskSlow = "slow disk",
        DiskFull = "disk full",
        ClockBack = "clock an hour back",
        ClockAhead = "clock an hour ahead",
        CoresChange = "cores changed",
        TwoProcesses = "second process",
        TwoCopies = "two copies",
        Volatile = "log in memory",
        AnswerLost = "answer lost",
        DbDies = "database dies",
        DbAnswerLost = "  answer lost",
        DbStalls = "  stalls",
        DbComplains = "  complains",
        DbDown = "  down",
        DbKilled = "  sessions killed",
        DbRestored = "  old backup",
        DbEdited = "  row edited",
        DbDeleted = "  row deleted",
        DbLocked = "  row locked",
        DbRefuses = "  row refused",
        DbForgotten = "  not told of",
        DbDetached = "  detached",
        DbFilled = "  filled",
        DbPast = "  orders of before",
        DbAwaited = "  awaited",
    }
}

named! {
    /// Where the process stood.
    Step {
        Serve = "serve",
        Pump = "pump",
        Tick = "tick",
        Journal = "journal",
        Settle = "settle",
        Spare = "spare",
        Snapshot = "snapsh",
        Trim = "trim",
        Export = "export",
        Boot = "boot",
        Rest = "rest",
    }
}

/// Counts of many histories.
#[derive(Default, Clone)]
pub(crate) struct Coverage {
    pub(crate) histories: u64,
    pub(crate) requests: u64,
    pub(crate) acked: u64,
    pub(crate) facts: u64,
    pub(crate) lives: u64,
    pub(crate) refusals: u64,
    pub(crate) busy: u64,
    pub(crate) unwitnessed: u64,
    pub(crate) exported: u64,
    /// Faults by call of the database.
    calls: BTreeMap<(String, String), u64>,
    struck: BTreeMap<(Fault, Step), u64>,
    ops: BTreeMap<(Fault, Op, Part), u64>,
    answers: BTreeMap<(u16, String), u64>,
}

impl Coverage {
    pub(crate) fn struck(&mut self, fault: Fault, step: Step, at: Option<(Op, Part)>) {
        *self.struck.entry((fault, step)).or_default() += 1;
        if let Some((op, part)) = at {
            *self.ops.entry((fault, op, part)).or_default() += 1;
        }
    }
    pub(crate) fn database(&mut self, counts: &crate::sim_database::Counts) {
        for ((fault, call), count) in counts.injected() {
            *self.calls.entry((format!("{call:?}"), format!("{fault:?}"))).or_default() += count;
        }
    }
    pub(crate) fn answered(&mut self, status: u16, code: &str) {
        match self.answers.get_mut(&(status, String::new())) {
            Some(count) if code.is_empty() => *count += 1,
            _ => *self.answers.entry((status, code.to_owned())).or_default() += 1,
        }
    }
    pub(crate) fn crashes(&self) -> u64 {
        let dead = [Fault::PowerCut, Fault::Kill];
        self.struck.iter().filter(|((fault, _), _)| dead.contains(fault)).map(|(_, count)| count).sum()
    }
    pub(crate) fn merge(&mut self, other: Self) {
        self.histories += other.histories;
        self.requests += other.requests;
        self.acked += other.acked;
        self.facts += other.facts;
        self.lives += other.lives;
        self.refusals += other.refusals;
        self.busy += other.busy;
        self.unwitnessed += other.unwitnessed;
        self.exported += other.exported;
        other.calls.into_iter().for_each(|(key, count)| *self.calls.entry(key).or_default() += count);
        other.struck.into_iter().for_each(|(key, count)| *self.struck.entry(key).or_default() += count);
        other.ops.into_iter().for_each(|(key, count)| *self.ops.entry(key).or_default() += count);
        other.answers.into_iter().for_each(|(key, count)| *self.answers.entry(key).or_default() += count);
    }

    /// The tables, as text.
    pub(crate) fn tables(&self) -> String {
        let mut out = format!("{:<20}", "fault × step");
        Step::ALL.iter().for_each(|step| out += &format!("{:>9}", step.name()));
        out += &format!("{:>10}\n", "all");
        for fault in Fault::ALL {
            out += &format!("{:<20}", fault.name());
            let mut all = 0;
            for step in Step::ALL {
                let count = self.struck.get(&(*fault, *step)).copied().unwrap_or(0);
                all += count;
                out += &format!("{:>9}", if count == 0 { "·".to_owned() } else { count.to_string() });
            }
            out += &format!("{all:>10}\n");
        }
        out += &self.op_table();
        out += &self.call_table();
        out += "\nanswers:";
        for ((status, code), count) in &self.answers {
            out += &format!(" {status} {code} {count}");
            out += ";";
        }
        out + "\n"
    }

    fn call_table(&self) -> String {
        let calls: std::collections::BTreeSet<_> = self.calls.keys().map(|(call, _)| call).collect();
        let mut out = String::from("\ncalls of the database hit, by what:\n");
        for call in calls {
            out += &format!("{call:<26}");
            for ((_, fault), count) in self.calls.iter().filter(|((of, _), _)| of == call) {
                out += &format!("  {fault} {count}");
            }
            out += "\n";
        }
        out
    }

    fn op_table(&self) -> String {
        let columns: std::collections::BTreeSet<_> =
            self.ops.keys().map(|(_, op, part)| (*op, *part)).collect();
        let mut out = String::from("\ndisk operations hit, by what:\n");
        for (op, part) in columns {
            out += &format!("{:<26}", format!("{op:?} {part:?}"));
            for fault in Fault::ALL {
                if let Some(count) = self.ops.get(&(*fault, op, part)) {
                    out += &format!("  {} {count}", fault.name());
                }
            }
            out += "\n";
        }
        out
    }
}
