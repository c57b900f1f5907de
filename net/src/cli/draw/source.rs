//! Reads a claim about a draw: from a server, a data directory, or the standard input.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use stampede_core::types::ItemId;
use stampede_persist::log::verify::verify;

use super::check::{Claim, Entry};

/// Longest wait for one page of a server.
const PAGE_WAIT: Duration = Duration::from_secs(30);

/// Reads the claim, or says why there is none.
pub(super) fn read(source: &str, item: ItemId) -> Result<Claim, String> {
    match source {
        "-" => from_stdin(item),
        url if url.starts_with("http://") => from_server(url, item),
        url if url.contains("://") => {
            Err(format!("{url}: only http:// is supported. Pipe the pages in and name - instead"))
        }
        dir => from_log(Path::new(dir), item),
    }
}

fn from_server(url: &str, item: ItemId) -> Result<Claim, String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(PAGE_WAIT)).build().into();
    let base = url.trim_end_matches('/');
    let (mut pages, mut after) = (Pages::new(item), 0_u64);
    loop {
        let page = format!("{base}/v1/items/{item}/draw?limit=1000");
        let page = if after == 0 { page } else { format!("{page}&after={after}") };
        let failed = |error: ureq::Error| match error {
            ureq::Error::StatusCode(404) => format!("{base} has no draw of item {item}"),
            error => format!("{page} cannot be read ({error})"),
        };
        let mut response = agent.get(&page).call().map_err(failed)?;
        let body: Value = response.body_mut().read_json().map_err(failed)?;
        match pages.add(&body)? {
            Some(next) if next > after => after = next,
            Some(next) => return Err(format!("{base} returns the same cursor {next} again")),
            None => return pages.claim(),
        }
    }
}

fn from_stdin(item: ItemId) -> Result<Claim, String> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| format!("the standard input cannot be read ({error})"))?;
    from_pages(&text, item)
}

/// One page of JSON after another, in order; white space between them.
fn from_pages(text: &str, item: ItemId) -> Result<Claim, String> {
    let mut pages = Pages::new(item);
    for page in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        pages.add(&page.map_err(|error| format!("the pages are not JSON ({error})"))?)?;
    }
    pages.claim()
}

/// The log contains the whole draw; the commitment is computed from its seed.
fn from_log(dir: &Path, item: ItemId) -> Result<Claim, String> {
    if !dir.is_dir() {
        return Err(format!("{} is neither a data directory nor http://HOST:PORT nor -", dir.display()));
    }
    let verdict = verify(dir).map_err(|error| error.to_string())?;
    if let Some(wrong) = verdict.wrong {
        return Err(format!("the log itself is wrong: {wrong}"));
    }
    let record = verdict.draws.get(&item).filter(|record| record.draw_ms > 0);
    let record = record.ok_or_else(|| format!("the log has no draw of item {item}"))?;
    let drawn = record.drawn.ok_or_else(|| NOT_HELD.to_owned())?;
    if record.waiting > 0 {
        return Err(format!("the draw is still in progress: {} entries are left", record.waiting));
    }
    let entries = record.entries.iter().map(|entry| Entry {
        order: entry.order.get(),
        quantity: u64::from(entry.quantity.get()),
        won: entry.won,
    });
    Ok(Claim {
        item,
        commitment: stampede_core::draw::commitment(item, &record.seed),
        seed: record.seed.0,
        units: drawn.units,
        entries_total: u64::from(drawn.entries),
        winners: None,
        entries: entries.collect(),
    })
}

const NOT_HELD: &str = "the draw was not held yet";

/// Pages of one draw, put together.
struct Pages {
    item: ItemId,
    claim: Option<Claim>,
    has_more: bool,
}

impl Pages {
    const fn new(item: ItemId) -> Self {
        Self { item, claim: None, has_more: false }
    }

    /// Takes the next page; says where the one after it begins.
    fn add(&mut self, page: &Value) -> Result<Option<u64>, String> {
        match text(page, "state")? {
            "drawn" => {}
            "waiting" => return Err(NOT_HELD.to_owned()),
            state => return Err(format!("the draw is not over ({state}); try again in a moment")),
        }
        let said = number(page, "item_id")?;
        if said != u64::from(self.item.get()) {
            return Err(format!("a page is about item {said}, not {}", self.item));
        }
        let head = Claim {
            item: self.item,
            commitment: digest(page, "commitment")?,
            seed: digest(page, "seed")?,
            units: number(page, "units")?,
            entries_total: number(page, "entries_total")?,
            winners: Some(number(page, "winners")?),
            entries: Vec::new(),
        };
        let claim = self.claim.get_or_insert_with(|| head.clone());
        let same =
            (claim.seed, claim.units, claim.entries_total) == (head.seed, head.units, head.entries_total);
        if !same || claim.commitment != head.commitment || claim.winners != head.winners {
            return Err("the pages contradict each other".to_owned());
        }
        let entries = page["entries"].as_array().ok_or("a page has no entries")?;
        for entry in entries {
            claim.entries.push(read_entry(entry)?);
        }
        self.has_more = page["has_more"].as_bool().ok_or("a page does not say whether there are more")?;
        if self.has_more { order(page, "next_after").map(Some) } else { Ok(None) }
    }

    fn claim(self) -> Result<Claim, String> {
        if self.has_more {
            return Err("the last page is missing".to_owned());
        }
        self.claim.ok_or_else(|| "there is no page".to_owned())
    }
}

fn read_entry(entry: &Value) -> Result<Entry, String> {
    let won = entry["won"].as_bool().ok_or("an entry does not say whether it won")?;
    Ok(Entry { order: order(entry, "order_id")?, quantity: number(entry, "quantity")?, won })
}

fn text<'v>(object: &'v Value, name: &str) -> Result<&'v str, String> {
    object[name].as_str().ok_or_else(|| format!("a page has no {name}"))
}

fn number(object: &Value, name: &str) -> Result<u64, String> {
    object[name].as_u64().ok_or_else(|| format!("a page has no {name}"))
}

fn order(object: &Value, name: &str) -> Result<u64, String> {
    text(object, name)?.parse().map_err(|_| format!("{name} is not a number of an order"))
}

fn digest(object: &Value, name: &str) -> Result<[u8; 32], String> {
    unhex(text(object, name)?).ok_or_else(|| format!("{name} has not 64 hexadecimal digits"))
}

/// 64 hexadecimal digits as bytes.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    let pairs = text.as_bytes().chunks_exact(2);
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(entries: &str, rest: &str) -> String {
        let digest = "ab".repeat(32);
        format!(
            r#"{{"item_id":7,"state":"drawn","commitment":"{digest}","seed":"{digest}","units":1,"winners":1,
            "entries_total":2,"entries":[{entries}],{rest}}}"#
        )
    }

    #[test]
    fn pages_are_put_together() {
        let item = ItemId::new(7).expect("an item");
        let first = page(
            r#"{"order_id":"30064771073","quantity":1,"won":true}"#,
            r#""has_more":true,"next_after":"30064771073""#,
        );
        let second = page(r#"{"order_id":"30064771074","quantity":2,"won":false}"#, r#""has_more":false"#);
        let claim = from_pages(&format!("{first}\n{second}"), item).expect("two pages");
        assert_eq!((claim.entries.len(), claim.entries[1].quantity, claim.units), (2, 2, 1));
        let fails = |text: &str, said: &str| {
            let error = from_pages(text, item).expect_err(said);
            assert!(error.contains(said), "{error}");
        };
        fails(&first, "the last page is missing");
        fails("", "there is no page");
        fails("{", "not JSON");
        fails(r#"{"state":"waiting"}"#, "not held yet");
        fails(r#"{"state":"drawing"}"#, "try again in a moment");
        fails(&second.replace("\"item_id\":7", "\"item_id\":8"), "is about item 8, not 7");
        fails(&second.replace("\"seed\":\"ab", "\"seed\":\"a"), "64 hexadecimal digits");
        fails(&format!("{first}{}", second.replace("\"units\":1", "\"units\":2")), "contradict");
        fails(&second.replace("\"quantity\":2,", ""), "has no quantity");
    }
}
