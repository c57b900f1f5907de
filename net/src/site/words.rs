//! Which language a reader gets, and which of its texts fits a state or a refusal.
//!
//! The texts stand in `net/templates/words`, one file for each language; `build.rs` makes
//! [`Words`] of them, so a text which is missing in one language does not compile. The names say
//! where it stands: `b_` on the button, `n_` below it, `t_` beside the time, `say_` aloud,
//! `p_` on a page about a refusal. `{t}` and `{n}` stand for a time and a number. The texts
//! below `script` are sent to the script, too. Next: [`super::render`].

use stampede_core::types::OrderId;

use crate::http::field::Field;
use crate::http::negotiate::weight;
use crate::http::problem::Code;

/// The languages of the pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lang {
    /// English; also for readers who ask for none of these languages.
    English,
    /// Chinese.
    Chinese,
}

impl Lang {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::English, Self::Chinese];

    /// The language with the highest weight in `Accept-Language` (RFC 9110 section 12.5.4); of
    /// two with the same weight, the first.
    pub fn choose(accepts: Field<'_>) -> Self {
        let (mut best, mut chosen) = (0, Self::English);
        for entry in accepts.last().unwrap_or_default().split(|&byte| byte == b',') {
            let mut parts = entry.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let Some(lang) = Self::of_range(parts.next().unwrap_or_default()) else { continue };
            let weight = weight(parts);
            if weight > best {
                (best, chosen) = (weight, lang);
            }
        }
        chosen
    }

    fn of_range(range: &[u8]) -> Option<Self> {
        let primary = range.split(|&byte| byte == b'-').next().unwrap_or_default();
        match () {
            () if primary.eq_ignore_ascii_case(b"en") || primary == b"*" => Some(Self::English),
            () if primary.eq_ignore_ascii_case(b"zh") => Some(Self::Chinese),
            () => None,
        }
    }

    /// Its tag (RFC 5646), such as `en`.
    pub const fn tag(self) -> &'static str {
        self.words().tag
    }

    /// Its texts.
    pub const fn words(self) -> &'static Words {
        match self {
            Self::English => &ENGLISH,
            Self::Chinese => &CHINESE,
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/words.rs"));

impl Words {
    /// A duration, by its two largest units.
    pub fn span(&self, ms: u64) -> String {
        let s = ms.div_ceil(1_000).max(1);
        let units =
            [(self.u_d, s / 86_400), (self.u_h, s / 3_600 % 24), (self.u_m, s / 60 % 60), (self.u_s, s % 60)];
        let parts = units.iter().filter(|(_, n)| *n > 0).take(2);
        parts.map(|(unit, n)| unit.replace("{n}", &n.to_string())).collect::<Vec<_>>().join(" ")
    }

    /// What an order is called.
    pub fn order_name(&self, order: &OrderId) -> String {
        self.order.replace("{n}", &order.to_string())
    }

    /// What the button and the line below it say in a state of an item or an order.
    pub fn of_state(&self, state: &str) -> (&'static str, &'static str) {
        match state {
            "upcoming" => (self.b_upcoming, self.n_upcoming),
            "open" => (self.b_open, self.n_open),
            "sold_out" => (self.b_sold_out, self.n_sold_out),
            "paused" => (self.b_paused, self.n_paused),
            "ended" => (self.b_ended, self.n_ended),
            "accepted" => (self.b_waiting, self.n_sending),
            "confirmed" => (self.b_won, self.n_won),
            "paid" => (self.b_won, self.n_paid),
            "held" => (self.b_held, self.n_held),
            "pending" => (self.b_pending, self.n_pending),
            "entered" => (self.b_entered, self.n_entered),
            "lost" => (self.b_lost, self.n_lost),
            "expired" => (self.p_late, self.n_expired),
            "cancelled" => (self.p_cancelled, self.n_cancelled),
            _ => (self.p_refunded, self.n_refunded),
        }
    }

    /// The page's state, the heading and the line below it, where something was refused.
    pub fn of_refusal(&self, code: Code) -> (&'static str, &'static str, &'static str) {
        let of_state = |state: &'static str| {
            let (heading, note) = self.of_state(state);
            (state, heading, note)
        };
        match code {
            Code::NotOpen => of_state("upcoming"),
            Code::SoldOut => of_state("sold_out"),
            Code::Ended => of_state("ended"),
            Code::Paused => of_state("paused"),
            Code::CapReached => ("limited", self.p_cap, self.p_cap_note),
            Code::RateLimited => ("limited", self.b_limited, self.p_busy_note),
            Code::Unauthenticated => ("limited", self.b_sign_in, self.n_sign_in),
            Code::NotEligible => ("limited", self.b_not_eligible, self.n_not_eligible),
            Code::NotFound => ("ended", self.p_missing, self.p_missing_note),
            Code::CrossSite => ("limited", self.p_foreign, self.p_foreign_note),
            Code::Overloaded | Code::LogFull | Code::Draining | Code::AwaitingDatabase => {
                ("waiting", self.p_busy, self.p_busy_note)
            }
            Code::HoldExpired => ("ended", self.p_late, self.n_expired),
            Code::NotCancellable | Code::AlreadyPaid => ("ended", self.p_fixed, self.p_fixed_note),
            _ => ("limited", self.p_failed, self.n_failed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(accepts: &str) -> &'static str {
        Lang::choose(Field::Once(accepts.as_bytes())).tag()
    }

    #[test]
    fn the_language_with_the_highest_weight_is_chosen() {
        assert_eq!(Lang::choose(Field::Absent), Lang::English);
        let chinese = [
            "zh",
            "zh-CN",
            "ZH-cn",
            "zh-Hans-CN,zh;q=0.9,en;q=0.8",
            "de, zh;q=0.1",
            "en;q=0.8, zh;q=0.9",
            "en;q=0, zh;q=0.001",
            "fr;q=1, zh-TW ; q=0.5",
            "*;q=0.1, zh;q=0.2",
        ];
        for accepts in chinese {
            assert_eq!(chosen(accepts), "zh-CN", "{accepts}");
        }
        let english = [
            "",
            "en",
            "en-GB,zh;q=0.9",
            "de-DE, fr",
            "zh;q=0",
            "zh;q=x, en;q=0.1",
            "en;q=0.9, zh;q=0.9",
            "*",
            "zhx",
            "en, zh",
            "zh;q=0.1, *;q=0.2",
            ";;,,",
            "zh;q=1.1",
        ];
        for accepts in english {
            assert_eq!(chosen(accepts), "en", "{accepts}");
        }
    }

    #[test]
    fn every_text_is_translated() {
        let read = |file| serde_json::from_str::<serde_json::Value>(file).expect("JSON");
        let english = read(include_str!("../../templates/words/en.json"));
        let chinese = read(include_str!("../../templates/words/zh-CN.json"));
        for part in ["script", "page"] {
            for (name, en) in english[part].as_object().expect("texts") {
                let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
                let (en, zh) = (text(en), text(&chinese[part][name]));
                assert!(!en.trim().is_empty() && !zh.trim().is_empty(), "{name}");
                let translated = zh.chars().any(|c| c > '\u{2e80}') && en != zh;
                assert!(translated || name == "brand", "{name} is not Chinese: {zh}");
                assert!(en.chars().all(|c| c < '\u{2e80}'), "{name} is not English: {en}");
                for gap in ["{t}", "{n}"] {
                    assert_eq!(en.matches(gap).count(), zh.matches(gap).count(), "{name}: {gap}");
                }
            }
        }
    }

    #[test]
    fn the_script_gets_json() {
        for lang in Lang::ALL {
            let words: serde_json::Value = serde_json::from_str(lang.words().for_script).expect("JSON");
            assert_eq!(words["b_open"], lang.words().b_open);
            assert!(words.get("sales").is_none(), "what only the server says is not sent");
        }
    }

    #[test]
    fn durations_are_words() {
        let spans = [1, 1_000, 61_000, 900_000, 3_600_000, 90_061_000].map(|ms| ENGLISH.span(ms));
        assert_eq!(spans, ["1 s", "1 s", "1 min 1 s", "15 min", "1 h", "1 d 1 h"]);
    }

    /// Every word that the script asks for is sent to it.
    #[test]
    fn the_script_asks_for_nothing_else() {
        let script = include_str!("../../assets/sale.js");
        let mut asked = 0;
        for (at, _) in script.match_indices("words.") {
            let name: String =
                script[at + 6..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(ENGLISH.for_script.contains(&format!("\"{name}\":")), "words.{name}");
            asked += 1;
        }
        assert!(asked > 10, "the search has gone blind");
    }
}
