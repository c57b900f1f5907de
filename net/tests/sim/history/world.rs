//! The world between two lives.

use super::{HOUR_MS, History};
use crate::book::Red;
use crate::coverage::{Fault, Step};

impl History<'_> {
    /// The world between two lives: clocks, cores, and bits that turn over.
    pub(super) fn between_lives(&mut self) -> Result<(), Red> {
        self.wall_ms += self.rng.below(5_000);
        match self.rng.below(20) {
            0 | 1 => {
                self.wall_ms -= HOUR_MS;
                self.cover.struck(Fault::ClockBack, Step::Rest, None);
            }
            2 => {
                self.wall_ms += HOUR_MS;
                self.cover.struck(Fault::ClockAhead, Step::Rest, None);
            }
            _ => {}
        }
        let cores = 1 + self.rng.below(4) as usize;
        if cores != self.cores {
            self.cover.struck(Fault::CoresChange, Step::Rest, None);
            self.cores = cores;
        }
        self.fill_if_decided();
        self.choose_flags();
        if self.chance(60) {
            self.try_damage()?;
        }
        if self.chance(10) {
            self.try_volatile()?;
        }
        Ok(())
    }
}
