//! TLS to Postgres: verified, or not at all.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use stampede_loadgen::throwaway::{ClusterOptions, PostgresCluster, StopMode};
use stampede_persist::export::{ConnectOptions, Database, ExportError, migrate};

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

#[test]
fn require_means_verified() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).expect("a cluster");
    make_certificate(&cluster.data_dir());
    cluster.psql("postgres", "ALTER SYSTEM SET ssl = on").expect("set");
    cluster.stop(StopMode::Fast).expect("stopped");
    cluster.start().expect("started");

    let mut options = ConnectOptions::new(format!("{}?sslmode=require", cluster.url()));
    let refused = Database::connect(&options).expect_err("nobody vouches for it");
    assert!(matches!(refused, ExportError::Tls(_)), "{refused}");
    options.root_certificates = Some(cluster.data_dir().join("nothing.crt"));
    let refused = Database::connect(&options).expect_err("no such file");
    assert!(matches!(refused, ExportError::Tls(_)), "{refused}");

    options.root_certificates = Some(cluster.data_dir().join("server.crt"));
    let mut database = Database::connect(&options).expect("vouched for");
    migrate(&mut database).expect("migrated");
    let encrypted = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
         WHERE application_name = 'stampede'";
    assert_eq!(cluster.psql("postgres", encrypted).expect("psql"), "t");
}
