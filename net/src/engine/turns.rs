//! Fair scheduling: many peers wait for one server, and each gets a share in turn.
//!
//! An owner under load has more requests than one turn of its core may take. A loop that begins at the
//! first peer each time never reaches the last; then a buyer's chance depends on the core that the kernel
//! put the connection on. So each waiting peer gets an equal share of the budget, unused shares go to the
//! others in turn, and the next call begins after the peer that was served last. No I/O and no clock. Next:
//! `home/owner_turn.rs`, which serves like this.

/// The peers that wait, by number.
pub trait Peers {
    /// How many there are, waiting or not.
    fn count(&self) -> usize;
    /// Whether this peer has something waiting.
    fn waits(&self, peer: usize) -> bool;
    /// Serves up to `most` (at least one) of what this peer has waiting; returns how much, at least one if
    /// something waited. More than `most` only if one piece cannot be cut.
    fn serve(&mut self, peer: usize, most: usize) -> usize;
}

/// Whose turn it is.
#[derive(Default, Debug)]
pub struct Turns {
    next: usize,
}

impl Turns {
    /// Serves at most `budget`, in equal shares. Returns whether something still waits.
    pub fn serve(&mut self, peers: &mut impl Peers, budget: usize) -> bool {
        let mut left = budget;
        loop {
            let count = peers.count();
            let waiting = (0..count).filter(|&peer| peers.waits(peer)).count();
            if waiting == 0 || left == 0 {
                return waiting > 0;
            }
            let (share, first) = ((left / waiting).max(1), self.next);
            for peer in (first..count).chain(0..first.min(count)) {
                if left == 0 {
                    break;
                }
                if peers.waits(peer) {
                    left = left.saturating_sub(peers.serve(peer, share.min(left)));
                    self.next = (peer + 1) % count;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits per peer, what was served, and the size of a piece that cannot be cut.
    struct Crowd {
        waiting: Vec<usize>,
        served: Vec<usize>,
        piece: usize,
    }

    impl Crowd {
        fn new(waiting: &[usize], piece: usize) -> Self {
            Self { waiting: waiting.to_vec(), served: vec![0; waiting.len()], piece }
        }
        fn ratio(&self) -> f64 {
            let (most, least) = (self.served.iter().max().unwrap(), self.served.iter().min().unwrap());
            *most as f64 / *least as f64
        }
    }

    impl Peers for Crowd {
        fn count(&self) -> usize {
            self.waiting.len()
        }
        fn waits(&self, peer: usize) -> bool {
            self.waiting[peer] > 0
        }
        fn serve(&mut self, peer: usize, most: usize) -> usize {
            let served = self.waiting[peer].min(most.max(self.piece));
            self.waiting[peer] -= served;
            self.served[peer] += served;
            served
        }
    }

    #[test]
    fn waiting_peers_have_equal_shares_for_any_number_of_peers() {
        for peers in [1, 2, 3, 5, 16, 17, 64, 65, 127, 128, 129, 200] {
            let (mut crowd, mut turns) = (Crowd::new(&vec![1 << 20; peers], 1), Turns::default());
            for _ in 0..1_000 {
                let before: usize = crowd.served.iter().sum();
                assert!(turns.serve(&mut crowd, 128));
                assert_eq!(crowd.served.iter().sum::<usize>() - before, 128, "{peers} peers");
            }
            assert!(crowd.ratio() <= 1.01, "{peers} peers: {:?}", crowd.served);
        }
    }

    #[test]
    fn unused_shares_go_to_the_others() {
        let (mut crowd, mut turns) = (Crowd::new(&[3, 0, 1_000, 1_000], 1), Turns::default());
        assert!(turns.serve(&mut crowd, 128));
        assert_eq!(crowd.served.iter().sum::<usize>(), 128);
        assert_eq!((crowd.served[0], crowd.served[1]), (3, 0));
        assert!(crowd.served[2].abs_diff(crowd.served[3]) <= 1, "{:?}", crowd.served);
        let (mut crowd, mut turns) = (Crowd::new(&[3, 0, 7], 1), Turns::default());
        assert!(!turns.serve(&mut crowd, 128));
        assert_eq!(crowd.served, [3, 0, 7]);
        assert!(!turns.serve(&mut Crowd::new(&[], 1), 128));
    }

    #[test]
    fn a_piece_that_cannot_be_cut_starves_no_peer() {
        let (mut crowd, mut turns) = (Crowd::new(&[1 << 20; 64], 100), Turns::default());
        (0..640).for_each(|_| assert!(turns.serve(&mut crowd, 128)));
        assert!(crowd.ratio() <= 1.1, "{:?}", crowd.served);
    }

    #[test]
    fn a_late_peer_waits_for_one_round_at_most() {
        let (mut crowd, mut turns) = (Crowd::new(&[1 << 20; 8], 1), Turns::default());
        crowd.waiting[7] = 0;
        assert!(turns.serve(&mut crowd, 4));
        crowd.waiting[7] = 1;
        (0..2).for_each(|_| assert!(turns.serve(&mut crowd, 4)));
        assert_eq!(crowd.waiting[7], 0);
    }
}
