//! The file of a mutation, `patches/<name>.patch`: two lines with the mistake and
//! the detectors that hunt it, then a diff against the product's source.
//!
//! ```text
//! Mistake: stock is checked, then taken, in two steps
//! Hunters: loom
//! ---
//! --- a/core/src/stock.rs
//! +++ b/core/src/stock.rs
//! @@ -23,6 +23,10 @@
//! ```
//!
//! Each patch is made against the unpatched source, so one can be added or deleted
//! without changing the others. Next: [`crate::merge`].

use std::fmt::{self, Write as _};
use std::path::Path;

/// Lines of context on either side of a change.
pub(crate) const CONTEXT: usize = 3;
/// The line that ends the header.
const RULE: &str = "---";

/// A line of a hunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Line {
    Same(String),
    Old(String),
    New(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(text) => write!(f, " {text}"),
            Self::Old(text) => write!(f, "-{text}"),
            Self::New(text) => write!(f, "+{text}"),
        }
    }
}

/// Neighbouring changes of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Hunk {
    /// From the root of the workspace.
    pub(crate) path: String,
    /// The number of its first line in the source, from 0.
    pub(crate) at: usize,
    pub(crate) lines: Vec<Line>,
}

/// A mutation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Patch {
    /// The file's name.
    pub(crate) name: String,
    /// What the mistake is.
    pub(crate) mistake: String,
    /// The names of detectors.
    pub(crate) hunters: Vec<String>,
    /// In the order of the files and lines.
    pub(crate) hunks: Vec<Hunk>,
}

impl Patch {
    /// Reads a patch file; a new one may end after its first two lines.
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (header, diff) = text.split_once("\n---\n").unwrap_or((text, ""));
        let field = |key: &str| {
            let line = header.lines().find_map(|line| line.strip_prefix(key));
            let value = line.map(str::trim).filter(|value| !value.is_empty());
            value.ok_or_else(|| format!("{name}.patch has no line `{key} …` above its `---`"))
        };
        let hunters = field("Hunters:")?.split(", ").map(str::to_owned).collect();
        let hunks = parse_diff(diff).map_err(|error| format!("{name}.patch: {error}"))?;
        Ok(Self { name: name.to_owned(), mistake: field("Mistake:")?.to_owned(), hunters, hunks })
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("Mistake: {}\nHunters: {}\n{RULE}\n", self.mistake, self.hunters.join(", "));
        text.push_str(&diff_text(&self.hunks));
        text
    }
}

/// All patches of a directory, by name.
///
/// # Errors
/// A file cannot be read or parsed.
pub(crate) fn load(dir: &Path) -> Result<Vec<Patch>, String> {
    let mut patches = Vec::new();
    let entries = std::fs::read_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let file = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name = file.strip_suffix(".patch").ok_or_else(|| format!("{} is not a patch", path.display()))?;
        let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        patches.push(Patch::parse(name, &text)?);
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

/// Reads a unified diff.
///
/// # Errors
/// A line that is not part of a diff.
pub(crate) fn parse_diff(diff: &str) -> Result<Vec<Hunk>, String> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let mut path = None;
    for line in diff.lines() {
        if line.starts_with("--- a/") {
            path = None;
        } else if let Some(named) = line.strip_prefix("+++ b/") {
            path = Some(named.to_owned());
        } else if let Some(range) = line.strip_prefix("@@ -") {
            let path = path.clone().ok_or("a hunk stands before the name of its file")?;
            let at = first_line(range).ok_or_else(|| format!("no range: {line}"))?;
            hunks.push(Hunk { path, at, lines: Vec::new() });
        } else {
            let hunk = hunks.last_mut().ok_or_else(|| format!("not a line of a diff: {line}"))?;
            // An editor may have removed the space of an empty line.
            let (mark, rest) = line.split_at_checked(1).unwrap_or((" ", ""));
            hunk.lines.push(match mark {
                " " => Line::Same(rest.to_owned()),
                "-" => Line::Old(rest.to_owned()),
                "+" => Line::New(rest.to_owned()),
                _ => return Err(format!("not a line of a diff: {line}")),
            });
        }
    }
    Ok(hunks)
}

/// The first line, from 0, of a range such as `23,6 +23,10 @@`. An empty range names the line before it.
fn first_line(range: &str) -> Option<usize> {
    let (first, count) = range.split(' ').next()?.split_once(',').unwrap_or((range.split(' ').next()?, "1"));
    let first: usize = first.parse().ok()?;
    if count == "0" { Some(first) } else { first.checked_sub(1) }
}

/// Writes a unified diff for `git apply`; the hunks are in order.
fn diff_text(hunks: &[Hunk]) -> String {
    let mut text = String::new();
    let (mut path, mut shift) = ("", 0_isize);
    for hunk in hunks {
        if hunk.path != path {
            (path, shift) = (&hunk.path, 0);
            let _infallible = write!(text, "--- a/{path}\n+++ b/{path}\n");
        }
        let old = hunk.lines.iter().filter(|line| !matches!(line, Line::New(_))).count();
        let new = hunk.lines.iter().filter(|line| !matches!(line, Line::Old(_))).count();
        let to = (hunk.at + 1).saturating_add_signed(shift);
        let _infallible = writeln!(text, "@@ -{},{old} +{to},{new} @@", hunk.at + 1);
        shift += new as isize - old as isize;
        for line in &hunk.lines {
            let _infallible = writeln!(text, "{line}");
        }
    }
    text
}
