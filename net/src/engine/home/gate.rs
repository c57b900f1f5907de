//! The endpoints before a purchase: challenges and tickets.
//!
//! The home core answers them alone. Order of checks: body, identity, blocklist and eligibility,
//! window, rate, sold out, challenge. Before the opening nothing is issued and no rate is
//! charged.

use stampede_core::admit::{Buyer, eligible, stock, window};
use stampede_core::gauge::Gauge;
use stampede_core::types::{ItemId, Subject};

use super::state::{Caller, Handled, Home};
use crate::engine::counters::Count;
use crate::engine::render::problem_of;
use crate::engine::response::RequestKind;
use crate::gate::Asker;
use crate::gate::address::AddressKey;
use crate::gate::challenge::Posed;
use crate::gate::ticket::{Issued, claim};
use crate::http::answer::{Answer, Cache, Media, Status};
use crate::http::body::{self, Solved};
use crate::http::json_out::{self, Object};
use crate::http::problem::{Code, Problem};

impl Home {
    /// `GET /v1/items/{id}/challenge`
    pub(super) fn challenge(&mut self, item: ItemId, caller: &mut Caller<'_>) -> Handled {
        let posed = self.pose(item, caller)?;
        self.answer_once(Status::Ok, caller, |object| {
            object.text("challenge", &posed.text).text("svg", &posed.svg);
            object.number("expires_at_ms", posed.until_ms.0);
            object.object("pow", |object| {
                object.number("bits", posed.pow_bits);
            });
        });
        Ok(())
    }

    /// `POST /v1/items/{id}/ticket`
    pub(super) fn ticket(&mut self, item: ItemId, caller: &mut Caller<'_>) -> Handled {
        let solved = body::ticket(caller.request.body)?;
        let issued = self.issue(item, solved, caller)?;
        self.answer_once(Status::Created, caller, |object| {
            object.text("ticket", &issued.text).number("expires_at_ms", issued.until_ms.0);
        });
        Ok(())
    }

    /// A new challenge for the buyer who asks.
    pub(super) fn pose(&mut self, item: ItemId, caller: &mut Caller<'_>) -> Result<Posed, Problem> {
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let (subject, asker) = self.at_the_gate(gauge, caller)?;
        self.limits
            .may_answer(asker, self.now.mono_ms)
            .map_err(|refusal| problem_of(refusal, RequestKind::Other))?;
        self.count(Count::ChallengesPosed);
        Ok(shared.gate.challenges.pose(self.core, &claim(gauge, subject.as_bytes()), self.now.sale))
    }

    /// A ticket for the buyer who asks, if no challenge is needed or it was solved.
    pub(super) fn issue(
        &mut self,
        item: ItemId,
        solved: Option<Solved<'_>>,
        caller: &mut Caller<'_>,
    ) -> Result<Issued, Problem> {
        let shared = self.shared.clone();
        let gauge = shared.catalogue.find(item).ok_or(Code::NotFound.problem())?;
        let (subject, asker) = self.at_the_gate(gauge, caller)?;
        let must_solve = self.limits.must_solve(gauge, asker, self.now.mono_ms);
        match solved {
            Some(solved) => self.check_answer(gauge, &subject, asker, solved)?,
            None if must_solve => return Err(Code::ChallengeRequired.problem()),
            None => {}
        }
        self.count(Count::TicketsIssued);
        let claim = claim(gauge, subject.as_bytes());
        Ok(shared.gate.tickets.issue(gauge, &claim, self.limits.serial(), self.now.sale))
    }

    fn check_answer(
        &mut self,
        gauge: &Gauge,
        subject: &Subject,
        asker: Asker,
        solved: Solved<'_>,
    ) -> Result<(), Problem> {
        let now = self.now;
        self.limits
            .may_answer(asker, now.mono_ms)
            .map_err(|refusal| problem_of(refusal, RequestKind::Other))?;
        let claim = claim(gauge, subject.as_bytes());
        if self.shared.gate.challenges.solves(solved.challenge, solved.answer, &claim, now.sale) {
            return Ok(());
        }
        self.limits.note_wrong(asker, now.mono_ms);
        Err(Code::ChallengeFailed.problem())
    }

    /// All checks that tickets and challenges have in common.
    fn at_the_gate(&mut self, gauge: &Gauge, caller: &mut Caller<'_>) -> Result<(Subject, Asker), Problem> {
        let (subject, buyer) = self.identify(caller)?;
        if self.is_closed_for_business() {
            return Err(Code::Draining.problem());
        }
        let asker = self.asker(&buyer, caller, true);
        let now = self.now;
        let may_ask = eligible(now.sale, gauge, &buyer)
            .and_then(|()| window(now.sale, gauge))
            .and_then(|()| self.limits.rate(asker, now.mono_ms))
            .and_then(|()| stock(gauge));
        match may_ask {
            Ok(()) => Ok((subject, asker)),
            Err(refusal) => {
                self.count(Count::RefusedEarly);
                Err(problem_of(refusal, RequestKind::Other))
            }
        }
    }

    /// Who is asking, as far as limits go; with an address only if it is wanted.
    pub(super) fn asker(&mut self, buyer: &Buyer, caller: &Caller<'_>, wants_address: bool) -> Asker {
        Asker { buyer: buyer.hash.0[0], address: wants_address.then(|| self.address(caller)) }
    }

    /// The address that the request's limits apply to. A trusted proxy that does not name it raises an alarm:
    /// all of its buyers would count as one address.
    pub(super) fn address(&mut self, caller: &Caller<'_>) -> AddressKey {
        let client = self.shared.identity.client(&caller.request.head, caller.peer);
        if !client.is_known {
            self.count(Count::AddressesUnknown);
            if self.silent_proxy.replace(caller.peer) != Some(caller.peer) {
                let header = self.shared.identity.address_header().name();
                self.shared.alarm_once(format!(
                    "the trusted proxy {} sends requests without a usable address in {header}: all its buyers count as one \
                     address. Have it send that header, or set identity.address_header",
                    caller.peer
                ));
            }
        }
        AddressKey::new(&self.shared.secret, client.ip)
    }

    /// Responds with an object for this buyer, to be used once.
    fn answer_once(&mut self, status: Status, caller: &mut Caller<'_>, fill: impl FnOnce(&mut Object<'_>)) {
        let mode = caller.mode;
        let date = self.date;
        self.connections.answer_bytes(caller, |out| {
            Answer::begin(out, status, Cache::Never, mode, &date)
                .body(Media::Json, |out| json_out::object(out, fill));
        });
    }
}
