//! The flags of an item: at its creation, and after a switch.
//!
//! Decisions and replay call the same functions. Next: [`crate::gauge`] for the meaning of each flag.

use crate::fact::{ACTOR_IMPORT, Switch};
use crate::gauge::Rules;

/// The flags that an item begins with: one with more to come from Postgres sells nothing before
/// that is there.
pub(super) fn created_flags(actor: &str) -> u8 {
    if actor == ACTOR_IMPORT { Rules::PAUSED | Rules::IMPORTING } else { 0 }
}

/// The flags of an item after a switch. An import ends with a switch of its own, whatever others
/// switch meanwhile.
pub(super) fn switched(flags: u8, switch: Switch, actor: &str) -> u8 {
    let done = actor == ACTOR_IMPORT || switch == Switch::Resumed;
    let flags = if done { flags & !Rules::IMPORTING } else { flags };
    match switch {
        Switch::Paused => flags | Rules::PAUSED,
        Switch::Resumed => flags & !Rules::PAUSED,
        Switch::Closed => flags | Rules::CLOSED,
        Switch::Ended => flags | Rules::ENDED,
    }
}
