//! The README and its Chinese twin say the same: sections, commands, links, pictures. Links of all pages lead somewhere.
//!
//! What can be compared without knowing either language; the sentences are for people.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::tidy::root;

const ENGLISH: &str = "README.md";
const CHINESE: &str = "docs/README.zh-CN.md";

fn read(page: &str) -> String {
    fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// A page by its headings' levels and its code, line by line; a comment is left out, since
/// it is translated.
fn outline(page: &str) -> Vec<String> {
    let mut in_code = false;
    let mut outline = Vec::new();
    for line in read(page).lines() {
        if line.starts_with("```") {
            in_code = !in_code;
            outline.push(line.to_owned());
        } else if in_code {
            outline.push(line.split(" # ").next().unwrap_or(line).trim_end().to_owned());
        } else if line.starts_with('#') {
            outline.push(line.split(' ').next().unwrap_or(line).to_owned());
        }
    }
    assert!(!in_code, "{page}: a code block does not end");
    outline
}

/// The files that a page links to, from the root of the workspace.
fn linked(page: &str) -> BTreeSet<PathBuf> {
    let text = read(page);
    let dir = root().join(page);
    let dir = dir.parent().expect("a page lies in a directory");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://")).map(|target| {
        let path = dir.join(target).canonicalize();
        path.unwrap_or_else(|error| panic!("{page} links to {target}: {error}"))
    });
    files.collect()
}

#[test]
fn both_languages_have_the_same_sections_and_commands() {
    let english = outline(ENGLISH);
    assert!(english.len() > 8, "the walk found only {english:?}");
    assert_eq!(english, outline(CHINESE));
}

#[test]
fn both_languages_link_to_the_same_pages_and_to_each_other() {
    let of = |page: &str| root().join(page).canonicalize().expect("a page");
    let (mut english, mut chinese) = (linked(ENGLISH), linked(CHINESE));
    assert!(english.remove(&of(CHINESE)), "{ENGLISH} does not name its twin");
    assert!(chinese.remove(&of(ENGLISH)), "{CHINESE} does not name its twin");
    assert_eq!(english, chinese);
}

/// What a page shows: each picture as a file.
fn pictures(page: &str) -> Vec<PathBuf> {
    let text = read(page);
    let dir = root().join(page);
    let dir = dir.parent().expect("a page lies in a directory");
    let sources = text.split("<img src=\"").skip(1).filter_map(|rest| rest.split('"').next());
    sources.map(|source| dir.join(source)).collect()
}

#[test]
fn both_languages_show_a_small_picture() {
    const BYTES_MAX: u64 = 150 << 10;
    let [english, chinese] = [ENGLISH, CHINESE].map(pictures);
    assert_eq!((english.len(), chinese.len()), (1, 1));
    for picture in english.iter().chain(&chinese) {
        let bytes =
            fs::metadata(picture).unwrap_or_else(|error| panic!("{}: {error}", picture.display())).len();
        assert!(bytes <= BYTES_MAX, "{} has {bytes} bytes", picture.display());
    }
}

/// Every page of a directory, from the root of the workspace.
fn pages(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(dir)).unwrap_or_else(|error| panic!("{dir}: {error}"));
    let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".md")).map(|name| format!("{dir}/{name}")).collect()
}

#[test]
fn every_link_between_pages_leads_to_a_file() {
    let all: Vec<String> = [".", "docs", "docs/benchmarks"].into_iter().flat_map(pages).collect();
    assert!(all.len() > 20, "the walk found only {all:?}");
    let mut gone = Vec::new();
    for page in &all {
        let text = read(page);
        let dir = root().join(page);
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
        let files = targets.filter(|target| !target.is_empty() && !target.contains("://"));
        gone.extend(
            files
                .filter(|target| !dir.with_file_name(target).exists())
                .map(|target| format!("{page} → {target}")),
        );
    }
    assert!(gone.is_empty(), "{gone:#?}");
}
