//! The flags of an item: at its creation, and after a switch.
//!
//! Decisions and replay call the same functions. Next: [`crate::gauge`] for the meaning of each flag.

use crate::fact::{ACTOR_IMPORT, Switch};
use crate::gauge::Rules;

/// The flags of a new item: one whose import from Postgres goes on sells nothing before its end.
pub(super) fn created_flags(actor: &str) -> u8 {
    if actor == ACTOR_IMPORT { Rules::PAUSED | Rules::IMPORTING } else { 0 }
}

/// The flags of an item after a switch. An import ends with its own switch, whatever others
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
