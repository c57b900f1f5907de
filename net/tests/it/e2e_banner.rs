//! End to end: the command lines that a demo prints work when pasted into a shell in another directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{Bed, Server, TOKEN, wait_for};

/// The commands of the banner, each as one line.
fn printed(server: &mut Server) -> Vec<String> {
    let said = wait_for("the banner", || {
        let said = server.said();
        said.contains("Ctrl-C stops it").then_some(said)
    });
    let lines = said.split("Try it, in another terminal:\n").nth(1).expect("the commands");
    let lines = lines.split("Ctrl-C stops it").next().unwrap().replace("\\\n", " ");
    lines.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// Runs them in one shell in `dir`; returns their output.
fn paste(lines: &[String], dir: &Path) -> String {
    let script = lines.join("\n").replace("curl ", "curl -sS ");
    let mut shell = Command::new("sh");
    shell.args(["-ec", &script]).current_dir(dir).env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    let output = shell.output().expect("a shell");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{script}\n{text}");
    text
}

/// A demo whose data directory has a name that needs quoting.
fn demo(name: &str) -> (Bed, PathBuf) {
    let mut bed = Bed::demo();
    bed.dir = bed.beside(name);
    let elsewhere = bed.beside("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    (bed, elsewhere)
}

fn check(text: &str) {
    for words in ["\"items\":[", "HTTP/1.1 201", "\"order_id\":", "\"granted\":"] {
        assert!(text.contains(words), "no `{words}` in {text}");
    }
}

#[test]
fn e2e_the_printed_lines_work_from_another_directory() {
    let (bed, elsewhere) = demo("my 'own' $data");
    let mut bed = bed.set("admin.token", "");
    let mut server = bed.start();
    let lines = printed(&mut server);
    assert_eq!(lines.len(), 3, "{lines:?}");
    check(&paste(&lines, &elsewhere));
    let left: Vec<_> = std::fs::read_dir(&elsewhere).unwrap().collect();
    assert!(left.is_empty(), "a pasted line has created {left:?}");
}

/// A data directory given relative to where the server was started.
#[test]
fn e2e_the_printed_lines_know_where_the_server_was_started() {
    let (mut bed, elsewhere) = demo("unused");
    let here = std::env::current_dir().unwrap();
    let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
    bed.dir = up.join(bed.beside("data").strip_prefix("/").unwrap());
    let mut bed = bed.set("admin.token", "");
    let mut server = bed.start();
    check(&paste(&printed(&mut server), &elsewhere));
}

/// If the operator has set a token, there is no file to name.
#[test]
fn e2e_the_printed_lines_do_not_name_a_token_that_was_not_made() {
    let (mut bed, elsewhere) = demo("data");
    let mut server = bed.start();
    let mut lines = printed(&mut server);
    let place = lines.iter().position(|line| line.starts_with("ADMIN_TOKEN=")).expect("a place to put it");
    lines[place] = format!("ADMIN_TOKEN={TOKEN}");
    check(&paste(&lines, &elsewhere));
}
