//! Applies the hunks of many patches to one source file, all at once.
//!
//! Each hunk was made against the source and is found there by its own lines, near the line number that
//! it names, so it still applies when code above it grows or shrinks. Two mutations of the same line,
//! or of adjacent lines, are an error. Only text, no files. Next: [`crate::tree`].

use std::ops::Range;

use crate::patch::{CONTEXT, Hunk, Line};

/// A hunk that does not apply, and the reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Misfit {
    pub(crate) name: String,
    pub(crate) hunk: Hunk,
    pub(crate) why: String,
}

/// Lines of the source that are replaced by others.
struct Edit<'a> {
    old: Range<usize>,
    new: Vec<&'a str>,
    name: &'a str,
    hunk: &'a Hunk,
}

/// The text with all applicable hunks applied, and the hunks that do not apply. Each hunk comes with its patch's name.
pub(crate) fn merge(source: &str, hunks: &[(&str, &Hunk)]) -> (String, Vec<Misfit>) {
    let lines: Vec<&str> = source.lines().collect();
    let (mut edits, mut misfits) = (Vec::new(), Vec::new());
    for (name, hunk) in hunks {
        match place(&lines, hunk) {
            Some(at) => edits.extend(edits_at(at, name, hunk)),
            None => misfits.push(misfit(name, hunk, "its lines are not in the source any more")),
        }
    }
    edits.sort_by_key(|edit| (edit.old.start, edit.old.end));
    let (mut text, mut done, mut last) = (String::new(), 0, "");
    for edit in edits {
        let beside = edit.old.start == done && !last.is_empty() && edit.name != last;
        if edit.old.start < done || beside {
            let why = format!("{last} changes the same or adjacent lines");
            misfits.push(misfit(edit.name, edit.hunk, &why));
            continue;
        }
        for line in lines[done..edit.old.start].iter().chain(&edit.new) {
            text.push_str(line);
            text.push('\n');
        }
        (done, last) = (edit.old.end, edit.name);
    }
    for line in &lines[done..] {
        text.push_str(line);
        text.push('\n');
    }
    (text, misfits)
}

fn misfit(name: &str, hunk: &Hunk, why: &str) -> Misfit {
    Misfit { name: name.to_owned(), hunk: hunk.clone(), why: why.to_owned() }
}

/// Where the hunk's first line is: where all its old lines are, as close as possible to its line number.
/// If there is no such place, it tries with less context, and accepts only a unique match.
fn place(lines: &[&str], hunk: &Hunk) -> Option<usize> {
    let old: Vec<&str> = hunk.lines.iter().filter_map(old_text).collect();
    let is_same = |line: &&Line| matches!(line, Line::Same(_));
    let before = hunk.lines.iter().take_while(is_same).count();
    let after = hunk.lines.iter().rev().take_while(is_same).count();
    for less in 0..CONTEXT {
        let (head, tail) = (less.min(before), less.min(after));
        let wanted = old.get(head..old.len() - tail).filter(|wanted| !wanted.is_empty())?;
        let mut places: Vec<usize> = lines
            .windows(wanted.len())
            .enumerate()
            .filter(|(_, window)| *window == wanted)
            .filter_map(|(at, _)| at.checked_sub(head))
            .collect();
        places.sort_by_key(|at| at.abs_diff(hunk.at));
        match places[..] {
            [] => {}
            [at, ..] if less == 0 => return Some(at),
            [at] => return Some(at),
            _ => return None,
        }
    }
    None
}

fn old_text(line: &Line) -> Option<&str> {
    match line {
        Line::Same(text) | Line::Old(text) => Some(text),
        Line::New(_) => None,
    }
}

/// The changes of a hunk, without its context.
fn edits_at<'a>(at: usize, name: &'a str, hunk: &'a Hunk) -> Vec<Edit<'a>> {
    let mut edits: Vec<Edit<'a>> = Vec::new();
    let (mut at, mut goes_on) = (at, false);
    for line in &hunk.lines {
        if let Line::Same(_) = line {
            (at, goes_on) = (at + 1, false);
            continue;
        }
        if !std::mem::replace(&mut goes_on, true) {
            edits.push(Edit { old: at..at, new: Vec::new(), name, hunk });
        }
        let edit = edits.last_mut().expect("just pushed");
        match line {
            Line::Old(_) => {
                at += 1;
                edit.old.end = at;
            }
            Line::New(text) => edit.new.push(text),
            Line::Same(_) => unreachable!("seen above"),
        }
    }
    edits
}
