//! The settings of a run as its record keeps them: one line each.
//!
//! To add one, add its line here and its property to the schema. Next: [`crate::record`],
//! [`crate::engine::RunConfig`], where the values come from.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::command::without_secret;
use crate::engine::{Mode, RunConfig};
use crate::workload::{Auth, Flow, Target};

macro_rules! settings {
    ($config:ident; $($(#[$doc:meta])* $name:ident: $type:ty = $value:expr),+ $(,)?) => {
        /// What was requested, from whom and at which rate.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Settings { $($(#[$doc])* pub $name: $type),+ }

        impl Settings {
            /// The settings of a run, without secrets.
            pub fn of($config: &RunConfig) -> Self {
                Self { $($name: $value),+ }
            }
            /// Name and value of each, in words, in a fixed order; those that are not set left out.
            pub fn rows(&self) -> Vec<(&'static str, String)> {
                let rows = [$((stringify!($name), serde_json::to_value(&self.$name))),+];
                rows.into_iter().filter_map(|(name, value)| Some((name, show(&value.ok()?)?))).collect()
            }
        }
    };
}

settings! { config;
    /// The server's address.
    server: String = config.addr.to_string(),
    /// What the `Host` header says.
    host: String = config.host.clone(),
    /// `open` or `closed` loop.
    mode: String = if config.mode.is_open() { "open" } else { "closed" }.to_owned(),
    /// The target rate; with a shape its highest.
    target_per_s: Option<f64> = match &config.mode {
        Mode::Open(schedule) => Some(schedule.peak_per_s()),
        Mode::Closed => None,
    },
    /// How the rate changes: length in seconds, rate at the beginning and at the end of each stretch.
    shape: Vec<(f64, f64, f64)> = match &config.mode {
        Mode::Open(schedule) => {
            schedule.segments().iter().map(|part| (part.length_s, part.from_per_s, part.to_per_s)).collect()
        }
        Mode::Closed => Vec::new(),
    },
    /// Whether latency runs from the intended send time.
    coordinated_omission_corrected: bool = config.mode.is_open(),
    /// Connections.
    connections: u32 = config.connections,
    /// Threads of the generator.
    threads: u32 = config.threads,
    /// Most requests under way per connection.
    pipeline: u32 = config.pipeline,
    /// Whether a connection carried more than one request.
    keep_alive: bool = config.keep_alive,
    /// How long new requests began to be due.
    duration_ms: Option<u64> = config.duration.map(|length| length.as_millis() as u64),
    /// How many purchases were to be made.
    requests: Option<u64> = config.requests,
    /// How long one attempt could take.
    timeout_ms: u64 = config.timeout.as_millis() as u64,
    /// How long an unknown outcome was retried.
    ride_out_ms: u64 = config.ride_out.as_millis() as u64,
    /// What was requested instead of a purchase, as `GET /path`.
    request: Option<String> = match &config.workload.target {
        Target::Raw { method, path } => Some(format!("{method} {path}")),
        Target::Batch(_) => Some("POST /v1/orders/batch".to_owned()),
        Target::Purchase { .. } => None,
    },
    /// The item, or the first of several.
    item: Option<u32> = config.workload.items().map(|items| items.first),
    /// How many items.
    items: Option<u32> = config.workload.items().map(|items| items.count),
    /// How unlike their popularity was: the exponent of Zipf's law.
    zipf: Option<f64> = config.workload.items().map(|items| items.zipf),
    /// Units per purchase.
    quantity: u32 = config.workload.quantity,
    /// How buyers proved who they are: `header` or `jwt`.
    auth: String = match config.workload.auth {
        Auth::Header => "header",
        Auth::Jwt { .. } => "jwt",
    }.to_owned(),
    /// Distinct buyers; not set: a new one for each purchase.
    users: Option<u32> = config.workload.users,
    /// Accounts had levels below this.
    levels: Option<u8> = config.workload.levels,
    /// Share of requests that repeated an earlier purchase.
    repeat: f64 = config.workload.repeat,
    /// Share of purchases that were sent twice at once.
    double_click: f64 = config.workload.double_click,
    /// Pages that onlookers read per purchase.
    browse: f64 = config.workload.browse,
    /// How far a buyer goes: `purchase` or `whole`.
    flow: String = match config.workload.flow {
        Flow::Purchase => "purchase",
        Flow::Whole => "whole",
    }.to_owned(),
    /// Share of winners who paid in time.
    pay: f64 = config.workload.fates.pay,
    /// Share of winners who paid too late.
    pay_late: f64 = config.workload.fates.pay_late,
    /// Share of winners who called the order off.
    cancel: f64 = config.workload.fates.cancel,
    /// More header lines; values that may be secret are redacted.
    headers: Vec<String> = config.workload.headers.iter().map(|line| without_secret(line)).collect(),
    /// What all choices follow from.
    seed: u64 = config.workload.seed,
}

/// A value in words; `None` for one that is not set.
fn show(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Array(parts) if parts.is_empty() => None,
        Value::Array(parts) => {
            // A list of lists, as the shape is, has two kinds of separators.
            let gap = if parts.iter().any(Value::is_number) { " " } else { "; " };
            Some(parts.iter().filter_map(show).collect::<Vec<_>>().join(gap))
        }
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => match number.as_f64() {
            // Rates and shares are kept as fractions and mostly are whole.
            Some(whole) if number.is_f64() && whole.fract() == 0.0 => Some(format!("{whole:.0}")),
            _ => Some(number.to_string()),
        },
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Schedule, Segment};
    use crate::workload::Workload;

    #[test]
    fn settings_are_told_in_words() {
        let workload =
            Workload { headers: vec!["X-A: b".into(), "X-Token: t".into()], ..Workload::purchases(3, 7) };
        let mut config = RunConfig::closed("127.0.0.1:80".parse().unwrap(), workload, 5);
        let part = |length_s, from_per_s, to_per_s| Segment { length_s, from_per_s, to_per_s };
        let schedule = Schedule::new(vec![part(1.5, 0.0, 1e3), part(2.0, 500.0, 500.0)]).unwrap();
        config.mode = Mode::Open(schedule);
        let rows = Settings::of(&config).rows();
        let value = |name: &str| rows.iter().find(|row| row.0 == name).map(|row| row.1.as_str());
        assert_eq!((value("mode"), value("target_per_s")), (Some("open"), Some("1000")));
        assert_eq!(value("shape"), Some("1.5 0 1000; 2 500 500"));
        assert_eq!(value("headers"), Some("X-A: b; X-Token: ***"));
        assert_eq!((value("requests"), value("duration_ms"), value("users")), (Some("5"), None, None));
    }
}
