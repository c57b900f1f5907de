//! How values are written: sizes with a unit, lists of processors, networks.
//!
//! Pure text to value and back. What a value may be is said in [`super::keys`].

use ipnet::IpNet;

const UNITS: [(&str, u32); 5] = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// Reads a number of bytes: digits, and after them nothing or `KiB` … `PiB`.
/// `None` for anything else, or above 2^63.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (digits, shift) = UNITS
        .iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits.trim_end(), *shift)))
        .unwrap_or((text, 0));
    let number = parse_int(digits)?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= i64::MAX as u64)
}

/// Writes a number of bytes with the largest unit that leaves it whole.
pub fn show_bytes(bytes: u64) -> String {
    let fitting = |(_, shift): &&(&str, u32)| bytes > 0 && bytes.is_multiple_of(1 << *shift);
    match UNITS.iter().find(fitting) {
        Some((unit, shift)) => format!("{}{unit}", bytes >> shift),
        None => bytes.to_string(),
    }
}

/// Reads a whole number of decimal digits; no sign, no blank.
pub fn parse_int(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// What `cores` asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoresText {
    /// Every processor that the process may use.
    All,
    /// The first so many of them.
    First(usize),
    /// Exactly these, ascending.
    List(Vec<usize>),
}

/// Processors are numbered below this (the kernel's own bound is 8192).
const CPU_NUMBER_MAX: u64 = 8191;

/// Reads `all`, a number of cores, or a list such as `0,2-5`. `None` for anything
/// else, for no core at all, and for a processor that is named twice.
pub fn parse_cores(text: &str) -> Option<CoresText> {
    if text == "all" {
        return Some(CoresText::All);
    }
    if let Some(count) = parse_int(text) {
        return (1..=CPU_NUMBER_MAX).contains(&count).then_some(CoresText::First(count as usize));
    }
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_int(first.trim())?, parse_int(last.trim())?);
        if first > last || last > CPU_NUMBER_MAX {
            return None;
        }
        list.extend(first as usize..=last as usize);
    }
    list.sort_unstable();
    let twice = list.windows(2).any(|pair| pair[0] == pair[1]);
    (!twice).then_some(CoresText::List(list))
}

/// Writes processors as the shortest list of single ones and ranges.
pub fn show_cores(cores: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for core in cores {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == *core => *last = *core,
            _ => parts.push((*core, *core)),
        }
    }
    let show = |(first, last): &(usize, usize)| match first == last && parts.len() > 1 {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    parts.iter().map(show).collect::<Vec<_>>().join(",")
}

/// Reads a network, or a single address as the network of itself.
pub fn parse_net(text: &str) -> Option<IpNet> {
    let text = text.trim();
    text.parse().ok().or_else(|| text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address)))
}
