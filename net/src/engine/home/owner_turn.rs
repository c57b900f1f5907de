//! One turn of a core's owner: it serves all homes and the exporter, a share each.
//!
//! Next: [`crate::engine::turns`] for the order in which they are served.

use stampede_core::types::UnixMillis;

use crate::engine::ask::{Ask, Reply, ReplyTo};
use crate::engine::batch::Chunk;
use crate::engine::mesh::Endpoint;
use crate::engine::owner::Owner;
use crate::engine::turns::Peers;

/// The peers of an owner: the homes, including this core's own, and after them the exporter.
pub(super) struct Asking<'a> {
    pub(super) now: UnixMillis,
    pub(super) owner: &'a mut Owner,
    pub(super) mesh: &'a mut Endpoint,
    pub(super) cut: &'a mut [Option<(ReplyTo, Box<Chunk>)>],
}

impl Asking<'_> {
    /// Decides records of a chunk; it goes back when all are decided, or when there is no room for the next.
    fn decide_chunk(&mut self, home: usize, to: ReplyTo, mut chunk: Box<Chunk>, most: usize) -> usize {
        let decided = self.owner.decide_chunk(self.now, &mut chunk, most);
        if chunk.is_decided() || chunk.busy.is_some() {
            self.mesh.reply(home, to, Reply::Batch(chunk));
        } else {
            self.cut[home] = Some((to, chunk));
        }
        decided.max(1)
    }

    fn serve_home(&mut self, home: usize, most: usize) -> usize {
        let mut served = 0;
        while served < most {
            let left = most - served;
            if let Some((to, chunk)) = self.cut[home].take() {
                served += self.decide_chunk(home, to, chunk, left);
                continue;
            }
            served += match self.mesh.next_ask(home) {
                None => break,
                Some((to, Ask::Batch(chunk))) => self.decide_chunk(home, to, chunk, left),
                Some((to, ask)) => {
                    let reply = self.owner.answer(self.now, &ask);
                    self.mesh.reply(home, to, reply);
                    1
                }
            };
        }
        served
    }

    fn serve_outside(&mut self, most: usize) -> usize {
        let mut served = 0;
        while served < most
            && let Some(ask) = self.mesh.next_outside()
        {
            self.owner.answer_outside(self.now, ask);
            served += 1;
        }
        served
    }
}

impl Peers for Asking<'_> {
    fn count(&self) -> usize {
        self.mesh.cores() + 1
    }
    fn waits(&self, peer: usize) -> bool {
        match self.cut.get(peer) {
            Some(cut) => cut.is_some() || self.mesh.has_ask(peer),
            None => self.mesh.has_outside(),
        }
    }
    fn serve(&mut self, peer: usize, most: usize) -> usize {
        if peer < self.cut.len() { self.serve_home(peer, most) } else { self.serve_outside(most) }
    }
}
