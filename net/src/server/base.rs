//! The common base of two engines: the one that sells, and the one that waits for its database.
//!
//! Next: [`super::waiting`] for the second.

use std::sync::Arc;

use anyhow::Context;
use stampede_core::catalogue::Catalogue;
use stampede_core::types::HashSecret;
use stampede_persist::export::ExportStatus;
use stampede_persist::log::queue::FactQueue;
use stampede_persist::log::status::LogStatus;

use crate::engine::clock::SaleClock;
use crate::engine::mesh::Mesh;
use crate::engine::shared::{EngineState, Shared};
use crate::gate::challenge::Challenges;
use crate::gate::ticket::Tickets;
use crate::gate::{Gate, GateRules};
use crate::settings::{Ack, Settings, secrets};

/// What the engine that sells and the one that waits for the database have in common.
pub(super) struct Base {
    pub(super) clock: SaleClock,
    pub(super) secret: HashSecret,
    pub(super) log: Arc<LogStatus>,
    pub(super) queue: Arc<FactQueue>,
    pub(super) export: Option<Arc<ExportStatus>>,
}

impl Base {
    pub(super) fn shared(
        &self,
        settings: &Settings,
        catalogue: Arc<Catalogue>,
        mesh: Arc<Mesh>,
        state: EngineState,
    ) -> anyhow::Result<Shared> {
        Ok(Shared {
            clock: self.clock.clone(),
            identity: secrets::identity(settings)?,
            gate: gate(settings)?,
            admin_token: secrets::admin_token(settings)?.token.reveal().to_owned(),
            secret: self.secret,
            catalogue,
            log: self.log.clone(),
            queue: self.queue.clone(),
            export: self.export.clone(),
            weakened: weakened(settings),
            ack_durable: settings.ack == Ack::Wal,
            demo: secrets::demo(settings)?,
            mesh,
            idle_ms: settings.limits.idle_ms,
            head_bytes: settings.limits.head_bytes,
            state,
        })
    }
}

/// The shared half of the gate, with new random keys for challenges.
fn gate(settings: &Settings) -> anyhow::Result<Gate> {
    let mut random = [0; 64];
    getrandom::fill(&mut random).context("the system gives no random bytes")?;
    let (limits, gate) = (&settings.limits, &settings.gate);
    Ok(Gate {
        rules: GateRules {
            buyer_per_s: limits.buyer_per_s,
            ip_per_s: limits.ip_per_s,
            bad_tokens_per_s: limits.bad_tokens_per_s,
            connections_per_ip: limits.connections_per_ip,
            suspicious_accounts: gate.suspicious_accounts,
            suspicious_asks_per_min: gate.suspicious_asks_per_min,
        },
        tickets: Tickets::new(secrets::ticket_keys(settings)?, gate.ticket_ms),
        challenges: Challenges::new(settings.cores.len(), &random, gate.challenge_ms, gate.pow_bits),
    })
}

/// The promises that the settings weaken (I17).
fn weakened(settings: &Settings) -> Vec<String> {
    let mut weakened = Vec::new();
    if settings.ack == Ack::Memory {
        weakened
            .push("ack=memory: orders are acknowledged before they are durable; a crash loses them".into());
    }
    if settings.log.allow_tmpfs {
        weakened.push("log.allow_tmpfs: the log may lie in memory; a power cut loses it".into());
    }
    weakened
}
