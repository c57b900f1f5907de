//! The pages of the docs that show figures, and their blocks:
//!
//! ```text
//! <!-- figures: NAME -->
//! … what is rendered from records …
//! <!-- figures: end -->
//! ```
//!
//! What stands between two markers is never written by hand. [`render`] writes it anew.

use std::path::{Path, PathBuf};

use crate::series::Records;
use crate::tables::rivals::Language;
use crate::tables::{bench, capacity, classics, rivals};

/// Pages with blocks, from the root of the source tree.
pub const PAGES: [&str; 5] =
    ["README.md", "docs/README.zh-CN.md", "docs/BENCHMARKS.md", "docs/CAPACITY.md", "docs/CLASSICS.md"];
/// Where the records are.
pub const RECORDS: &str = "docs/benchmarks";
const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- figures: end -->";

/// The root of the source tree that this was built from.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What a block shows.
fn block(records: &Records, name: &str) -> Option<String> {
    let (page, what) = name.split_once(' ')?;
    Some(match (page, what) {
        ("capacity", what) => return capacity::block(records, what),
        ("classics", what) => return classics::block(records, what),
        ("rivals", "English") => rivals::designs(records, Language::English),
        ("rivals", "Chinese") => rivals::designs(records, Language::Chinese),
        ("serve", "transports") => bench::transports(records),
        (name, "ratios") if !crate::figures::of(name).is_empty() => bench::ratios(records, name),
        (name, "absolutes") if !crate::figures::of(name).is_empty() => bench::absolutes(records, name),
        (name, "runs") if !crate::figures::of(name).is_empty() => bench::runs(records, name),
        _ => return None,
    })
}

/// A page's text with all of its blocks rendered, and how many there are.
///
/// # Errors
///
/// A marker that has no end, or names no block.
pub fn render(text: &str, records: &Records) -> Result<(String, usize), String> {
    let (mut rendered, mut rest, mut blocks) = (String::new(), text, 0);
    while let Some(at) = rest.find(BEGIN) {
        let (before, from) = rest.split_at(at);
        let (marker, inside) = from.split_once("-->\n").ok_or("a marker without an end of its line")?;
        let name = marker[BEGIN.len()..].trim();
        let content = block(records, name).ok_or_else(|| format!("`{name}` names no block"))?;
        let (_, after) = inside.split_once(END).ok_or_else(|| format!("the block `{name}` has no end"))?;
        rendered += &format!("{before}{BEGIN}{name} -->\n{content}{END}");
        rest = after;
        blocks += 1;
    }
    Ok((rendered + rest, blocks))
}
