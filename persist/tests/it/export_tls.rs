//! TLS to Postgres: verified, or not at all.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use stampede_persist::export::{ConnectOptions, Database, ExportError, migrate};
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

/// A certificate for 127.0.0.1, made by `openssl`, which comes with the distribution's Postgres.
fn make_certificate(data: &Path) {
    let (key, certificate) = (data.join("server.key"), data.join("server.crt"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .expect("openssl");
    assert!(made.status.success(), "{made:?}");
    let owner = fs::metadata(data).expect("the data directory");
    for file in [&key, &certificate] {
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("mode");
        if fs::metadata(file).expect("file").uid() != owner.uid() {
            chown(file, Some(owner.uid()), Some(owner.gid())).expect("owner");
        }
    }
}

/// A cluster that offers TLS, with a certificate for 127.0.0.1 that it has signed itself.
fn cluster() -> PostgresCluster {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).expect("a cluster");
    make_certificate(&cluster.data_dir());
    cluster.psql("postgres", "ALTER SYSTEM SET ssl = on").expect("set");
    cluster.stop(StopMode::Fast).expect("stopped");
    cluster.start().expect("started");
    cluster
}

/// How a connection string ends: encrypted, in clear, or refused.
#[track_caller]
fn comes_to(cluster: &PostgresCluster, url: &str) -> &'static str {
    let mut options = ConnectOptions::new(url);
    options.environment = |_| None;
    let mut database = match Database::connect(&options) {
        Ok(database) => database,
        Err(ExportError::Tls(_)) => return "refused",
        Err(error) => panic!("{url}: {error}"),
    };
    migrate(&mut database).expect("migrated");
    let encrypted = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'stampede'";
    let encrypted = cluster.psql("postgres", encrypted).expect("psql");
    assert!(!database.wire().clear, "this machine is no network");
    if encrypted == "t" { "encrypted" } else { "clear" }
}

#[test]
fn the_words_of_libpq_have_their_meaning() {
    let mut cluster = cluster();
    let own = cluster.data_dir().join("server.crt");
    let other = tempfile::tempdir().expect("a directory");
    let own = own.display();
    let (url, by_name) = (cluster.url(), cluster.url().replace("127.0.0.1", "localhost"));
    // Another authority's, which has signed nothing here.
    let foreign = PostgresCluster::new(ClusterOptions::default()).expect("another");
    make_certificate(&foreign.data_dir());
    let theirs = foreign.data_dir().join("server.crt");
    let theirs = theirs.display();
    let missing = other.path().join("missing.crt");
    let missing = missing.display();
    for (url, words, result) in [
        (&url, String::new(), "encrypted"),
        (&url, "sslmode=disable".to_owned(), "clear"),
        (&url, "sslmode=allow".to_owned(), "clear"),
        (&url, "sslmode=prefer".to_owned(), "encrypted"),
        (&url, "sslmode=require".to_owned(), "encrypted"),
        (&url, format!("sslmode=prefer&sslrootcert={theirs}"), "encrypted"),
        (&url, format!("sslmode=require&sslrootcert={own}"), "encrypted"),
        (&url, format!("sslmode=require&sslrootcert={theirs}"), "refused"),
        (&url, format!("sslmode=verify-ca&sslrootcert={own}"), "encrypted"),
        (&url, format!("sslmode=verify-ca&sslrootcert={theirs}"), "refused"),
        (&url, format!("sslmode=verify-full&sslrootcert={own}"), "encrypted"),
        (&url, format!("sslmode=verify-full&sslrootcert={theirs}"), "refused"),
        (&url, format!("sslmode=verify-full&sslrootcert={missing}"), "refused"),
        (&url, "sslmode=verify-full".to_owned(), "refused"),
        (&url, "sslrootcert=system".to_owned(), "refused"),
        // The certificate is made out to the address, not to the name.
        (&by_name, format!("sslmode=require&sslrootcert={own}"), "encrypted"),
        (&by_name, format!("sslmode=verify-ca&sslrootcert={own}"), "encrypted"),
        (&by_name, format!("sslmode=verify-full&sslrootcert={own}"), "refused"),
    ] {
        let text = if words.is_empty() { url.clone() } else { format!("{url}?{words}") };
        assert_eq!(comes_to(&cluster, &text), result, "{words}");
    }
    // A server that wants it one way alone.
    let rules = cluster.data_dir().join("pg_hba.conf");
    let before = fs::read_to_string(&rules).expect("rules");
    cluster.psql("postgres", "CREATE ROLE shop LOGIN SUPERUSER").expect("made");
    let as_shop = format!("postgres://shop@127.0.0.1:{}/postgres", cluster.port());
    for (only, words, result) in [
        ("hostssl", "sslmode=allow", "encrypted"),
        ("hostssl", "sslmode=prefer", "encrypted"),
        ("hostnossl", "sslmode=prefer", "clear"),
        ("hostnossl", "sslmode=allow", "clear"),
    ] {
        fs::write(&rules, format!("{only} all shop 0.0.0.0/0 trust\nhost all stampede 0.0.0.0/0 trust\n"))
            .expect("written");
        cluster.stop(StopMode::Fast).expect("stopped");
        cluster.start().expect("started");
        assert_eq!(comes_to(&cluster, &format!("{as_shop}?{words}")), result, "{only} {words}");
    }
    fs::write(&rules, before).expect("written");
    cluster.psql("postgres", "ALTER SYSTEM SET ssl = off").expect("set");
    cluster.stop(StopMode::Fast).expect("stopped");
    cluster.start().expect("started");
    for (words, result) in
        [("sslmode=prefer", "clear"), ("sslmode=allow", "clear"), ("sslmode=require", "refused")]
    {
        assert_eq!(comes_to(&cluster, &format!("{url}?{words}")), result, "no TLS, {words}");
    }
}

#[test]
fn a_password_comes_from_the_environment_and_is_in_no_text() {
    let cluster = PostgresCluster::new(ClusterOptions::default()).expect("a cluster");
    cluster.psql("postgres", "CREATE ROLE shop LOGIN SUPERUSER PASSWORD 'Geheim@Wort'").expect("made");
    let url = format!("postgres://shop@127.0.0.1:{}/postgres", cluster.port());
    let mut options = ConnectOptions::new(&*url);
    options.environment = |name| (name == "PGPASSWORD").then(|| "Geheim@Wort".to_owned());
    Database::connect(&options).expect("let in");
    for (url, password) in [
        (url.clone(), "Geheim@Wrong"),
        (url.replace("shop@", "shop:Geheim@Wort@"), ""),
        (url.replace("shop@", "shop:Geheim%40Wrong@"), ""),
        (format!("host=127.0.0.1 port={} user=shop password=Geheim Wort", cluster.port()), ""),
    ] {
        let mut options = ConnectOptions::new(&*url);
        options.environment = if password.is_empty() {
            |_| None
        } else {
            |name| (name == "PGPASSWORD").then(|| "Geheim@Wrong".to_owned())
        };
        let said = Database::connect(&options).expect_err("refused").to_string();
        assert!(!said.contains("Geheim") && !said.contains("Wort") && !said.contains("Wrong"), "{said}");
    }
}
