//! The built binary from outside: what it prints, on which stream, and its exit code.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Runs `stampede` in a directory, without any `STAMPEDE_` variable except those given.
fn stampede(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    // A mutation applies to the command, too.
    let ours = |name: &str| name.starts_with("STAMPEDE_") && name != "STAMPEDE_MUTATION";
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.current_dir(dir).args(args).envs(env.iter().copied()).env("RUST_BACKTRACE", "1");
    command.output().expect("the binary runs")
}

struct Case<'a> {
    args: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
}

impl Case<'_> {
    /// Expects this exit code, nothing on standard output, and one line of error.
    fn complains(&self, code: i32, expected: &str) {
        let dir = tempfile::tempdir().unwrap();
        let output = stampede(dir.path(), self.args, self.env);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{:?}: {told}", self.args);
        assert_eq!(told.lines().count(), 1, "{:?}: {told}", self.args);
        assert!(told.starts_with("stampede: ") && told.ends_with(".\n"), "{:?}: {told}", self.args);
        assert!(told.contains(expected), "{:?}: {told}", self.args);
        assert!(output.stdout.is_empty(), "{:?}", self.args);
    }
}

fn complains(args: &[&str], code: i32, expected: &str) {
    Case { args, env: &[] }.complains(code, expected);
}

/// Runs it, expects success, and returns the output.
fn prints(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
    let output = stampede(dir, args, env);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{args:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bad_usage_is_one_line_and_code_2() {
    complains(&["serve", "--lsten", "x"], 2, "a similar argument exists: '--listen'");
    complains(&["srve"], 2, "'serve'");
    complains(&["token"], 2, "--sub");
    complains(&["token", "--sub", "a", "--ttl", "soon"], 2, "90s, 30m, 1h or 7d");
    complains(&["token", "--sub", "a", "--since", "1700000000000"], 2, "must be Unix seconds");
    complains(&["completions", "dos"], 2, "bash");
}

#[test]
fn settings_that_cannot_be_used_are_one_line_and_code_78() {
    complains(&["serve"], 78, "no key to check the buyers' tokens with");
    complains(&["check-config", "--config", "none.toml"], 78, "cannot read the settings file none.toml");
    complains(&["check-config", "--ack", "never"], 78, "ack = \"never\" (flag --ack): must be wal or memory");
    complains(&["serve", "--demo", "--listen", "0.0.0.0:1"], 78, "--demo serves this machine only");
    complains(&["serve", "--cores", "9000"], 78, "cores = \"9000\" (flag --cores): must be ");
    let env = [("STAMPEDE_LIMITS_CONNECTIONS", "many")];
    let case = Case { args: &["serve", "--demo"], env: &env };
    case.complains(78, "limits.connections = \"many\" (environment STAMPEDE_LIMITS_CONNECTIONS)");
}

#[test]
fn a_refusing_machine_is_one_line_and_code_1() {
    let args = ["serve", "--demo", "--data-dir", "/dev/null/here"];
    complains(&args, 1, "this machine cannot run the engine: data_dir: /dev/null/here cannot be used");
}

#[test]
fn commands_that_fail_say_why() {
    complains(&["migrate"], 78, "no database is configured");
    complains(&["migrate", "--postgres", "mysql://u@h/d"], 78, "postgres.url = *** (flag --postgres)");
    // Nobody listens on port 1.
    complains(
        &["migrate", "--postgres", "postgres://u:hunter2@127.0.0.1:1/d"],
        1,
        "unreachable at 127.0.0.1:1/d",
    );
    complains(&["log", "verify", "nowhere"], 1, "nowhere is not a directory");
    complains(&["log", "inspect", "nowhere"], 1, "nowhere is not a directory");
    complains(&["log", "verify", "."], 1, "holds no log");
}

/// `check-config`, `doctor` and `serve` read the URL with the exporter's own reader.
#[test]
fn a_postgres_url_that_is_invalid_is_refused_by_all_commands() {
    const PIECES: [&str; 4] = ["pa55", "w0rd", "x7y", "q3r"];
    let urls = [
        ("postgres://shop:pa55 w0rd/@:#@127.0.0.1:24032/shop", "more than one @"),
        ("postgres://shop:pa55@w0rd@127.0.0.1/shop", "more than one @"),
        ("postgres://shop:pa55:w0rd@127.0.0.1:port/shop", "port"),
        ("postgres://shop:pa55@127.0.0.1:99999/shop", "port"),
        ("postgres://shop:pa55@127.0.0.1/shop?sslmode=maybe", "sslmode"),
        ("postgres://shop:pa55@127.0.0.1/shop?sslcrl=x7y", "sslcrl is not supported"),
        ("postgres://shop:pa55@127.0.0.1/shop?x7y=q3r", "an option that does not exist"),
        ("postgres://127.0.0.1/shop", "it names no user"),
        ("postgres://shop:pa55@/shop", "it names no host"),
        ("user=shop password=pa55 dbname=shop", "it names no host"),
        ("host=h user=shop password=pa55 w0rd", "an option that does not exist"),
        ("host=h user=shop password=pa55 w0rd=x7y", "an option that does not exist"),
        ("host=h user=shop password='pa55", "a quote in it is not closed"),
    ];
    for (url, expected) in urls {
        for (command, code) in [("check-config", 78), ("serve", 78), ("migrate", 78), ("doctor", 1)] {
            let dir = tempfile::tempdir().unwrap();
            let env = [("STAMPEDE_POSTGRES_URL", url)];
            let output = stampede(dir.path(), &[command, "--demo"], &env);
            let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert_eq!(output.status.code(), Some(code), "{command} {url}: {told}");
            assert!(told.contains("postgres.url") && told.contains(expected), "{command} {url}: {told}");
            assert!(PIECES.iter().all(|piece| !told.contains(piece)), "{command} {url}: {told}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for url in [
        "postgres://shop:pa55%40w0rd%2F%3A@127.0.0.1:1/shop",
        "host=127.0.0.1 port=1 user=shop password=pa55",
    ] {
        prints(dir.path(), &["check-config", "--demo"], &[("STAMPEDE_POSTGRES_URL", url)]);
    }
}

#[test]
fn ticket_keys_are_rotated_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let rotate = || prints(dir.path(), &["rotate-ticket-key", "--data-dir", "data"], &[]);
    assert_eq!(rotate(), "ticket key 1 is made; from the next start on it seals\n");
    let second = rotate();
    assert!(second.starts_with("ticket key 2 is made") && second.contains("key 1 still opens"), "{second}");
    let kept = std::fs::read_to_string(dir.path().join("data/ticket.keys")).unwrap();
    assert!(kept.lines().count() == 2 && kept.starts_with("2:"), "the newest first");
    let shown = prints(dir.path(), &["check-config", "--demo", "--data-dir", "data"], &[]);
    assert!(kept.lines().all(|line| !shown.contains(&line[2..])));
    let key = "7:c2l4dGVlbiBhbmQgc2l4dGVlbiBieXRlcyBvZiBzZWNyZXQ=";
    let case = Case { args: &["rotate-ticket-key"], env: &[("STAMPEDE_GATE_TICKET_KEYS", key)] };
    case.complains(78, "gate.ticket_keys is configured");
}

#[test]
fn help_has_examples() {
    let dir = tempfile::tempdir().unwrap();
    for args in [&["help"][..], &["--help"]] {
        assert!(prints(dir.path(), args, &[]).contains("stampede serve --demo"));
    }
    let help = prints(dir.path(), &["serve", "--help"], &[]);
    for flag in
        ["--config", "--demo", "--listen", "--admin-listen", "--cores", "--data-dir", "--postgres", "--ack"]
    {
        assert!(help.contains(flag), "{help}");
    }
    let output = stampede(dir.path(), &[], &[]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn version_names_formats_and_kernel() {
    let dir = tempfile::tempdir().unwrap();
    let text = prints(dir.path(), &["version"], &[]);
    assert!(text.starts_with(&format!("stampede {}\n", env!("CARGO_PKG_VERSION"))), "{text}");
    for word in ["http api", "log format   2\n", "tables ", "kernel", "io_uring"] {
        assert!(text.contains(word), "{text}");
    }
}

#[test]
fn check_config_shows_values_sources_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let secret = "hunter2hunter2hunter2hunter2hunter2hunter2aa";
    let file = format!(
        "[postgres]\nurl = 'postgres://u:{secret}@h/d'\n[[identity.keys]]\nkid='a'\nalg='HS256'\nsecret='{secret}'\n"
    );
    std::fs::write(dir.path().join("shop.toml"), file).unwrap();
    let env = [("STAMPEDE_ADMIN_TOKEN", secret), ("STAMPEDE_CONFIG", "shop.toml")];
    let text = prints(dir.path(), &["check-config", "--cores", "1"], &env);
    let line = |key: &str| {
        let found = text.lines().find(|line| line.split_whitespace().next() == Some(key));
        found.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("postgres.url"), "postgres.url *** (shop.toml:2)");
    assert_eq!(line("identity.keys"), "identity.keys a (HS256, ***) (shop.toml:3)");
    assert_eq!(line("admin.token"), "admin.token *** (environment STAMPEDE_ADMIN_TOKEN)");
    assert!(line("cores").ends_with("(flag --cores)"));
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_closed_output_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_stampede"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    command.current_dir(dir.path()).args(["completions", "bash"]).stdout(writer);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn doctor_has_a_line_per_check_and_fails_with_one() {
    let dir = tempfile::tempdir().unwrap();
    let output = stampede(dir.path(), &["doctor", "--data-dir", "/dev/null/here"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let level_of = |check: &str| {
        let line = text.lines().find(|line| line.split_whitespace().nth(1) == Some(check));
        line.and_then(|line| line.split_whitespace().next()).map(str::to_owned)
    };
    for check in ["kernel", "io_uring", "memlock", "nofile", "cores", "disk", "clock", "backlog", "memory"] {
        assert!(level_of(check).is_some(), "{check}: {text}");
    }
    // No key is configured, and nothing can be made under a device.
    assert_eq!(level_of("settings").as_deref(), Some("FAIL"), "{text}");
    assert_eq!(level_of("data_dir").as_deref(), Some("FAIL"), "{text}");
    assert!(output.stderr.is_empty());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "doctor created something");
}

/// The claims of a token, after its signature was checked by hand.
fn verified_claims(token: &str, key: &[u8]) -> (serde_json::Value, serde_json::Value) {
    let (signed, signature) = token.trim_end().rsplit_once('.').unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(signed.as_bytes());
    mac.verify_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).expect("the signature is right");
    let (header, claims) = signed.split_once('.').unwrap();
    let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
    (json(header), json(claims))
}

#[test]
fn tokens_are_signed_with_the_demo_key() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["token", "--demo", "--sub", "al\"ice", "--ttl", "2h", "--lvl", "7", "--since", "1700000000"];
    let token = prints(dir.path(), &args, &[]);
    let key = std::fs::read_to_string(dir.path().join("stampede-demo/demo.key")).unwrap();
    let key = URL_SAFE_NO_PAD.decode(key.trim_end()).unwrap();
    let (header, claims) = verified_claims(&token, &key);
    assert_eq!(header, serde_json::json!({ "alg": "HS256", "typ": "JWT", "kid": "demo" }));
    assert_eq!(claims["sub"], "al\"ice");
    assert_eq!(claims["lvl"], 7);
    assert_eq!(claims["since"], 1_700_000_000);
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let left_s = claims["exp"].as_u64().unwrap() - now_s;
    assert!((7100..=7200).contains(&left_s), "{left_s}");
    // The same directory named without --demo has the same key.
    let again = prints(dir.path(), &["token", "--data-dir", "stampede-demo", "--sub", "bob"], &[]);
    let (_, claims) = verified_claims(&again, &key);
    assert_eq!(claims["sub"], "bob");
    assert_eq!(claims.get("lvl"), None);
}

#[test]
fn tokens_are_signed_with_a_configured_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = STANDARD.encode("sixteen and sixteen bytes of it!");
    let keys = format!("pub:EdDSA:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo now:HS256:{key}");
    let env = [("STAMPEDE_IDENTITY_KEYS", keys.as_str())];
    let token = prints(dir.path(), &["token", "--sub", "a"], &env);
    assert_eq!(verified_claims(&token, b"sixteen and sixteen bytes of it!").0["kid"], "now");
    Case { args: &["token", "--sub", "a", "--kid", "pub"], env: &env }.complains(1, "cannot sign");
    Case { args: &["token", "--sub", "a", "--kid", "old"], env: &env }.complains(1, "Known: pub, now");
    complains(&["token", "--sub", "a"], 1, "there is no HS256 key to sign with");
    complains(&["token", "--demo", "--sub", ""], 1, "1 to 255 bytes");
}
