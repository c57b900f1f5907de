//! Rewrites the patches from the mutated copy of the tree, after somebody has edited that copy.
//!
//! Each difference between product and copy names its mutation, as `mutated!("name")` or, if the
//! change has no switch, in a comment `// mutation: name`. So every change must name exactly one,
//! with at least one unchanged line between two mutations.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::patch::{CONTEXT, Hunk, Line, parse_diff};
use crate::tree::{HOME, SWITCH, SWITCH_NAME, UNPLACED, Workspace, files, read};

/// Writes the patch files. Returns the names of the changed ones.
///
/// # Errors
/// A change belongs to no mutation or to several (then nothing was written), or the new patches do not
/// reproduce the copy.
pub(crate) fn refresh(root: &Path, tree: &Path) -> Result<Vec<String>, String> {
    let mut workspace = Workspace::load(root)?;
    let mut by_name = split(&workspace, tree)?;
    let mut changed = Vec::new();
    for patch in workspace.mutations.iter_mut().chain([&mut workspace.switch]) {
        let hunks = by_name.remove(&patch.name);
        patch.hunks = hunks.ok_or_else(|| {
            format!("nothing in the copy names {0}; to remove that mutation, delete {0}.patch", patch.name)
        })?;
    }
    if let Some(name) = by_name.keys().next() {
        return Err(format!("{name} has no patch yet: write the first two lines of {name}.patch"));
    }
    for patch in workspace.mutations.iter().chain([&workspace.switch]) {
        let (file, text) = (workspace.file_of(&patch.name), patch.text());
        if read(&file)? != text {
            std::fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
            changed.push(patch.name.clone());
        }
    }
    let (texts, misfits) = workspace.mutated()?;
    if let Some(misfit) = misfits.first() {
        return Err(format!("{} in {}: {}", misfit.name, misfit.hunk.path, misfit.why));
    }
    for (path, text) in texts {
        if read(&tree.join(&path))? != text {
            return Err(format!("the patches do not reproduce {path} of the copy"));
        }
    }
    Ok(changed)
}

/// The changes in the copy, by mutation.
fn split(workspace: &Workspace, tree: &Path) -> Result<BTreeMap<String, Vec<Hunk>>, String> {
    let (mut by_name, mut faults) = (BTreeMap::<String, Vec<Hunk>>::new(), Vec::new());
    // Only product code has mutations.
    let is_product = |path: &String| path.contains("/src/") && !path.starts_with(HOME) && path != SWITCH;
    let mut paths: Vec<String> = files(tree)?.into_iter().filter(is_product).collect();
    paths.sort();
    for path in &paths {
        let (product, copy) = (workspace.root.join(path), tree.join(path));
        let bytes = |file: &Path| std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()));
        if bytes(&product).map_err(|error| format!("only the copy has it: {error}"))? == bytes(&copy)? {
            continue;
        }
        let source = read(&product)?;
        let lines: Vec<&str> = source.lines().collect();
        for change in changes(path, &product, &copy)? {
            match owner(&change) {
                Ok(name) => add(by_name.entry(name).or_default(), change, &lines),
                Err(why) => faults.push(format!("{path}:{}: {why}", change.at + 1)),
            }
        }
    }
    if !faults.is_empty() {
        return Err(faults.join("\n"));
    }
    for hunk in by_name.values_mut().flatten() {
        let source = read(&workspace.root.join(&hunk.path))?;
        end_with_context(hunk, &source.lines().collect::<Vec<_>>());
    }
    Ok(by_name)
}

/// The changes of a file, without context. `at` is where the first old line is, or would be.
fn changes(path: &str, product: &Path, copy: &Path) -> Result<Vec<Hunk>, String> {
    let mut git = Command::new("git");
    git.args(["diff", "--no-index", "--no-color", "--no-ext-diff", "-U0", "--"]).arg(product).arg(copy);
    let output = git.output().map_err(|error| format!("git: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let from = said.find("\n@@ -").ok_or_else(|| format!("{path}: git finds no difference"))?;
    parse_diff(&format!("+++ b/{path}{}", &said[from..]))
}

/// The one mutation that a change names.
fn owner(change: &Hunk) -> Result<String, String> {
    let added = change.lines.iter().filter_map(|line| match line {
        Line::New(text) => Some(text.as_str()),
        Line::Old(_) | Line::Same(_) => None,
    });
    let mut names = BTreeSet::new();
    for text in added {
        if UNPLACED.iter().any(|mark| text.starts_with(mark)) {
            return Err("a hunk that did not apply still has to be merged by hand".to_owned());
        }
        names.extend(names_in(text));
    }
    let mut names = names.into_iter();
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, _) => Err(format!(
            "it names no mutation: add `// mutation: name` (`// mutation: {SWITCH_NAME}` if it belongs to none), or make \
             the copy anew if the product has changed since"
        )),
        (Some(one), Some(other)) => {
            Err(format!("it names {one} and {other}: leave an unchanged line between the two"))
        }
    }
}

/// The mutations that a line names.
pub(crate) fn names_in(line: &str) -> impl Iterator<Item = &str> {
    let switches = line.split("mutated!(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let comments = line.split("// mutation: ").skip(1).filter_map(|rest| rest.split_whitespace().next());
    switches.chain(comments)
}

/// Adds a change to the hunks of its mutation: to the last one if their contexts touch.
fn add(hunks: &mut Vec<Hunk>, change: Hunk, lines: &[&str]) {
    let same = |range: std::ops::Range<usize>| lines[range].iter().map(|line| Line::Same((*line).to_owned()));
    if let Some(last) = hunks.last_mut().filter(|last| last.path == change.path) {
        let end = end_of(last);
        if change.at <= end + 2 * CONTEXT {
            last.lines.extend(same(end..change.at).chain(change.lines));
            return;
        }
    }
    let begin = change.at.saturating_sub(CONTEXT);
    let lines = same(begin..change.at).chain(change.lines).collect();
    hunks.push(Hunk { path: change.path, at: begin, lines });
}

/// The line of the source after the hunk's last.
fn end_of(hunk: &Hunk) -> usize {
    hunk.at + hunk.lines.iter().filter(|line| !matches!(line, Line::New(_))).count()
}

fn end_with_context(hunk: &mut Hunk, lines: &[&str]) {
    let end = end_of(hunk);
    let after = &lines[end..(end + CONTEXT).min(lines.len())];
    hunk.lines.extend(after.iter().map(|line| Line::Same((*line).to_owned())));
}
