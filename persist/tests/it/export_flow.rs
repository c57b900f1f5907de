//! Facts become rows, once each, in small batches and large ones, over lost connections.

use std::time::{Duration, Instant};

use stampede_persist::export::{ExporterHandle, Nonce, Step};
use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use crate::export_bed::{
    Cut, DEADLINE, FakeEngine, assert_exported, client, cluster, created, drain, exporter, exporter_to,
    fresh_database, proxy, sales, step_until, trace,
};

#[test]
fn small_and_large_batches_come_to_the_same() {
    let seed = 20_261_122;
    println!("seed {seed}");
    for facts_per_batch in [7, 900, 1 << 16] {
        let database = fresh_database();
        let engine = FakeEngine::with(trace(seed, 9_000));
        let mut exporter = exporter_to(&engine, cluster().url_of(&database), |options| {
            options.facts_per_batch_max = facts_per_batch;
        });
        drain(&mut exporter, &engine);
        assert_exported(&engine, &cluster().url_of(&database));
        let batches = exporter.status().batches();
        assert!(batches >= 9_000 / facts_per_batch as u64, "{batches} batches");
        assert_eq!((exporter.status().conflicts(), exporter.status().set_aside()), (0, 0));
        assert_eq!(engine.events().len(), 1, "{}", engine.said());
    }
}

#[test]
fn a_later_process_exports_what_comes_later() {
    let database = fresh_database();
    let engine = FakeEngine::with([created(1, 100)]);
    let mut exporter = exporter(&engine, &database);
    drain(&mut exporter, &engine);
    engine.append(sales(1, 1, 40));
    drain(&mut exporter, &engine);
    drop(exporter);
    // Another process, a higher epoch: goes on where the first has left.
    engine.append(sales(1, 41, 10));
    let mut next = exporter_to(&engine, cluster().url_of(&database), |options| options.nonce = Nonce::new(2));
    drain(&mut next, &engine);
    assert_exported(&engine, &cluster().url_of(&database));
}

#[test]
fn a_cut_connection_exports_each_fact_once() {
    for (facts_per_batch, facts) in [(50, 400), (1 << 16, 9_000)] {
        let database = fresh_database();
        let engine = FakeEngine::with(trace(7, facts));
        // COMMITs 1 and 2 belong to the migration and the first attach.
        let cuts = vec![
            (3, Cut::BeforeCommit),
            (6, Cut::AfterCommit),
            (8, Cut::AfterCommit),
            (9, Cut::BeforeCommit),
        ];
        let port = proxy(cluster().port(), cuts);
        let url =
            cluster().url_of(&database).replace(&format!(":{}/", cluster().port()), &format!(":{port}/"));
        let mut exporter = exporter_to(&engine, url, |options| options.facts_per_batch_max = facts_per_batch);
        drain(&mut exporter, &engine);
        engine.append(sales(1, 1_000_000, 3_000));
        drain(&mut exporter, &engine);
        engine.append(sales(1, 2_000_000, 10));
        drain(&mut exporter, &engine);
        assert!(exporter.status().connects() >= 3, "{:?}", exporter.status());
        assert_exported(&engine, &cluster().url_of(&database));
    }
}

#[test]
fn a_killed_session_is_made_again() {
    let database = fresh_database();
    let url = cluster().url_of(&database);
    let engine = FakeEngine::with(trace(11, 3_000));
    let mut exporter = exporter_to(&engine, url.clone(), |options| options.facts_per_batch_max = 100);
    step_until(&mut exporter, "some batches", |_, exporter| exporter.status().batches() > 5);
    let mut killer = client(&cluster().url());
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = $1";
    let killed: i64 = killer.query_one(kill, &[&database]).expect("killed").get(0);
    assert_eq!(killed, 1);
    drain(&mut exporter, &engine);
    assert_exported(&engine, &url);
    assert_eq!(exporter.status().connects(), 2);
    assert!(engine.said().contains("was lost"), "{}", engine.said());
}

#[test]
fn a_cluster_that_is_down_killed_or_stalled_is_waited_for() {
    let mut own =
        PostgresCluster::new(ClusterOptions { fsync: true, ..ClusterOptions::default() }).expect("a cluster");
    own.stop(StopMode::Fast).expect("stopped");
    let engine = FakeEngine::with(trace(13, 4_000));
    let mut exporter = exporter_to(&engine, own.url(), |options| {
        options.facts_per_batch_max = 100;
        options.connect.call_wait_max = Duration::from_millis(2_000);
    });
    step_until(&mut exporter, "a failure", |step, _| matches!(step, Step::Wait(_)));
    assert!(engine.said().contains("unreachable"), "{}", engine.said());
    own.start().expect("started");
    step_until(&mut exporter, "some batches", |_, exporter| exporter.status().batches() > 5);
    own.kill().expect("killed");
    step_until(&mut exporter, "a failure", |step, _| matches!(step, Step::Wait(_)));
    own.start().expect("recovered");
    step_until(&mut exporter, "more batches", |_, exporter| exporter.status().batches() > 12);
    own.freeze();
    step_until(&mut exporter, "a failure", |step, _| matches!(step, Step::Wait(_)));
    assert!(engine.said().contains("no answer for 2000 ms"), "{}", engine.said());
    own.thaw();
    drain(&mut exporter, &engine);
    assert_exported(&engine, &own.url());

    // A stop is honoured at once, also while the server is stalled in mid-call.
    engine.append(sales(1, 1_000_000, 10));
    let exporter = exporter_to(&engine, own.url(), |options| options.nonce = Nonce::new(2));
    let handle = ExporterHandle::start(exporter).expect("a thread");
    let deadline = Instant::now() + DEADLINE;
    while handle.status().exported_lsn() < engine.durable() {
        assert!(Instant::now() < deadline, "{:?}", handle.status());
        std::thread::park_timeout(Duration::from_millis(1));
    }
    own.freeze();
    engine.append(sales(1, 2_000_000, 10));
    // Whether the thread has begun its call by now or not: it must not wait for the server.
    let before = Instant::now();
    handle.stop().expect("no panic");
    assert!(before.elapsed() < Duration::from_secs(20), "stopped after {:?}", before.elapsed());
    own.thaw();
}
