//! Settings as an operator writes them, and what comes of it.

use std::io;
use std::path::{Path, PathBuf};

use super::keys::{KEYS, LOG_BYTES, SEGMENT_BYTES, SEGMENTS_MIN};
use super::units::{parse_bytes, parse_cores, show_bytes, show_cores};
use super::*;

/// A file, environment and flags of one case.
#[derive(Default)]
struct Case<'a> {
    file: &'a str,
    env: &'a [(&'a str, &'a str)],
    flags: &'a [(&'static str, &'a str)],
    demo: bool,
    serving: bool,
}

const SECRET_FILE: &str = "/run/secrets/it";

impl Case<'_> {
    fn load(&self) -> Result<Loaded, SettingsError> {
        let read = |path: &Path| match path.to_str() {
            Some(SECRET_FILE) => Ok("out-of-a-file-0123456789\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        load(&Inputs {
            flags: self.flags.iter().map(|(key, text)| (*key, (*text).to_owned())).collect(),
            env: self.env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
            file: (!self.file.is_empty()).then(|| (PathBuf::from("shop.toml"), self.file.to_owned())),
            demo: self.demo,
            serving: self.serving,
            cpus: vec![0, 1, 2, 3, 6, 7],
            read: &read,
        })
    }

    /// The line of one key in `check-config`, blanks squeezed; or the complaint.
    fn line(&self, key: &str) -> String {
        match self.load() {
            Ok(loaded) => {
                let lines = show::lines(&loaded);
                let line = lines.iter().find(|line| line.split_whitespace().next() == Some(key));
                line.unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }
}

/// The value of a key that stands in the last line of a file.
fn from_file(file: &str, key: &str, shown: &str) {
    let line = Case { file, ..Case::default() }.line(key);
    assert_eq!(line, format!("{key} {shown} (shop.toml:{})", file.lines().count()), "file: {file}");
}

fn refused(file: &str, expected: &str) {
    let shown = Case { file, ..Case::default() }.load().map(|_| ()).map_err(|error| error.to_string());
    assert_eq!(shown, Err(expected.to_owned()), "file: {file}");
}

/// A word of older settings files: the error says what has become of it.
#[test]
fn a_transport_that_was_removed_is_told_from_one_that_never_was() {
    let said = |file: &str| Case { file, ..Case::default() }.load().map(|_| ()).unwrap_err().to_string();
    let removed = "`streams` was removed, `epoll` takes its place";
    assert!(said("transport = \"streams\"").contains(removed));
    assert!(!said("transport = \"stream\"").contains(removed));
}

#[test]
fn defaults_are_as_the_table_says() {
    let loaded = Case::default().load().unwrap();
    assert!(loaded.sources.iter().all(|source| *source == Source::Default));
    assert!(loaded.warnings.is_empty());
    for key in KEYS.iter().filter(|key| !key.default.is_empty() && key.name != "cores") {
        assert_eq!((key.show)(&loaded.settings), key.default, "{}", key.name);
    }
    assert_eq!(loaded.settings.cores, [0, 1, 2, 3, 6, 7]);
}

#[test]
fn demo_presets_are_as_the_table_says() {
    let loaded = Case { demo: true, serving: true, ..Case::default() }.load().unwrap();
    for (key, source) in KEYS.iter().zip(&loaded.sources) {
        if let Some(preset) = key.demo {
            assert_eq!((key.show)(&loaded.settings), preset, "{}", key.name);
            assert_eq!(*source, Source::Demo);
        }
    }
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = "\nlisten = \"127.0.0.1:1\"";
    let env: &[(&str, &str)] = &[("STAMPEDE_LISTEN", "127.0.0.1:2")];
    let flags: &[(&str, &str)] = &[("listen", "127.0.0.1:3")];
    let line = |case: Case<'_>| case.line("listen");
    assert_eq!(line(Case { file, ..Case::default() }), "listen 127.0.0.1:1 (shop.toml:2)");
    assert_eq!(
        line(Case { file, env, ..Case::default() }),
        "listen 127.0.0.1:2 (environment STAMPEDE_LISTEN)"
    );
    assert_eq!(line(Case { file, env, flags, ..Case::default() }), "listen 127.0.0.1:3 (flag --listen)");
}

#[test]
fn values_are_read_in_every_form() {
    from_file("listen = '[::]:70'", "listen", "[::]:70");
    from_file("listen = 'localhost:70'", "listen", "127.0.0.1:70");
    from_file("cores = 2", "cores", "0-1");
    from_file("cores = '3,6-7'", "cores", "3,6-7");
    from_file("cores = '3-3'", "cores", "3-3");
    from_file("[log]\nsegment_bytes = 8388608", "log.segment_bytes", "8MiB");
    from_file("[log]\nsegment_bytes = '8 MiB'", "log.segment_bytes", "8MiB");
    from_file("log.bytes_max = '1PiB'", "log.bytes_max", "1PiB");
    from_file("log.allow_tmpfs = true", "log.allow_tmpfs", "true");
    from_file("ack = 'memory'", "ack", "memory");
    let nets = "identity = { mode = 'header', trusted_proxies = ['10.0.0.0/8', '::1'] }";
    from_file(nets, "identity.trusted_proxies", "10.0.0.0/8, ::1/128");
    let origins = "identity.cors_origins = ['https://Shop.example', 'http://[::1]:3000', '*']";
    from_file(origins, "identity.cors_origins", "https://shop.example, http://[::1]:3000, *");
    from_file("limits.head_bytes = '32 KiB'", "limits.head_bytes", "32KiB");
    from_file("limits.head_bytes = 9000", "limits.head_bytes", "9000");
    from_file("limits.idle_ms = 1000", "limits.idle_ms", "1000");
}

#[test]
fn wrong_values_name_key_place_and_what_is_allowed() {
    refused("[limits]\n\nconnections = 0", "limits.connections = 0 (shop.toml:3): must be 1 to 10000000");
    let cases = [
        ("limits.connections", r#""1e3""#),
        ("limits.head_bytes", "8191"),
        ("limits.head_bytes", "32769"),
        ("limits.idle_ms", "999"),
        ("identity.cors_origins", r#""https://a/""#),
        ("ack", r#""disk""#),
        ("ack", "1.5"),
        ("log.allow_tmpfs", r#""yes""#),
        ("log.segment_bytes", "4194305"),
        ("log.bytes_max", r#""128MiB""#),
        ("admin_listen", r#""0.0.0.0:7070""#),
        ("listen", r#""shop:7070""#),
    ];
    for (name, value) in cases {
        let allowed = (KEYS[keys::position(name).unwrap()].allowed)();
        refused(&format!("{name} = {value}"), &format!("{name} = {value} (shop.toml:1): must be {allowed}"));
    }
    let usable = "among the 6 processors that this process may use (0-3,6-7), at most 64 of them";
    for value in ["7", r#""4-5""#] {
        refused(&format!("cores = {value}"), &format!("cores = {value} (shop.toml:1): must be {usable}"));
    }
    let flags: &[(&str, &str)] = &[("cores", "none")];
    assert_eq!(
        Case { flags, ..Case::default() }.load().unwrap_err().to_string(),
        "cores = \"none\" (flag --cores): must be all, a number of cores (4), or a list of processors (0,2-5; a single one: 3-3), at most 64"
    );
}

#[test]
fn unknown_keys_are_refused_with_a_suggestion() {
    refused("lisen = ''", "unknown key lisen (shop.toml:1). Did you mean listen?");
    refused(
        "[log]\nsegment_size = 1",
        "unknown key log.segment_size (shop.toml:2). Did you mean log.segment_bytes?",
    );
    refused("connections = 1", "unknown key connections (shop.toml:1). Did you mean limits.connections?");
    refused("[limit]\nconnections = 1", "unknown key limit (shop.toml:1). Did you mean limits?");
    refused("xyzzy = 1", "unknown key xyzzy (shop.toml:1)");
    refused(
        "[[identity.keys]]\nkid = 'a'\nsecrte = 'b'",
        "unknown key identity.keys.secrte (shop.toml:3). Did you mean identity.keys.secret?",
    );
    let syntax = Case { file: "\nlisten = ", ..Case::default() }.load().unwrap_err().to_string();
    assert!(syntax.starts_with("shop.toml:2: "), "{syntax}");
}

#[test]
fn unknown_variables_are_a_warning() {
    let env: &[(&str, &str)] = &[
        ("STAMPEDE_LITSEN", "x"),
        ("STAMPEDE_SERVICE_HOST", "10.1.2.3"),
        ("STAMPEDE_CONFIG", "x"),
        ("HOME", "/"),
    ];
    let warnings = Case { env, ..Case::default() }.load().unwrap().warnings;
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].ends_with("Did you mean STAMPEDE_LISTEN?"), "{warnings:?}");
}

#[test]
fn secrets_may_come_from_files() {
    let env: &[(&str, &str)] = &[("STAMPEDE_ADMIN_TOKEN_FILE", SECRET_FILE)];
    let case = Case { env, ..Case::default() };
    assert_eq!(case.line("admin.token"), "admin.token *** (file named by STAMPEDE_ADMIN_TOKEN_FILE)");
    let token = case.load().unwrap().settings.admin.token.unwrap();
    assert_eq!(token.reveal(), "out-of-a-file-0123456789");

    let env: &[(&str, &str)] = &[("STAMPEDE_ADMIN_TOKEN_FILE", "/nowhere")];
    let error = Case { env, ..Case::default() }.load().unwrap_err().to_string();
    assert!(error.starts_with("cannot read /nowhere, which STAMPEDE_ADMIN_TOKEN_FILE names ("), "{error}");

    let env: &[(&str, &str)] =
        &[("STAMPEDE_ADMIN_TOKEN_FILE", SECRET_FILE), ("STAMPEDE_ADMIN_TOKEN", "0123456789abcdef")];
    let error = Case { env, ..Case::default() }.load().unwrap_err().to_string();
    assert_eq!(error, "both STAMPEDE_ADMIN_TOKEN and STAMPEDE_ADMIN_TOKEN_FILE are set. Unset one of them");
    // A file named in the environment also beats the settings file.
    let env: &[(&str, &str)] = &[("STAMPEDE_ADMIN_TOKEN_FILE", SECRET_FILE)];
    let file = "admin.token = '0123456789abcdef'";
    let settings = Case { env, file, ..Case::default() }.load().unwrap().settings;
    assert_eq!(settings.admin.token.unwrap().reveal(), "out-of-a-file-0123456789");
}

#[test]
fn identity_rules() {
    let serving = |file: &str| {
        let loaded = Case { file, serving: true, ..Case::default() }.load();
        loaded.map(|_| "fine".to_owned()).unwrap_or_else(|error| error.to_string())
    };
    let key = "[[identity.keys]]\nkid='a'\nalg='HS256'\nsecret='c2l4dGVlbiBhbmQgc2l4dGVlbiBieXRlcyBvZiBzZWNyZXQ='\n";
    assert_eq!(serving(key), "fine");
    assert!(serving("").starts_with("no key to check the buyers' tokens with. Set identity.keys"));
    assert!(serving(&format!("{key}{key}")).contains("two keys have the kid \"a\""));
    assert!(
        serving("[[identity.keys]]\nkid='a'\nalg='none'\nsecret='x'").contains("must be tables with kid")
    );
    assert!(
        serving("[[identity.keys]]\nkid='a'\nalg='EdDSA'\nsecret='x'").contains("must be tables with kid")
    );
    assert!(
        serving("[[identity.keys]]\nkid='a'\nalg='HS256'\nsecret='c2hvcnQ='").contains("at least 32 bytes")
    );
    assert!(
        serving("[[identity.keys]]\nkid='a'\nalg='EdDSA'\npublic='c2hvcnQ='").contains("32 bytes in base64")
    );
    assert_eq!(serving("identity.mode = 'header'"), "fine");
    let open = "listen = '0.0.0.0:7070'\n[identity]\nmode = 'header'\n";
    assert!(serving(open).starts_with("identity.mode = header lets everybody be any buyer"));
    assert_eq!(serving(&format!("{open}trusted_proxies = ['10.0.0.0/8']")), "fine");
    assert!(serving(&format!("identity.mode='header'\n{key}")).contains("does nothing"));
    assert_eq!(serving(&format!("identity.trusted_proxies = ['10.0.0.0/8']\n{key}")), "fine");
    let proxied = "proxy_protocol = true\n";
    let named = "trusted_proxies = ['10.0.0.0/8']\n";
    let under = |lines: &str| serving(&format!("[identity]\n{lines}{key}"));
    assert_eq!(under(&format!("{proxied}{named}")), "fine");
    assert!(under(proxied).contains("needs identity.trusted_proxies"), "{}", under(proxied));
    let header = serving(&format!("[identity]\nmode = 'header'\n{proxied}{named}"));
    assert!(header.contains("cannot be used with identity.mode = header"), "{header}");
    assert_eq!(serving(&format!("identity.cookie = 'shop-token_2'\n{key}")), "fine");
    for name in ["", "a b", "a;b", "a=b", "ä", &"c".repeat(65)] {
        let error = serving(&format!("identity.cookie = '{name}'\n{key}"));
        assert!(error.contains("must be a name of 1 to 64 letters"), "{name}: {error}");
    }
    assert!(serving("identity.trusted_proxies = ['10.0.0.0/33']").contains("must be a list of addresses"));
}

#[test]
fn rules_for_tokens() {
    use crate::identity::rules::TokenRules;
    let rules = |file: &str| {
        let loaded = Case { file, ..Case::default() }.load();
        loaded.map(|loaded| loaded.settings.identity.rules()).map_err(|error| error.to_string())
    };
    assert_eq!(rules(""), Ok(TokenRules::default()), "the defaults of both are the same");
    let all = "[identity]\naudience = ['https://shop', 'app']\nissuer = 'https://id'\nnbf_leeway_s = 5\n\
               exp_leeway_s = 6\ntoken_life_max_s = 3600\n";
    let expected = TokenRules {
        audience: vec!["https://shop".to_owned(), "app".to_owned()],
        issuer: vec!["https://id".to_owned()],
        nbf_leeway_ms: 5_000,
        exp_leeway_ms: 6_000,
        life_max_ms: 3_600_000,
    };
    assert_eq!(rules(all), Ok(expected));
    for bad in
        ["audience = ['']", "audience = ['a b']", "issuer = 5", "nbf_leeway_s = 301", "token_life_max_s = 59"]
    {
        assert!(rules(&format!("[identity]\n{bad}\n")).unwrap_err().contains("must be"), "{bad}");
    }
    for useless in ["audience = 'a'", "issuer = 'a'"] {
        let error = rules(&format!("[identity]\nmode = 'header'\n{useless}\n")).unwrap_err();
        assert!(error.contains("do nothing with identity.mode = header"), "{error}");
    }
}

#[test]
fn demo_stays_on_this_machine() {
    let listens = [("listen", "0.0.0.0:7070"), ("admin_listen", "0.0.0.0:7071")];
    for listen in listens {
        let case = Case { flags: &[listen], demo: true, ..Case::default() };
        let error = case.load().map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("--demo serves this machine only"), "{error}");
    }
}

#[test]
fn keys_from_the_environment() {
    let env: &[(&str, &str)] = &[(
        "STAMPEDE_IDENTITY_KEYS",
        "a:HS256:c2l4dGVlbiBhbmQgc2l4dGVlbiBieXRlcyBvZiBzZWNyZXQ=\nb:EdDSA:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
    )];
    let case = Case { env, ..Case::default() };
    assert_eq!(
        case.line("identity.keys"),
        "identity.keys a (HS256, ***), b (EdDSA, ***) (environment STAMPEDE_IDENTITY_KEYS)"
    );
    let keys = case.load().unwrap().settings.identity.keys;
    assert_eq!(keys[0].material.reveal(), "c2l4dGVlbiBhbmQgc2l4dGVlbiBieXRlcyBvZiBzZWNyZXQ=");
    let env: &[(&str, &str)] = &[("STAMPEDE_IDENTITY_KEYS", "only-a-secret")];
    let error = Case { env, ..Case::default() }.load().unwrap_err().to_string();
    assert!(
        error.starts_with("identity.keys = *** (environment STAMPEDE_IDENTITY_KEYS): must be "),
        "{error}"
    );
}

/// Whatever is wrong or right: what was given as a secret is never shown.
#[test]
fn secrets_are_never_shown() {
    const SECRET: &str = "hunter2hunter2hunter2";
    let files = [
        "admin.token = 'hunter2hunter2hunter2'",
        "admin.token = ['hunter2hunter2hunter2']",
        "admin.token = { hunter2 = 'hunter2hunter2hunter2' }",
        "admin.token = 'hunter2hunter2hunter2 with a blank'",
        "postgres.url = 'postgres://u:hunter2hunter2hunter2@h/d'",
        "postgres.url = 'mysql://u:hunter2hunter2hunter2@h/d'",
        "[[identity.keys]]\nkid='a'\nalg='HS256'\nsecret='hunter2hunter2hunter2hunter2hunter2hunter2aa'",
        "[[identity.keys]]\nkid='a'\nalg='HS512'\nsecret='hunter2hunter2hunter2'",
        "[[identity.keys]]\nkid='a'\nsecret=['hunter2hunter2hunter2']",
        "identity.keys = ['hunter2hunter2hunter2']",
    ];
    for file in files {
        let shown = match (Case { file, ..Case::default() }).load() {
            Ok(loaded) => format!("{loaded:?} {}", show::lines(&loaded).join("\n")),
            Err(error) => format!("{error} {error:?}"),
        };
        assert!(!shown.contains(SECRET), "{file}: {shown}");
        assert!(shown.contains("***"), "{file}: {shown}");
    }
    let broken = [
        "admin.token = 'hunter2hunter2hunter2",
        "[[identity.keys]]\nkid='a'\nalg='HS256'\nsecret='hunter2hunter2hunter2'",
    ];
    for file in broken {
        let error = Case { file, ..Case::default() }.load().unwrap_err();
        assert!(!format!("{error} {error:?}").contains(SECRET), "{file}: {error}");
    }
}

#[test]
fn risky_settings_get_a_word() {
    let file = "ack = 'memory'\nadmin_listen = '0.0.0.0:7071'\nlog.allow_tmpfs = true";
    assert_eq!(Case { file, ..Case::default() }.load().unwrap().warnings.len(), 3);
}

#[test]
fn sizes_read_back_as_written() {
    for (text, bytes) in [("0", 0), ("4096", 4096), ("4KiB", 4096), ("3MiB", 3 << 20), ("1TiB", 1 << 40)] {
        assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        assert_eq!(parse_bytes(&show_bytes(bytes)), Some(bytes), "{text}");
    }
    for text in ["", "MiB", "-1", "+1", "1.5GiB", "1MB", "1 000", "9999999999TiB", "18446744073709551615"] {
        assert_eq!(parse_bytes(text), None, "{text}");
    }
}

#[test]
fn core_lists_read_back_as_written() {
    for text in ["0,2-5", "3-3", "0-1", "1,3,5"] {
        let Some(units::CoresText::List(list)) = parse_cores(text) else { panic!("{text}") };
        assert_eq!(show_cores(&list), text);
    }
    for text in ["", "0", "-1", "5-2", "1,1", "0-3,2", "1,,2", "a", "0-99999999999", "0-9000"] {
        assert_eq!(parse_cores(text), None, "{text}");
    }
}

/// Whatever budget is allowed here, the log can begin with.
#[test]
fn the_log_takes_every_size_that_is_allowed() {
    use stampede_persist::log::limits::{FREE_BYTES_MIN_DEFAULT, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
    assert!(*SEGMENT_BYTES.start() >= SEGMENT_BYTES_MIN);
    assert_eq!(*SEGMENT_BYTES.end(), SEGMENT_BYTES_MAX);
    assert_eq!(crate::doctor::limits::FREE_RESERVE_BYTES, FREE_BYTES_MIN_DEFAULT);
    let mut settings = Case::default().load().unwrap().settings;
    for shift in 22..=30 {
        settings.log.segment_bytes = 1 << shift;
        let budget = (SEGMENTS_MIN << shift).max(*LOG_BYTES.start());
        assert!(settings.log_options().log_bytes_least() <= budget, "segments of 2^{shift} bytes");
    }
}

#[test]
fn the_lame_duck_fits_in_the_deadline() {
    for (lame_duck_ms, fits) in [(0, true), (8_000, true), (8_001, false), (300_001, false)] {
        let file = format!("shutdown.lame_duck_ms = {lame_duck_ms}");
        let loaded = Case { file: &file, ..Case::default() }.load();
        assert_eq!(loaded.is_ok(), fits, "{lame_duck_ms} of the default deadline");
    }
}

/// The settings files of docs/CONFIG.md start on a machine of one core as on a larger one.
#[test]
fn the_samples_of_the_page_are_taken() {
    let page = include_str!("../../../docs/CONFIG.md");
    let samples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!samples.is_empty());
    for (sample, cpus) in samples.iter().flat_map(|sample| [(sample, vec![0]), (sample, vec![0, 1])]) {
        let inputs = Inputs {
            flags: Vec::new(),
            env: Vec::new(),
            file: Some(("shop.toml".into(), (*sample).to_owned())),
            demo: false,
            serving: true,
            cpus,
            read: &|_: &Path| unreachable!(),
        };
        let loaded = load(&inputs).unwrap_or_else(|error| panic!("{error}:\n{sample}"));
        assert!(!loaded.settings.cores.is_empty());
    }
}

/// The table of docs/CONFIG.md, line by line.
#[test]
fn config_md_has_the_same_table() {
    let page = include_str!("../../../docs/CONFIG.md");
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = KEYS.iter().map(table_row).collect();
    assert_eq!(rows, expected, "docs/CONFIG.md and net/src/settings/keys.rs differ");
}

fn table_row(key: &Key) -> String {
    let flag = key.flag.map_or_else(String::new, |flag| format!("`{flag}`"));
    let default = if key.default.is_empty() { "none".to_owned() } else { format!("`{}`", key.default) };
    let demo = key.demo.map_or_else(String::new, |demo| format!(" (demo: `{demo}`)"));
    let file = if key.secret { ", `…_FILE`" } else { "" };
    format!(
        "| `{}` | `{}`{file} | {flag} | {default}{demo} | {} | {} |",
        key.name,
        key.env(),
        (key.allowed)(),
        key.meaning
    )
}

#[test]
fn ticket_keys_are_one_or_two() {
    const A: &str = "c2l4dGVlbiBhbmQgc2l4dGVlbiBieXRlcyBvZiBzZWNyZXQ=";
    let keys = |file: &str| match (Case { file, ..Case::default() }.load()) {
        Ok(loaded) => loaded.settings.gate.ticket_keys.len().to_string(),
        Err(error) => error.to_string(),
    };
    assert_eq!(keys(""), "0");
    assert_eq!(keys(&format!("gate.ticket_keys = '7:{A}'")), "1");
    assert_eq!(keys(&format!("gate.ticket_keys = '255:{A}  0:{A}'")), "2");
    assert_eq!(keys(&format!("[gate]\nticket_keys = ['2:{A}', '1:{A}']")), "2");
    let wrong = [
        format!("'7:{A} 7:{A}'"),
        format!("'1:{A} 2:{A} 3:{A}'"),
        format!("'256:{A}'"),
        format!("'{A}'"),
        "'1:c2hvcnQ='".to_owned(),
        "'1:!'".to_owned(),
        "7".to_owned(),
    ];
    for wrong in wrong {
        let said = keys(&format!("gate.ticket_keys = {wrong}"));
        assert!(
            said.contains("gate.ticket_keys = *** (shop.toml:1): must be one or two words"),
            "{wrong}: {said}"
        );
    }
}

#[test]
fn made_ticket_keys_are_kept_and_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let flags: &[(&str, &str)] = &[("data_dir", dir.path().to_str().unwrap())];
    let settings = Case { flags, ..Case::default() }.load().unwrap().settings;
    let numbers =
        || -> Vec<u8> { secrets::ticket_keys(&settings).unwrap().iter().map(|key| key.id()).collect() };
    let path = dir.path().join(secrets::TICKET_KEYS_FILE);
    let text = || std::fs::read_to_string(&path).unwrap();
    assert_eq!((numbers(), numbers()), (vec![1], vec![1]));
    let first = text();
    assert_eq!(secrets::rotate_ticket_keys(dir.path()).unwrap(), (2, Some(1)));
    assert_eq!(numbers(), [2, 1]);
    assert!(text().ends_with(&first), "the former first key is the second");
    assert_eq!(secrets::rotate_ticket_keys(dir.path()).unwrap(), (3, Some(2)));
    assert_eq!(numbers(), [3, 2]);
    for broken in ["", "1:short", &format!("{first}{first}{first}")] {
        std::fs::write(&path, broken).unwrap();
        assert!(secrets::ticket_keys(&settings).is_err(), "{broken}");
    }
}

#[test]
fn made_secrets_are_kept_and_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("new/data");
    let flags: &[(&str, &str)] = &[("data_dir", place.to_str().unwrap())];
    let settings = Case { flags, demo: true, ..Case::default() }.load().unwrap().settings;
    let first = secrets::admin_token(&settings).unwrap();
    let again = secrets::admin_token(&settings).unwrap();
    assert_eq!(first.token, again.token);
    assert_eq!(first.token.reveal().len(), 43);
    assert_eq!(again.warning, None);
    let path = first.path.unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let keys = secrets::identity_keys(&settings).unwrap();
    assert_eq!(keys.len(), 1);
    assert_ne!(keys[0].material, first.token);
    secrets::identity(&settings).expect("the made key parses");
    let names: Vec<_> = std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "{names:?}");

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let warning = secrets::admin_token(&settings).unwrap().warning.unwrap();
    assert!(warning.contains("mode 640") && warning.contains("chmod 600"), "{warning}");
    std::fs::write(&path, "\n").unwrap();
    let error = secrets::admin_token(&settings).unwrap_err().to_string();
    assert!(error.ends_with("Remove it, and the next start makes a new one"), "{error}");
}
