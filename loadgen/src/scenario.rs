//! Sales that everybody knows, by name: the items to create and the load that goes with them.
//!
//! Pure data. A scenario's load is nothing but flags of `run`, so that a reader can type them;
//! what the user gives goes first. Items are created through [`crate::verify::Merchant`]. Next:
//! `cli/load.rs` for what each flag does.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::verify::{Merchant, VerifyError};
use crate::workload::Items;

/// How long its items stay open, in milliseconds.
const OPEN_MS: u64 = 3_600_000;

/// A sale that everybody knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scenario {
    /// One phone, all the country at midnight
    Double11,
    /// Many small packets, gone in seconds
    RedPacket,
    /// Trains before the holidays: holds, late payers, seats that come back
    Railway,
    /// Few units, many accounts, only some of which may take part: drawn, not raced for
    Lottery,
}

/// One flag that a scenario sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flag {
    /// Its long name, dashes included.
    pub name: &'static str,
    /// Its value.
    pub value: &'static str,
    /// Flags of the user's that take its place, besides itself.
    pub unless: &'static [&'static str],
}

const fn flag(name: &'static str, value: &'static str) -> Flag {
    Flag { name, value, unless: &[] }
}

/// The whole schedule goes when the user says anything about rates.
const fn shape(value: &'static str) -> Flag {
    Flag { name: "--shape", value, unless: &["--rate", "-R", "--closed"] }
}

const fn connections(value: &'static str) -> Flag {
    Flag { name: "--connections", value, unless: &["-c"] }
}

const fn rate(value: &'static str) -> Flag {
    Flag { name: "--rate", value, unless: &["-R", "--closed", "--shape"] }
}

const fn duration(value: &'static str) -> Flag {
    Flag { name: "--duration", value, unless: &["-d", "--requests", "-n"] }
}

/// The first item unless the user says which.
const FIRST_ITEM: Flag = flag("--item", "1");

const DOUBLE11: &[Flag] = &[
    FIRST_ITEM,
    connections("256"),
    shape("spike:500->20k@3s+5s"),
    flag("--users", "50k"),
    flag("--double-click", "10%"),
    flag("--repeat", "5%"),
    flag("--browse", "0.5"),
];
const RED_PACKET: &[Flag] = &[
    FIRST_ITEM,
    flag("--items", "20"),
    connections("256"),
    shape("spike:100->10k@2s+4s"),
    flag("--users", "20k"),
    flag("--double-click", "20%"),
];
const RAILWAY: &[Flag] = &[
    FIRST_ITEM,
    flag("--items", "8"),
    flag("--zipf", "1"),
    connections("128"),
    rate("2k"),
    duration("15s"),
    flag("--users", "20k"),
    flag("--pay", "70%"),
    flag("--pay-late", "10%"),
    flag("--cancel", "10%"),
    flag("--browse", "1"),
];
const LOTTERY: &[Flag] = &[
    FIRST_ITEM,
    connections("128"),
    rate("5k"),
    duration("10s"),
    flag("--users", "20k"),
    flag("--levels", "10"),
    flag("--repeat", "10%"),
    flag("--flow", "whole"),
];

/// What all items of a scenario have in common.
struct Sale {
    name: &'static str,
    stock: u64,
    cap: u32,
    payment: &'static str,
    hold_ms: u64,
    min_level: u8,
    price_minor: u64,
    /// How long purchases are entries in a draw; 0 = no draw.
    draw_ms: u64,
    /// From the creation to the opening: what comes before it is seen as `not_open`.
    opens_in_ms: u64,
}

impl Scenario {
    /// The flags that it sets.
    pub const fn flags(self) -> &'static [Flag] {
        match self {
            Self::Double11 => DOUBLE11,
            Self::RedPacket => RED_PACKET,
            Self::Railway => RAILWAY,
            Self::Lottery => LOTTERY,
        }
    }

    /// What happens in it, in a few lines.
    pub const fn story(self) -> &'static str {
        match self {
            Self::Double11 => {
                "One phone, 10 000 units, one per account. Onlookers and early clicks come before the opening\n\
                 (not_open), then the rate jumps forty-fold for five seconds. One in ten clicks twice, bots\n\
                 repeat earlier requests with the same key, and accounts that have one try again (cap_reached)."
            }
            Self::RedPacket => {
                "Twenty packets of 50 units each, one per account and packet, all open at the same moment and\n\
                 gone within seconds. Many fingers tap twice."
            }
            Self::Railway => {
                "Eight trains with 500 seats each, the popular ones requested far more often (Zipf). A seat is\n\
                 held for three seconds: most pay, some pay too late (hold_expired), some call it off, some\n\
                 forget. Seats that come back are sold again to those who still try."
            }
            Self::Lottery => {
                "One hundred units, twenty thousand accounts of ten levels; only level 5 and above may take part\n\
                 (not_eligible). Whoever comes in the first five seconds enters a draw (entered; twice is\n\
                 cap_reached) and looks afterwards who won: step `draw` counts won and lost."
            }
        }
    }

    const fn sale(self) -> Sale {
        let plain = Sale {
            name: "phone",
            stock: 10_000,
            cap: 1,
            payment: "on_order",
            hold_ms: 0,
            min_level: 0,
            price_minor: 100,
            draw_ms: 0,
            opens_in_ms: 3_000,
        };
        match self {
            Self::Double11 => plain,
            Self::RedPacket => Sale { name: "red packet", stock: 50, opens_in_ms: 2_000, ..plain },
            Self::Railway => Sale {
                name: "train",
                stock: 500,
                payment: "hold",
                hold_ms: 3_000,
                opens_in_ms: 1_000,
                ..plain
            },
            Self::Lottery => Sale {
                name: "lottery",
                stock: 100,
                min_level: 5,
                draw_ms: 5_000,
                opens_in_ms: 1_000,
                ..plain
            },
        }
    }

    /// The items, as numbers and bodies for `PUT /admin/items/{id}`; times follow from `now_ms` (Unix milliseconds).
    pub fn items(self, items: Items, now_ms: u64) -> Vec<(u32, Value)> {
        let sale = self.sale();
        let body = |index: usize| {
            let name =
                if items.count == 1 { sale.name.to_owned() } else { format!("{} {}", sale.name, index + 1) };
            let mut body = json!({
                "name": name,
                "price_minor": sale.price_minor,
                "currency": "CNY",
                "stock": sale.stock,
                "opens_at_ms": now_ms + sale.opens_in_ms,
                "closes_at_ms": now_ms + sale.opens_in_ms + OPEN_MS,
                "cap": sale.cap,
                "payment": sale.payment,
                "hold_ms": sale.hold_ms,
                "ticket": "never",
                "challenge": "never",
                "min_level": sale.min_level,
                "min_account_age_s": 0,
                "admit_per_s": 0,
            });
            if sale.draw_ms > 0 {
                body["draw_ms"] = sale.draw_ms.into();
            }
            body
        };
        items.numbers().enumerate().map(|(index, item)| (item, body(index))).collect()
    }

    /// Creates the items, or moves the opening of those that are there with their stock untouched.
    ///
    /// # Errors
    /// [`ScenarioError::Taken`] before anything is changed, if a number belongs to another sale.
    pub fn create(self, merchant: &Merchant, items: Items, now_ms: u64) -> Result<(), ScenarioError> {
        let stock = i64::try_from(self.sale().stock).unwrap_or(i64::MAX);
        for item in items.numbers() {
            match merchant.item(item) {
                Ok(page) if page.accepted > 0 || page.totals.granted != stock => {
                    return Err(ScenarioError::Taken(item));
                }
                Ok(_) | Err(VerifyError::Refused { status: 404, .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (item, body) in self.items(items, now_ms) {
            merchant.put(&format!("/admin/items/{item}"), &body)?;
        }
        Ok(())
    }
}

/// Why a scenario's items could not be created.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The number is in use.
    #[error("item {0} is there already, with orders or another stock; choose another --item")]
    Taken(u32),
    /// The merchant API did not do it.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

/// The command line with a scenario's flags put in after `run`, but for those that the user gives
/// (or gives another in the place of). Without `--scenario NAME` it stays as it is; so it does with
/// a name that is none, which the reader of the command line then refuses.
pub fn expand(args: Vec<String>) -> Vec<String> {
    let Some(scenario) = named(&args) else { return args };
    let Some(at) = args.iter().position(|word| word == "run") else { return args };
    let is_given = |name: &str| {
        let short = name.len() == 2;
        args[at..].iter().any(|word| match word.strip_prefix(name) {
            Some("") => true,
            Some(rest) => short || rest.starts_with('='),
            None => false,
        })
    };
    let wanted = |flag: &&Flag| !is_given(flag.name) && !flag.unless.iter().any(|name| is_given(name));
    let set: Vec<String> =
        scenario.flags().iter().filter(wanted).map(|flag| format!("{}={}", flag.name, flag.value)).collect();
    let mut all = args;
    all.splice(at + 1..at + 1, set);
    all
}

fn named(args: &[String]) -> Option<Scenario> {
    let mut words = args.iter();
    let name = words.find_map(|word| word.strip_prefix("--scenario"))?;
    let name = match name.strip_prefix('=') {
        Some(name) => name,
        None if name.is_empty() => words.next()?,
        None => return None,
    };
    Scenario::from_str(name, false).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LoadArgs;
    use crate::engine::Mode;
    use clap::{Args as _, FromArgMatches as _};

    /// What a server checks about an item before it takes it.
    fn assert_sound(body: &Value) {
        let number = |name: &str| body[name].as_u64().unwrap_or_else(|| panic!("{name} in {body}"));
        assert!(number("opens_at_ms") < number("closes_at_ms") && number("cap") >= 1 && number("stock") > 0);
        assert_eq!(body["payment"] == "hold", number("hold_ms") > 0, "{body}");
        let draw_ms = body["draw_ms"].as_u64().unwrap_or(0);
        assert!(number("opens_at_ms") + draw_ms < number("closes_at_ms") && draw_ms != 1, "{body}");
        assert_eq!(body.as_object().unwrap().len(), 14 + usize::from(draw_ms > 0), "{body}");
    }

    fn parse(words: &str) -> Result<LoadArgs, String> {
        let all = expand(words.split_whitespace().map(str::to_owned).collect());
        let command = LoadArgs::augment_args(clap::Command::new("run"));
        let command = command.arg(clap::Arg::new("scenario").long("scenario"));
        let matches = command.try_get_matches_from(&all[1..]).map_err(|error| error.to_string())?;
        LoadArgs::from_arg_matches(&matches).map_err(|error| error.to_string())
    }

    #[test]
    fn every_scenario_is_a_run_that_can_be_typed() {
        for &scenario in Scenario::value_variants() {
            let name = scenario.to_possible_value().unwrap().get_name().to_owned();
            let dir = tempfile::tempdir().unwrap();
            let token = dir.path().join("token");
            std::fs::write(&token, "t").unwrap();
            let flags = format!(
                "x run http://127.0.0.1:1 --scenario {name} --admin http://127.0.0.1:2 --admin-token-file {}",
                token.display()
            );
            let config = parse(&flags).unwrap_or_else(|error| panic!("{name}: {error}")).config().unwrap();
            assert!(matches!(config.mode, Mode::Open(_)) && config.duration.is_some(), "{name}");
            let items = config.workload.items().unwrap();
            let bodies = scenario.items(items, 1_000_000);
            assert_eq!((items.first, items.count as usize), (1, bodies.len()), "{name}");
            bodies.iter().for_each(|(_, body)| assert_sound(body));
            assert!(scenario.story().lines().all(|line| line.len() <= 110), "{name}");
        }
    }

    #[test]
    fn what_the_user_gives_goes_first() {
        let args =
            parse("x run http://127.0.0.1:1 --scenario double11 -c 7 --users=9 --item 5 -d2s").unwrap();
        assert_eq!((args.connections, args.users, args.item), (7, Some(9), Some(5)));
        assert!(args.shape.starts_with("spike") && args.double_click == 0.1);
        let args = parse("x run http://127.0.0.1:1 --scenario=double11 -R5k").unwrap();
        assert_eq!((args.rate, args.shape.as_str()), (Some(5_000), "constant"));
        let args = parse("x run http://127.0.0.1:1 --scenario lottery --closed -n 100").unwrap();
        assert_eq!((args.rate, args.closed, args.duration, args.levels), (None, true, None, Some(10)));
    }

    #[test]
    fn without_a_scenario_nothing_changes() {
        for words in
            ["x run u --item 1", "x run u --scenario nonsense", "x verify --item 1", "x run --scenario"]
        {
            let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
            assert_eq!(expand(words.clone()), words);
        }
    }
}
