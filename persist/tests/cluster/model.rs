//! Three nodes over a network that loses and delays, in memory: whatever order things happen in, there is one history,
//! and whoever was told yes is in it.

use proptest::prelude::*;
use stampede_core::types::Lsn;
use stampede_persist::cluster::{
    Block, ClusterError, Faults, LeaderRecord, Ledger as _, MemoryCluster, MemoryStore, Position,
    Registry as _, Swap,
};

use crate::bed::{candidate, record};

const NODES: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// The node appends what it has, if it believes that it leads.
    Append(usize),
    /// The node tries to lead.
    TakeOver(usize),
    /// A request that is under way arrives.
    Arrives(usize),
    /// All of them are lost.
    Lost,
    /// The node trims, if it believes that it leads.
    Trim(usize),
    /// The node is cut off, or joined again.
    Cut(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..NODES;
    prop_oneof![
        8 => node.clone().prop_map(Step::Append),
        3 => node.clone().prop_map(Step::TakeOver),
        3 => any::<usize>().prop_map(Step::Arrives),
        1 => Just(Step::Lost),
        1 => node.clone().prop_map(Step::Trim),
        1 => (node, any::<bool>()).prop_map(|(node, is_cut)| Step::Cut(node, is_cut)),
    ]
}

struct Node {
    store: MemoryStore,
    leads: Option<(LeaderRecord, Position)>,
    /// A block whose append was not answered.
    pending: Option<Block>,
}

struct World {
    cluster: MemoryCluster,
    clean: MemoryStore,
    nodes: Vec<Node>,
    /// All blocks that ever were in the chain, in order.
    history: Vec<Block>,
    start: Position,
    /// Blocks of which a node was told that they were added; and that they were not.
    yes: Vec<Block>,
    no: Vec<Block>,
    draws: u8,
}

impl World {
    fn new(seed: u64, faults: (u16, u16, u16)) -> Self {
        let cluster = MemoryCluster::default();
        let mut clean = cluster.handle(None);
        clean.found(&record(1)).expect("made");
        let (lose_request, lose_answer, delay) = faults;
        let node = |n: usize| {
            let faults = Faults { seed: seed + n as u64, lose_request, lose_answer, delay };
            Node { store: cluster.handle_with(Some(record(1).id), faults), leads: None, pending: None }
        };
        let nodes = (0..NODES).map(node).collect();
        let start = Position::start_of(record(1).log_id);
        Self {
            cluster: cluster.clone(),
            clean,
            nodes,
            history: vec![],
            start,
            yes: vec![],
            no: vec![],
            draws: 0,
        }
    }

    fn end(&self) -> Position {
        self.history.last().map_or(self.start, Block::after)
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Append(n) => self.append(n),
            Step::TakeOver(n) => self.take_over(n),
            Step::Arrives(at) => {
                if let Some(at) = at.checked_rem(self.cluster.under_way()) {
                    self.cluster.deliver(at);
                }
            }
            Step::Lost => self.cluster.drop_under_way(),
            Step::Trim(n) => {
                let Node { store, leads, .. } = &mut self.nodes[n];
                if let (Some((leader, _)), Some(block)) = (leads, self.history.get(self.history.len() / 2)) {
                    drop(store.trim(leader, block.after()));
                }
            }
            Step::Cut(n, is_cut) => self.nodes[n].store.cut(is_cut),
        }
    }

    fn append(&mut self, n: usize) {
        let Node { store, leads, pending } = &mut self.nodes[n];
        let Some((leader, at)) = leads else { return };
        self.draws = self.draws.wrapping_add(1);
        let (last, bytes) = (Lsn(at.lsn.0 + 1), vec![n as u8, self.draws]);
        let made = || Block::new(leader.epoch, *at, last, bytes).expect("a block");
        let block = pending.take().unwrap_or_else(made);
        match store.append(leader, &block) {
            Ok(()) => {
                *at = block.after();
                self.yes.push(block);
            }
            Err(ClusterError::Unavailable(_)) => *pending = Some(block),
            Err(ClusterError::Fenced { kept, .. }) => {
                *leads = None;
                match kept {
                    Some(true) => self.yes.push(block),
                    Some(false) => self.no.push(block),
                    None => {}
                }
            }
            Err(error) => panic!("node {n}: {error}"),
        }
    }

    fn take_over(&mut self, n: usize) {
        self.draws = self.draws.wrapping_add(1);
        let node = &mut self.nodes[n];
        let Ok((old, _)) = node.store.leader() else { return };
        let Ok(Swap::Won(leader)) = node.store.swap(&old, &candidate(&format!("n{n}"), self.draws)) else {
            return;
        };
        // What it had under way as the leader of another epoch is for that epoch's end to judge.
        (node.leads, node.pending) = (None, None);
        if let Ok(tail) = node.store.seal(&leader) {
            assert_eq!(tail, self.history.last().map_or(self.start, Block::after), "sealed at the end");
            node.leads = Some((leader, tail));
        }
    }

    /// After each step: the chain has only grown, and everything that was said of it is so.
    fn judge(&mut self) {
        let more = self.clean.read(self.end(), 16).expect("what was there is still there");
        for block in more {
            let epoch = self.history.last().map_or(block.epoch(), Block::epoch);
            assert!(block.epoch() >= epoch, "epoch {} after {epoch}", block.epoch());
            self.history.push(block);
        }
        assert!(self.yes.iter().all(|block| self.history.contains(block)), "an acknowledged block is lost");
        assert!(!self.no.iter().any(|block| self.history.contains(block)), "a refused block was added");
        for (leader, at) in self.nodes.iter().filter_map(|node| node.leads.as_ref()) {
            let has = *at == self.start || self.history.iter().any(|block| block.after() == *at);
            assert!(has, "{leader:?} stands beside the chain");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn there_is_one_history_whatever_is_lost(
        seed in any::<u32>(),
        faults in (0..60_u16, 0..60_u16, 0..60_u16),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(u64::from(seed), faults);
        for step in &steps {
            world.take(step);
            world.judge();
        }
    }
}
