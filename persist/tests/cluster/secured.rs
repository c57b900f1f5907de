//! Logins and certificates: the right ones open, every other is a clear refusal.

use std::path::Path;
use std::process::Command;

use stampede_persist::cluster::{
    ClusterError, ClusterName, EtcdOptions, EtcdStore, Ledger as _, Registry as _,
};
use stampede_testkit::{EtcdCluster, EtcdClusterOptions};

use crate::bed::{append_some, base64, chain, led, patient, present};

fn options(etcd: &EtcdCluster) -> EtcdOptions {
    patient(EtcdOptions::new(ClusterName::new("shop").expect("a name"), etcd.endpoints()))
}

fn one_member(args: &[&str], files: Vec<(String, Vec<u8>)>, is_tls: bool) -> EtcdCluster {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    EtcdCluster::new(&EtcdClusterOptions { members: 1, args, files, is_tls }).expect("etcd")
}

#[track_caller]
fn assert_denied(options: &EtcdOptions) {
    let told = EtcdStore::new(options).and_then(|mut store| store.cluster());
    assert!(matches!(told, Err(ClusterError::Denied(_))), "{told:?}");
}

/// A user with all rights below one cluster's keys, and one with none.
fn ask_for_logins(etcd: &EtcdCluster) {
    let (from, to) = (base64("/stampede/shop/"), base64("/stampede/shop0"));
    let rights =
        format!(r#"{{"name":"shop","perm":{{"permType":"READWRITE","key":"{from}","range_end":"{to}"}}}}"#);
    for (path, body) in [
        ("user/add", r#"{"name":"root","password":"r"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("role/add", r#"{"name":"shop"}"#),
        ("role/grant", &rights),
        ("user/add", r#"{"name":"node","password":"secret"}"#),
        ("user/grant", r#"{"user":"node","role":"shop"}"#),
        ("user/add", r#"{"name":"poor","password":"secret"}"#),
        ("enable", "{}"),
    ] {
        etcd.post(0, &format!("/v3/auth/{path}"), body).expect(path);
    }
}

#[test]
fn a_login_opens_one_clusters_keys_and_no_more() {
    let mut etcd = one_member(&[], Vec::new(), false);
    ask_for_logins(&etcd);
    let as_user = |user: &str, password: &str| {
        let login = Some((user.to_owned(), password.to_owned()));
        EtcdOptions { login, ..options(&etcd) }
    };
    let good = as_user("node", "secret");
    assert_denied(&options(&etcd));
    assert_denied(&as_user("node", "wrong"));
    assert_denied(&as_user("nobody", "secret"));
    assert_denied(&as_user("poor", "secret"));
    let other_name = ClusterName::new("shop2").expect("a name");
    assert_denied(&EtcdOptions { name: other_name, ..good.clone() });

    let mut node = EtcdStore::new(&good).expect("options");
    let (leader, start) = led(&mut node, 1);
    let mut blocks = append_some(&mut node, &leader, start, 3);
    node.announce(&present("a", 1), 60).expect("announced");
    assert_eq!(node.nodes().expect("told").len(), 1);
    let (_, seen) = node.leader().expect("told");
    node.wait(seen, std::time::Duration::from_millis(10)).expect("told");
    node.trim(&leader, blocks[0].after()).expect("trimmed");
    assert!(node.room().expect("told").file_bytes > 0);
    // Its token is gone with the member's memory: it logs in anew by itself.
    etcd.kill(0);
    etcd.start(0).expect("it comes back");
    blocks.extend(append_some(&mut node, &leader, blocks[2].after(), 2));
    assert_eq!(chain(&mut node), blocks[1..]);
}

#[test]
fn a_login_that_nobody_asks_for_is_said() {
    let etcd = one_member(&[], Vec::new(), false);
    assert_denied(&EtcdOptions { login: Some(("node".into(), "secret".into())), ..options(&etcd) });
}

/// An authority, and a certificate for 127.0.0.1 that it has signed: `ca.pem`, `own.pem`, `own.key`.
fn make_certificates(dir: &Path) {
    let script = r#"
        set -e
        ec="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
        openssl req -x509 $ec -days 2 -subj /CN=authority -keyout ca.key -out ca.pem
        openssl req -new $ec -subj /CN=node -keyout own.key -out own.csr
        printf 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n' > own.ext
        openssl x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile own.ext -out own.pem
    "#;
    let made = Command::new("/bin/sh").args(["-c", script]).current_dir(dir).output().expect("a shell");
    assert!(made.status.success(), "{made:?}");
}

#[test]
fn certificates_are_verified_both_ways() {
    let (own, strange) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("one"));
    make_certificates(own.path());
    make_certificates(strange.path());
    let file = |name: &str| (name.to_owned(), std::fs::read(own.path().join(name)).expect("a file"));
    let etcd = one_member(
        &[
            "--cert-file",
            "DIR/own.pem",
            "--key-file",
            "DIR/own.key",
            "--trusted-ca-file",
            "DIR/ca.pem",
            "--client-cert-auth",
        ],
        ["ca.pem", "own.pem", "own.key"].map(file).to_vec(),
        true,
    );
    let with = |authority: &Path, node: Option<&Path>| {
        let mut options = options(&etcd);
        options.tls.authority = Some(authority.join("ca.pem"));
        options.tls.own = node.map(|dir| (dir.join("own.pem"), dir.join("own.key")));
        options
    };
    let (own, strange) = (own.path(), strange.path());
    let mut node = EtcdStore::new(&with(own, Some(own))).expect("options");
    let (leader, start) = led(&mut node, 1);
    let blocks = append_some(&mut node, &leader, start, 3);
    assert_eq!(chain(&mut node), blocks);
    // One member that is not trusted is passed over; when none is, that is said.
    let stranger = one_member(
        &["--cert-file", "DIR/own.pem", "--key-file", "DIR/own.key"],
        ["own.pem", "own.key"]
            .map(|name| (name.to_owned(), std::fs::read(strange.join(name)).expect("a file")))
            .to_vec(),
        true,
    );
    let mut both = with(own, Some(own));
    both.endpoints.insert(0, stranger.endpoint(0));
    assert_eq!(chain(&mut EtcdStore::new(&both).expect("options")), blocks);
    assert_denied(&with(strange, Some(own)));
    assert_denied(&with(own, Some(strange)));
    assert_denied(&with(own, None));
    // A file that is not there, and in clear where TLS is asked for.
    assert_denied(&with(&own.join("nowhere"), None));
    let mut clear = options(&etcd);
    clear.endpoints = clear.endpoints.iter().map(|url| url.replace("https", "http")).collect();
    clear.timeouts.call = std::time::Duration::from_millis(500);
    let told = EtcdStore::new(&clear).expect("options").cluster();
    assert!(matches!(told, Err(ClusterError::Unavailable(_))), "{told:?}");
}
