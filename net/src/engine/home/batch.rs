//! `POST /v1/orders/batch`: many purchases and movements in one request of a trusted gateway.
//!
//! The head is checked first; a refusal there closes the connection before any record is read. Then
//! records are taken as they arrive, each checked as a single purchase would be (eligibility, window,
//! the item's rate, ticket, sold out), and sent to their owners in chunks. The gateway limits its own
//! buyers and addresses. All answers leave together once the last of them is durable. Backpressure:
//! while a client does not read or an owner does not keep up, no further record is taken. See [`crate::engine::batch`].

use std::sync::Arc;

use stampede_core::admit::{Buyer, admit};
use stampede_core::types::Lsn;

use super::open_batches::{Batch, Intake, Lane, NO_RECORD, Outgoing, Taken};
use super::state::{Caller, Client, Handled, Home, OUT_BYTES_MAX};
use crate::engine::ask::{Ask, Busy, ConnId, ReplyTo};
use crate::engine::batch::{
    BATCHES_MAX, BATCHES_PER_CONNECTION_MAX, BatchAnswers, Chunk, PATIENCE_MS, RecordOp,
};
use crate::engine::counters::Count;
use crate::engine::response::{RequestKind, Response};
use crate::engine::shared::Shared;
use crate::http::answer::{Answer, Cache, Media, ResponseMode, Status};
use crate::http::batch::answer::RecordAnswer;
use crate::http::batch::{Decoder, Format, Purchase, Record, Step, answer};
use crate::http::conn::Left;
use crate::http::limits::BATCH_RECORDS_MAX;
use crate::http::problem::{Code, Problem};
use crate::identity::check_admin;

/// Answers written between two checks of how many bytes wait for the client.
const ANSWERS_AT_ONCE: usize = 128;

impl Home {
    /// Checks the head of a batch and begins to take its records.
    pub(super) fn batch(&mut self, caller: &mut Caller<'_>) -> Handled {
        let head = &caller.request.head;
        check_admin(head, self.shared.admin_token.as_bytes())?;
        let format = Format::of(head)?;
        if self.is_closed_for_business() {
            return Err(Code::Draining.problem());
        }
        if caller.request.streamed.is_none_or(|left| left == Left::Bytes(0)) {
            return Err(NO_RECORD);
        }
        if Arc::strong_count(&self.batches.alive) > BATCHES_MAX {
            return Err(Code::Overloaded.problem());
        }
        let lanes = (0..self.mesh.cores()).map(|_| Lane::default()).collect();
        let answers = self.batches.lists.pop().unwrap_or_default();
        let (conn, after, open) = (caller.conn, Lsn::ZERO, self.batches.alive.clone());
        let (missing, stuck_since_ms) = (0, None);
        let batch = Batch { conn, format, answers, missing, after, lanes, stuck_since_ms, open };
        let id = self.batches.last.wrapping_add(1);
        self.batches.last = id;
        self.batches.open.insert(id, Box::new(batch));
        self.count(Count::Batches);
        let (decoder, mode) = (Decoder::new(format), caller.mode);
        *caller.intake = Some(Intake { batch: id, decoder, mode, held: false });
        Ok(())
    }

    // ---- in ----

    /// Takes the records that have come in whole, as far as there is room for them.
    pub(super) fn take_records(&mut self, client: &mut Client) -> Taken {
        let Some(mut intake) = client.intake.take() else { return Taken::All };
        let id = intake.batch;
        let Some(mut batch) = self.batches.open.remove(&id) else { return Taken::All };
        if client.conn.is_finished() {
            // Cut off in the middle: what came in whole was decided, and nobody waits for it.
            self.batches.give_list(batch.answers);
            return Taken::All;
        }
        if std::mem::take(&mut intake.held) {
            client.conn.answered(self.now.mono_ms);
        }
        let taken = match client.owed_batches < BATCHES_PER_CONNECTION_MAX {
            true => self.take_some(id, &mut batch, &mut intake, client),
            false => Taken::Held,
        };
        intake.held = taken == Taken::Held;
        self.connections.hold(client.id, intake.held);
        if taken != Taken::All {
            self.batches.open.insert(id, batch);
            client.intake = Some(intake);
        }
        taken
    }

    fn take_some(&mut self, id: u32, batch: &mut Batch, intake: &mut Intake, client: &mut Client) -> Taken {
        let shared = self.shared.clone();
        let serving = !self.is_closed_for_business();
        loop {
            let left = client.conn.left();
            let is_over = left == Left::Bytes(0);
            if is_over && let Err(problem) = intake.finish(batch) {
                return self.break_off(intake, client, problem);
            }
            let is_full = batch.answers.len() == BATCH_RECORDS_MAX;
            let is_above = is_full && !is_over && intake.is_above(client.conn.piece(), left);
            if is_over || is_above {
                self.send_all(id, batch);
                // The next batch of the connection must not overtake what waits for an owner.
                if batch.missing > 0 {
                    return Taken::Held;
                }
                self.complete(batch, intake.mode, is_above, client);
                return Taken::All;
            }
            if batch.lanes.iter().any(Lane::is_blocked) {
                return Taken::Held;
            }
            // By reference: a copy right after its parts were written would wait for those writes.
            match &intake.decoder.next(client.conn.piece(), left) {
                Step::Record(record, len) => {
                    self.take_record(&shared, serving, id, batch, record);
                    client.conn.take(*len);
                }
                Step::Skip(len) => client.conn.take(*len),
                Step::NeedMore => {
                    if let Some(problem) = client.conn.broken() {
                        return self.break_off(intake, client, problem);
                    }
                    self.send_all(id, batch);
                    return Taken::NeedMore;
                }
                Step::Refused(problem) => {
                    let problem = *problem;
                    return self.break_off(intake, client, problem);
                }
            }
        }
    }

    /// Refuses a batch with a malformed body. Records of a chunked body may have been decided before that, as
    /// of a body that is cut off; the client learns nothing about them.
    fn break_off(&mut self, intake: &Intake, client: &mut Client, problem: Problem) -> Taken {
        self.refuse(client.id, &mut client.out, intake.mode.closing(), problem);
        client.conn.finish();
        Taken::All
    }

    /// All records are decided, or as many as a batch may have: the answers wait for the log, the connection
    /// goes on.
    fn complete(&mut self, batch: &mut Batch, mode: ResponseMode, is_above: bool, client: &mut Client) {
        let mode = if is_above { mode.closing() } else { mode };
        if is_above {
            client.conn.finish();
        }
        self.counters().add_many(Count::BatchRecords, batch.answers.len() as u64);
        let (format, answers) = (batch.format, std::mem::take(&mut batch.answers));
        let response = BatchAnswers { format, answers, written: 0, _open: batch.open.clone() };
        let limits = (batch.after, self.shared.shown_lsn());
        let slot = self.connections.open_slot(client.id, mode, RequestKind::Other);
        self.connections.fill(client.id, slot, self.core, limits, Response::Batch(Box::new(response)));
        client.owed_batches += 1;
    }

    fn take_record(
        &mut self,
        shared: &Shared,
        serving: bool,
        id: u32,
        batch: &mut Batch,
        record: &Result<Record<'_>, Code>,
    ) {
        let index = batch.answers.len() as u32;
        batch.answers.push(RecordAnswer::Open);
        let checked = match record {
            Err(code) => Err(RecordAnswer::code(*code)),
            Ok(_) if !serving => Err(RecordAnswer::code(Code::Draining)),
            Ok(Record::Purchase(purchase)) => {
                self.check_purchase(shared, purchase).map(|op| (op, purchase.subject, purchase.key))
            }
            Ok(Record::Move { order, movement, reference }) => {
                Ok((RecordOp::Move(*order, *movement), &[][..], *reference))
            }
        };
        let (op, subject, reference) = match checked {
            Ok(wanted) => wanted,
            Err(refused) => return batch.answers[index as usize] = refused,
        };
        let item = match op {
            RecordOp::Purchase { item, .. } => item,
            RecordOp::Move(order, _) => order.item(),
        };
        let owner = item.owner(self.mesh.cores());
        batch.missing += 1;
        let chunk = batch.lanes[owner].filling.get_or_insert_with(|| self.batches.spare_chunk());
        chunk.push(index, op, subject, reference);
        if chunk.is_full() {
            self.send(id, batch, owner);
        }
    }

    /// The checks of a purchase that the home can do by itself, in the order of a single purchase's.
    fn check_purchase(&mut self, shared: &Shared, purchase: &Purchase<'_>) -> Result<RecordOp, RecordAnswer> {
        let gauge = shared.catalogue.find(purchase.item).ok_or(RecordAnswer::code(Code::NotFound))?;
        let hash = shared.secret.buyer(purchase.subject);
        let blocked = self.owner.shard().is_blocked(hash);
        let buyer = Buyer { hash, level: purchase.level, since_s: purchase.since_s, blocked };
        let (now, limits) = (self.now, &mut self.limits);
        let rate = || limits.rate_item(gauge, now.mono_ms);
        let check = || shared.gate.tickets.check(gauge, purchase.ticket, purchase.subject, now.sale);
        match admit(now.sale, gauge, &buyer, rate, check) {
            Ok(ticket) => {
                let (item, quantity) = (purchase.item, purchase.quantity);
                Ok(RecordOp::Purchase { item, buyer: hash, quantity, ticket })
            }
            Err(refusal) => {
                self.count(Count::RefusedEarly);
                Err(RecordAnswer::refused(refusal))
            }
        }
    }

    // ---- to the owners and back ----

    fn send_all(&mut self, id: u32, batch: &mut Batch) {
        (0..batch.lanes.len()).for_each(|owner| self.send(id, batch, owner));
    }

    /// Sends what waits for an owner, unless it has a chunk already.
    fn send(&mut self, id: u32, batch: &mut Batch, owner: usize) {
        let lane = &mut batch.lanes[owner];
        if lane.under_way || !self.mesh.may_ask(owner) {
            let waits = !lane.under_way && (lane.stuck.is_some() || lane.filling.is_some());
            if waits && !self.batches.stuck.contains(&id) {
                self.batches.stuck.push(id);
            }
            return;
        }
        let Some(mut chunk) = lane.stuck.take().or_else(|| lane.filling.take()) else { return };
        self.needs_flush = true;
        if owner == self.core && !self.somebody_waits() {
            self.owner.decide_chunk(self.now.sale, &mut chunk, usize::MAX);
            self.owner.flush();
            self.settle(id, batch, owner, chunk);
        } else {
            lane.under_way = true;
            if owner != self.core {
                self.count(Count::Hops);
            }
            let asked = self.mesh.ask(owner, ReplyTo::Batch(id), Ask::Batch(chunk));
            debug_assert!(asked, "room was made sure of");
        }
    }

    /// Copies the answers of a chunk into the batch, and puts the undecided rest back into its lane.
    fn settle(&mut self, id: u32, batch: &mut Batch, owner: usize, mut chunk: Box<Chunk>) {
        let impatient = |since_ms: u64| self.now.mono_ms >= since_ms + PATIENCE_MS;
        match chunk.busy {
            Some(Busy::LogFull) => chunk.refuse_rest(Code::LogFull),
            Some(Busy::Overloaded) if batch.stuck_since_ms.is_some_and(impatient) => {
                chunk.refuse_rest(Code::Overloaded);
            }
            _ => {}
        }
        let settled = chunk.settle(&mut batch.answers);
        batch.missing -= settled;
        batch.after = batch.after.max(chunk.after);
        if settled > 0 {
            batch.stuck_since_ms = None;
        }
        if chunk.is_decided() {
            return self.batches.give_chunk(chunk);
        }
        batch.stuck_since_ms.get_or_insert(self.now.mono_ms);
        batch.lanes[owner].stuck = Some(chunk);
        if !self.batches.stuck.contains(&id) {
            self.batches.stuck.push(id);
        }
    }

    /// A chunk has come back from an owner.
    pub(super) fn batch_reply(&mut self, owner: usize, id: u32, chunk: Box<Chunk>) {
        let Some(mut batch) = self.batches.open.remove(&id) else {
            return self.batches.give_chunk(chunk);
        };
        batch.lanes[owner].under_way = false;
        self.settle(id, &mut batch, owner, chunk);
        if batch.lanes[owner].stuck.is_none() {
            self.send(id, &mut batch, owner);
        }
        self.go_on(batch.conn);
        self.batches.open.insert(id, batch);
    }

    /// Retries owners that had no room; called when the log has advanced, and with each tick. A batch that
    /// made progress and is stuck again goes to the end of the line.
    pub(super) fn retry_batches(&mut self) {
        let mut served = 0;
        for id in std::mem::take(&mut self.batches.stuck) {
            let Some(mut batch) = self.batches.open.remove(&id) else { continue };
            let missing = batch.missing;
            self.send_all(id, &mut batch);
            if batch.missing < missing && self.batches.stuck.last() == Some(&id) {
                served = self.batches.stuck.len();
            }
            self.go_on(batch.conn);
            self.batches.open.insert(id, batch);
        }
        self.batches.stuck.rotate_left(served);
    }

    fn go_on(&mut self, conn: ConnId) {
        self.connections.hold(conn, false);
        self.connections.wake(conn);
    }

    /// Drops batches whose connection is closed; the sweep calls it.
    pub(super) fn sweep_batches(&mut self) {
        let connections = &mut self.connections;
        self.batches.open.retain(|_, batch| connections.knows(batch.conn));
    }

    // ---- out ----

    /// Begins the response to a batch.
    pub(super) fn begin_answers(
        &mut self,
        client: &mut Client,
        answers: Box<BatchAnswers>,
        mode: ResponseMode,
    ) {
        let BatchAnswers { format, answers: list, .. } = &*answers;
        let media = if *format == Format::Binary { Media::Batch } else { Media::Lines };
        let len = answer::body_len(*format, list);
        client.out.reserve(len.min(OUT_BYTES_MAX) + OUT_BYTES_MAX / 8);
        Answer::begin(&mut client.out, Status::Ok, Cache::Never, mode, &self.date).body_follows(media, len);
        answer::begin(&mut client.out, *format, list.len());
        self.count_answers(list);
        client.outgoing = Some(Outgoing { answers, mode });
    }

    /// Writes more of the answers; false if the rest has to wait for the client to read.
    pub(super) fn write_answers(&mut self, client: &mut Client) -> bool {
        let Some(outgoing) = &mut client.outgoing else { return true };
        let answers = &mut *outgoing.answers;
        while answers.written < answers.answers.len() {
            if client.out.len() >= OUT_BYTES_MAX {
                return false;
            }
            let until = (answers.written + ANSWERS_AT_ONCE).min(answers.answers.len());
            answer::write(&mut client.out, answers.format, &answers.answers[answers.written..until]);
            answers.written = until;
        }
        client.closing |= outgoing.mode.closes();
        client.owed_batches -= 1;
        let list = std::mem::take(&mut answers.answers);
        client.outgoing = None;
        self.batches.give_list(list);
        true
    }

    fn count_answers(&self, list: &[RecordAnswer]) {
        let (mut placed, mut replayed, mut moved) = (0, 0, 0);
        for answer in list {
            match answer {
                RecordAnswer::Order { replay: true, .. } => replayed += 1,
                RecordAnswer::Order { status: 200, .. } => moved += 1,
                RecordAnswer::Order { .. } => placed += 1,
                RecordAnswer::Refused { code, .. } => self.counters().refused(*code),
                RecordAnswer::Open => {}
            }
        }
        let counts = [(Count::Placed, placed), (Count::Replayed, replayed), (Count::Moved, moved)];
        counts.iter().for_each(|&(count, more)| self.counters().add_many(count, more));
    }
}
