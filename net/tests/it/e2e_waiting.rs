//! End to end: a database that was down at the first start of a fresh data directory. What it has sold is
//! not sold again, and its rows stay.

use stampede_testkit::{ClusterOptions, PostgresCluster, StopMode};

use std::time::Duration;

use crate::e2e_talk::{Talk, item};
use crate::hold::held::Held;
use crate::hold::{Broken, may_trace, thread_named};
use crate::server::{Bed, Server, get, wait_for};

/// A shop of which only the database is left: item 5 is sold out, item 6 has two units.
fn old_shop() -> PostgresCluster {
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let mut bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.start();
    Talk::with(&server).check(&format!(
        r#"
        shop      PUT /admin/items/5 {one}                       -> 201 open 1=1+0+0
        shop      PUT /admin/items/6 {two}                       -> 201 open 2=2+0+0
        old-buyer POST /v1/items/5/orders {{"quantity":1}} #old  -> 201 confirmed x1 $a
        shop      POST /admin/orders/$a/pay {{"payment_ref":"p"}} -> 200 paid x1 $a
        "#,
        one = item(1, 1, "on_order", 0),
        two = item(2, 1, "on_order", 0)
    ));
    let exported = || ask(&cluster, "SELECT buyer, state FROM stock_order") == "old-buyer|paid";
    wait_for("the order to be exported", || exported().then_some(()));
    assert_eq!(server.stop(), Some(0));
    // What the refusal of a foreign log tells an operator whose data directory is lost.
    ask(&cluster, "DELETE FROM stampede_cursor");
    cluster
}

fn ask(cluster: &PostgresCluster, sql: &str) -> String {
    cluster.psql("postgres", sql).unwrap().trim().to_owned()
}

/// A server that is up and not ready, and its reasons.
fn wait_until_waiting(server: &Server) -> String {
    wait_for("the server to wait for its database", || {
        get(server.admin, "/readyz").filter(|answer| answer.contains("awaiting_database"))
    })
}

#[test]
fn e2e_waiting_a_fresh_log_sells_nothing_before_its_database() {
    let mut cluster = old_shop();
    cluster.stop(StopMode::Immediate).unwrap();
    let bed = Bed::new().flag("--postgres", &cluster.url());
    let mut server = bed.spawn();
    let ready = wait_until_waiting(&server);
    server.wait_until_told("awaiting_database");
    assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("unreachable"), "{ready}");
    assert!(get(server.admin, "/healthz").unwrap().starts_with("HTTP/1.1 200"));
    assert!(get(server.admin, "/metrics").unwrap().contains("stampede_ready 0"));
    let put = item(9, 1, "on_order", 0);
    for _ in 0..3 {
        Talk::with(&server).check(&format!(
            r#"
            carol POST /v1/items/5/orders {{"quantity":1}} #c  -> 503 awaiting_database
            carol GET /v1/items/5                              -> 503 awaiting_database
            shop  PUT /admin/items/5 {put}                     -> 503 awaiting_database
            shop  PUT /admin/items/7 {put}                     -> 503 awaiting_database
            shop  PUT /admin/blocklist/carol                   -> 503 awaiting_database
            "#
        ));
    }
    cluster.start().unwrap();
    wait_for("the server to be ready", || {
        get(server.admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    Talk::with(&server).check(
        r#"
        shop  GET /admin/items/5                            -> 200 sold_out 1=0+0+1
        carol POST /v1/items/5/orders {"quantity":1} #c     -> 409 sold_out
        carol POST /v1/items/6/orders {"quantity":1} #c     -> 201 confirmed x1 $c
        "#,
    );
    wait_for("the order to be exported", || {
        (ask(&cluster, "SELECT count, sale FROM stock WHERE id = 6") == "1|1").then_some(())
    });
    assert_eq!(ask(&cluster, "SELECT buyer, state FROM stock_order WHERE sid = 5"), "old-buyer|paid");
    assert_eq!(ask(&cluster, "SELECT count(*) FROM stampede_set_aside"), "0");
    // From here on the sale continues without the database, also after a restart.
    server.kill();
    cluster.stop(StopMode::Immediate).unwrap();
    let mut bed = bed;
    let server = bed.start();
    Talk::with(&server).check(r#"dora POST /v1/items/6/orders {"quantity":1} #d -> 201 confirmed x1 $d"#);
}

#[test]
fn e2e_waiting_ends_when_it_is_told_to() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    cluster.stop(StopMode::Fast).unwrap();
    let bed = Bed::new().flag("--postgres", &cluster.url());
    let server = bed.spawn();
    wait_until_waiting(&server);
    assert_eq!(server.stop(), Some(0));
}

/// A server that waits for a database that is down, if its threads can be held.
fn waiting(bed: &Bed) -> Option<Server> {
    let mut server = bed.spawn();
    // The thread that reports starts after the cores.
    server.wait_until_told("awaiting_database");
    may_trace(&server).then_some(server)
}

/// The waiting cores are watched like selling ones: by health, a metric, and finally by ending the process.
#[test]
fn e2e_waiting_a_stalled_core_ends_the_process() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    cluster.stop(StopMode::Fast).unwrap();
    let bed = Bed::new().flag("--postgres", &cluster.url());
    let Some(mut server) = waiting(&bed) else { return };
    for core in [1, 0] {
        let held = Held::take(thread_named(&server, &format!("stampede-wait-{core}")), 0).unwrap();
        wait_for("readiness to say so", || {
            get(server.admin, "/readyz").filter(|said| said.contains(&format!("\"stalled_cores\":[{core}]")))
        });
        assert!(get(server.admin, "/healthz").unwrap().starts_with("HTTP/1.1 503"));
        drop(held);
        wait_for("the core to turn", || {
            get(server.admin, "/healthz").filter(|said| said.starts_with("HTTP/1.1 200"))
        });
    }
    let held = Held::take(thread_named(&server, "stampede-wait-1"), 0).unwrap();
    wait_for("the watch to give up", || server.said().contains("has not run for ten seconds").then_some(()));
    drop(held);
    assert_eq!(server.wait_for_exit().code(), Some(76), "{}", server.said());
}

/// A core that ends by itself is noticed at once: its share of the connections could never buy later.
#[test]
fn e2e_waiting_a_core_that_ends_by_itself_ends_the_process() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    cluster.stop(StopMode::Fast).unwrap();
    for core in ["stampede-wait-1", "stampede-wait-0"] {
        let bed = Bed::new().flag("--postgres", &cluster.url());
        let Some(mut server) = waiting(&bed) else { return };
        let _broken = Broken::wait_of(&server, core);
        assert_eq!(server.wait_for_exit().code(), Some(76), "{core}: {}", server.said());
        assert!(server.said().contains("a core has ended unexpectedly"), "{core}: {}", server.said());
    }
}

#[test]
fn e2e_waiting_with_a_stuck_core_it_stops_within_its_deadline() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    cluster.stop(StopMode::Fast).unwrap();
    let bed = Bed::new().flag("--postgres", &cluster.url()).set("shutdown.deadline_ms", "1000");
    let Some(mut server) = waiting(&bed) else { return };
    let held = Held::take(thread_named(&server, "stampede-wait-1"), 0).unwrap();
    server.terminate();
    wait_for("the deadline", || {
        let said = server.said();
        (said.contains("a core does not stop") || said.contains("deadline is over")).then_some(())
    });
    drop(held);
    assert_eq!(server.wait_for_exit().code(), Some(75), "{}", server.said());
    assert!(!server.said().contains("ten seconds"), "the watch was quicker than the deadline");
}

/// It makes way for the engine that sells, and says so if it cannot.
#[test]
fn e2e_waiting_a_core_that_does_not_make_way_ends_the_process() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    cluster.stop(StopMode::Fast).unwrap();
    let bed = Bed::new().flag("--postgres", &cluster.url()).set("shutdown.deadline_ms", "1000");
    let Some(mut server) = waiting(&bed) else { return };
    let held = Held::take(thread_named(&server, "stampede-wait-1"), 0).unwrap();
    cluster.start().unwrap();
    wait_for("the end of the wait", || {
        let said = server.said();
        (said.contains("a core does not stop") || said.contains("ten seconds")).then_some(())
    });
    drop(held);
    let code = server.wait_for_exit().code();
    assert!(matches!(code, Some(75 | 76)), "{code:?} {}", server.said());
}

/// During preheat no core runs, and health checks get responses all the same.
#[test]
fn e2e_waiting_health_answers_while_the_database_is_taken_over() {
    let mut cluster = old_shop();
    cluster.stop(StopMode::Immediate).unwrap();
    let bed = Bed::new().flag("--postgres", &cluster.url());
    let Some(server) = waiting(&bed) else { return };
    // The main thread stops the old cores, and then preheats.
    let held = Held::take(server.pid(), 0).unwrap();
    cluster.start().unwrap();
    let says = |path: &str, what: &str| {
        let answer = crate::e2e_starting::quick(server.admin, path);
        answer.is_some_and(|answer| answer.contains(what))
    };
    held.step_until(Duration::from_secs(40), || says("/readyz", "only the database has")).unwrap();
    assert!(says("/healthz", "HTTP/1.1 200"));
    assert!(says("/metrics", "stampede_not_ready{reason=\"starting\"} 1"));
    drop(held);
    wait_for("the server to be ready", || {
        get(server.admin, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
    });
    Talk::with(&server).check("shop GET /admin/items/5 -> 200 sold_out 1=0+0+1");
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn e2e_waiting_a_database_of_another_log_ends_the_wait() {
    let mut cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    assert_eq!(Bed::new().flag("--postgres", &cluster.url()).start().stop(), Some(0));
    cluster.stop(StopMode::Fast).unwrap();
    let bed = Bed::new().flag("--postgres", &cluster.url());
    let mut server = bed.spawn();
    wait_until_waiting(&server);
    cluster.start().unwrap();
    let code = server.wait_for_exit().code();
    let said = server.said();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("this database must not be used with this log"), "{said}");
}

/// The operator was wrong: the database did hold a shop. Its rows stay all the same.
#[test]
fn e2e_waiting_a_new_shop_sells_at_once_and_keeps_other_rows() {
    let mut cluster = old_shop();
    let before = ask(&cluster, "SELECT * FROM stock_order");
    let stock_before = ask(&cluster, "SELECT * FROM stock WHERE id = 5");
    cluster.stop(StopMode::Immediate).unwrap();
    let mut bed = Bed::new().flag("--postgres", &cluster.url()).switch("--new-shop");
    let server = bed.start();
    let ready = get(server.admin, "/readyz").unwrap();
    assert!(ready.contains("postgres.new_shop"), "said wherever it matters: {ready}");
    Talk::with(&server).check(&format!(
        r#"
        shop  PUT /admin/items/5 {put}                     -> 201 open 3=3+0+0
        carol POST /v1/items/5/orders {{"quantity":1}} #c  -> 201 confirmed x1 $c
        "#,
        put = item(3, 1, "on_order", 0)
    ));
    cluster.start().unwrap();
    wait_for("the item to stop", || {
        let item = Talk::with(&server).say("shop GET /admin/items/5").brief();
        (item == "200 paused 3=2+0+1").then_some(())
    });
    assert_eq!(ask(&cluster, "SELECT * FROM stock_order"), before);
    assert_eq!(ask(&cluster, "SELECT * FROM stock WHERE id = 5"), stock_before);
    assert_eq!(ask(&cluster, "SELECT DISTINCT kind FROM stampede_set_aside ORDER BY kind"), "order\nstock");
    let alarms = Talk::with(&server).say("shop GET /admin/stats").json()["alarms"].to_string();
    assert!(alarms.contains("row of somebody else"), "{alarms}");
    assert_eq!(server.stop(), Some(0));
    // Attached by now: the flag has no effect any more, and the start says so.
    let mut server = bed.start();
    assert!(server.said().contains("postgres.new_shop has no effect any more"), "{}", server.said());
    assert!(!get(server.admin, "/readyz").unwrap().contains("postgres.new_shop"));
}
