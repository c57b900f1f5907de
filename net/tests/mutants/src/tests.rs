//! Checks all patches without a build, and tests how patches are applied and rewritten.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::detectors::{DETECTORS, named};
use crate::merge::merge;
use crate::patch::{Patch, parse_diff};
use crate::refresh::{names_in, refresh};
use crate::tree::{Workspace, files, read};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(3).expect("the workspace")
}

fn workspace() -> Workspace {
    Workspace::load(root()).expect("every patch can be read")
}

#[test]
fn all_patches_apply_together() {
    let (texts, misfits) = workspace().mutated().expect("every file that a patch names is there");
    let told: Vec<String> =
        misfits.iter().map(|m| format!("{}: {}: {}", m.hunk.path, m.name, m.why)).collect();
    assert!(told.is_empty(), "see `make mutants-tree`:\n  {}", told.join("\n  "));
    assert!(texts.len() > 50, "only {} files are changed", texts.len());
}

#[test]
fn each_patch_has_its_own_mistake_and_hunters() {
    let workspace = workspace();
    let mut mistakes = BTreeSet::new();
    for patch in &workspace.mutations {
        assert!(mistakes.insert(&patch.mistake), "{}: another mutation has the same mistake", patch.name);
        for hunter in &patch.hunters {
            assert!(named(hunter).is_some(), "{}: there is no detector {hunter:?}", patch.name);
        }
    }
    let hunts = |name: &str| workspace.mutations.iter().any(|patch| patch.hunters.iter().any(|h| h == name));
    let idle: Vec<_> = DETECTORS.iter().filter(|detector| !hunts(detector.name)).map(|d| d.name).collect();
    assert_eq!(idle, [""; 0], "detectors that no patch names");
}

#[test]
fn each_patch_asks_only_its_own_switch() {
    let workspace = workspace();
    for patch in workspace.mutations.iter().chain([&workspace.switch]) {
        let text = read(&workspace.file_of(&patch.name)).expect("it was read before");
        let added: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('+')).collect();
        let names: BTreeSet<&str> = added.iter().flat_map(|line| names_in(line)).collect();
        assert_eq!(names, BTreeSet::from([patch.name.as_str()]), "{}.patch", patch.name);
        let is_switched = added.iter().any(|line| line.contains("mutated!("));
        assert!(is_switched || patch.name == "switch", "{}.patch never asks its switch", patch.name);
        assert_eq!(
            text,
            patch.text(),
            "{}.patch differs from what `make mutants-refresh` would write",
            patch.name
        );
    }
}

#[test]
fn the_product_contains_no_mutation() {
    let marks = ["mutated!(", "// mutation: ", "planted"];
    for krate in ["core", "persist", "net"] {
        for path in files(&root().join(krate).join("src")).expect("the sources") {
            let bytes = fs::read(root().join(krate).join("src").join(&path)).expect("a source file");
            let text = String::from_utf8_lossy(&bytes);
            assert!(!marks.iter().any(|mark| text.contains(mark)), "{krate}/src/{path}");
        }
    }
}

#[test]
fn every_test_named_by_a_detector_exists() {
    for detector in DETECTORS {
        let place = root().join(detector.program.sources());
        assert!(place.exists(), "{}: there is no {}", detector.name, place.display());
        if detector.tests.is_empty() {
            continue;
        }
        let mut tests = Vec::new();
        for path in files(&place).expect("the sources").iter().filter(|path| path.ends_with(".rs")) {
            tests.extend(tests_of(path, &read(&place.join(path)).expect("text")));
        }
        for wanted in detector.tests {
            assert!(tests.iter().any(|test| test.contains(wanted)), "{}: no test {wanted}", detector.name);
        }
    }
}

/// The tests of a file by module and function, as the test program names them.
fn tests_of(path: &str, text: &str) -> Vec<String> {
    let module = path.trim_end_matches(".rs").replace('/', "::");
    let (mut inner, mut is_test, mut found) = (String::new(), false, Vec::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            inner = format!("::{name}");
        }
        let line = line.trim();
        is_test |= line == "#[test]";
        if let Some(rest) = line.strip_prefix("fn ").filter(|_| is_test) {
            found.push(format!("{module}{inner}::{}", rest.split('(').next().unwrap_or_default()));
            is_test = false;
        }
    }
    found
}

const SOURCE: &str = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";

/// The source with these diffs applied, and the names of the patches that do not apply.
fn applied(source: &str, diffs: &[(&str, &str)]) -> (String, Vec<String>) {
    let parsed: Vec<_> = diffs
        .iter()
        .map(|(name, diff)| (*name, parse_diff(&format!("--- a/x\n+++ b/x\n{diff}")).expect("a diff")))
        .collect();
    let hunks: Vec<_> =
        parsed.iter().flat_map(|(name, hunks)| hunks.iter().map(move |hunk| (*name, hunk))).collect();
    let (text, misfits) = merge(source, &hunks);
    (text, misfits.into_iter().map(|misfit| misfit.name).collect())
}

const E_TO_X: &str = "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+x\n f\n g\n h\n";
const AFTER_F: &str = "@@ -4,6 +4,7 @@\n d\n e\n f\n+y\n g\n h\n i\n";

#[test]
fn patches_apply_within_the_context_of_each_other() {
    let (text, misfits) = applied(SOURCE, &[("one", E_TO_X), ("two", AFTER_F)]);
    assert_eq!((text.as_str(), misfits.len()), ("a\nb\nc\nd\nx\nf\ny\ng\nh\ni\nj\n", 0));
    let (other, _) = applied(SOURCE, &[("two", AFTER_F), ("one", E_TO_X)]);
    assert_eq!(other, text, "the order makes no difference");
}

#[test]
fn a_hunk_follows_code_that_has_moved() {
    let source = format!("new\nlines\n{SOURCE}");
    let (text, misfits) = applied(&source, &[("one", E_TO_X)]);
    assert_eq!((text.contains("d\nx\nf"), misfits.len()), (true, 0));
    // A changed line at the edge of the context does no harm if the rest is unique.
    let (text, misfits) = applied(&SOURCE.replace("b\n", "B\n"), &[("one", E_TO_X)]);
    assert_eq!((text.contains("d\nx\nf"), misfits.len()), (true, 0));
    let twice = format!("{SOURCE}{SOURCE}").replace("b\n", "B\n");
    let (text, misfits) = applied(&twice, &[("one", E_TO_X)]);
    assert_eq!((text, misfits), (twice, vec!["one".to_owned()]), "it does not guess between two");
}

#[test]
fn a_hunk_whose_lines_are_gone_is_reported() {
    let (text, misfits) = applied(&SOURCE.replace("e\n", "E\n"), &[("one", E_TO_X)]);
    assert_eq!((text, misfits), (SOURCE.replace("e\n", "E\n"), vec!["one".to_owned()]));
}

#[test]
fn two_mutations_of_the_same_lines_are_reported() {
    let other = "@@ -2,7 +2,7 @@\n b\n c\n d\n-e\n+z\n f\n g\n h\n";
    let beside = "@@ -3,6 +3,7 @@\n c\n d\n e\n+z\n f\n g\n h\n";
    for second in [other, beside] {
        let (text, misfits) = applied(SOURCE, &[("one", E_TO_X), ("two", second)]);
        assert_eq!((text.contains("d\nx\nf"), misfits), (true, vec!["two".to_owned()]));
    }
}

/// A workspace with one source file and two mutations that have only their first lines.
fn small_workspace() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let home = dir.path().join("net/tests/mutants");
    for path in [home.join("patches"), dir.path().join("core/src")] {
        fs::create_dir_all(path).expect("a directory");
    }
    let put = |path: &Path, text: &str| fs::write(path, text).expect("it can be written");
    put(&dir.path().join("core/src/x.rs"), SOURCE);
    put(&dir.path().join("core/src/lib.rs"), "//! x\n");
    put(&home.join("switch.rs"), "// the switch\n");
    put(&home.join("switch.patch"), "Mistake: none\nHunters: none\n---\n");
    put(&home.join("patches/one.patch"), "Mistake: one\nHunters: core\n");
    put(&home.join("patches/two.patch"), "Mistake: two\nHunters: core, sim\n");
    dir
}

/// The small workspace with its copy, edited so that each mutation has its place.
fn edited_workspace() -> (TempDir, std::path::PathBuf) {
    let dir = small_workspace();
    let at = dir.path().join("target");
    let (tree, misfits) = Workspace::load(dir.path()).expect("read").copy_to(&at).expect("a copy");
    assert!(misfits.is_empty() && read(&tree.join("core/src/mutated.rs")).expect("text").contains("\"two\""));
    let edited = SOURCE
        .replace("b\n", "if mutated!(\"one\") {\n    b\n}\n")
        .replace("d\n", "if mutated!(\"two\") {}\n")
        .replace("j\n", "j // mutation: one\n");
    fs::write(tree.join("core/src/x.rs"), edited).expect("written");
    fs::write(tree.join("core/src/lib.rs"), "//! x\npub mod mutated; // mutation: switch\n")
        .expect("written");
    (dir, tree)
}

#[test]
fn edits_of_the_copy_become_patches_and_can_be_restored() {
    let (dir, tree) = edited_workspace();
    let edited = Workspace::load(dir.path()).expect("read").copy_to(&dir.path().join("target"));
    assert!(edited.is_err_and(|error| error.contains("mutants-refresh")), "an edit is not overwritten");
    assert_eq!(refresh(dir.path(), &tree), Ok(vec!["one".into(), "two".into(), "switch".into()]));
    assert_eq!(refresh(dir.path(), &tree), Ok(Vec::new()), "written once, they are as they are");
    let workspace = Workspace::load(dir.path()).expect("read");
    assert_eq!(workspace.mutations[0].hunks.len(), 2);
    let (anew, misfits) = workspace.copy_to(&dir.path().join("other")).expect("a copy");
    assert!(misfits.is_empty());
    for path in ["core/src/x.rs", "core/src/lib.rs"] {
        assert_eq!(read(&anew.join(path)), read(&tree.join(path)));
    }
    let text = workspace.mutations[1].text();
    assert_eq!(Patch::parse("two", &text), Ok(workspace.mutations[1].clone()));
}

#[test]
fn edits_of_no_mutation_or_of_two_are_refused() {
    for (edit, says) in [("x\n", "names no mutation"), ("mutated!(\"one\") mutated!(\"two\")\n", "two")] {
        let (dir, tree) = edited_workspace();
        let text = read(&tree.join("core/src/x.rs")).expect("text").replace("f\n", edit);
        fs::write(tree.join("core/src/x.rs"), text).expect("written");
        let refused = refresh(dir.path(), &tree).expect_err("it cannot be split");
        assert!(refused.contains(says), "{refused}");
    }
    let (dir, tree) = edited_workspace();
    fs::remove_file(dir.path().join("net/tests/mutants/patches/two.patch")).expect("it is there");
    assert!(refresh(dir.path(), &tree).is_err_and(|error| error.contains("two has no patch yet")));
    let (dir, tree) = edited_workspace();
    fs::write(tree.join("core/src/x.rs"), SOURCE).expect("written");
    assert!(refresh(dir.path(), &tree).is_err_and(|error| error.contains("nothing in the copy names one")));
}

#[test]
fn a_hunk_that_does_not_apply_stays_in_the_copy() {
    let (dir, tree) = edited_workspace();
    refresh(dir.path(), &tree).expect("patches");
    fs::remove_dir_all(dir.path().join("target")).expect("the copy");
    fs::write(dir.path().join("core/src/x.rs"), SOURCE.replace("d\n", "D\n")).expect("the product moves on");
    let workspace = Workspace::load(dir.path()).expect("read");
    let (tree, misfits) = workspace.copy_to(&dir.path().join("target")).expect("a copy");
    assert_eq!(misfits.len(), 1);
    let text = read(&tree.join("core/src/x.rs")).expect("text");
    assert!(text.contains("<<<<<<< two") && text.contains("mutated!(\"one\")"), "{text}");
    assert!(refresh(dir.path(), &tree).is_err_and(|error| error.contains("still has to be merged by hand")));
}
