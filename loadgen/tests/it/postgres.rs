//! The verdict with a real Postgres beside the merchant's pages: equal is fine, any edit is named.

use std::time::Duration;

use postgres::{Client, NoTls};
use stampede_loadgen::check::Violation;
use stampede_loadgen::engine::{RunConfig, run};
use stampede_loadgen::verify::{Merchant, VerifyConfig, VerifyError, verify};
use stampede_loadgen::workload::Workload;
use stampede_testkit::{ClusterOptions, PostgresCluster};

use crate::fake::{Fake, Fault, ITEM, TOKEN};

const STOCK: u64 = 20;

/// The columns that are checked, as in the engine's schema.
const SCHEMA: &str = "
    CREATE TABLE stock (id bigint PRIMARY KEY, count bigint NOT NULL, held bigint NOT NULL, sale bigint NOT NULL);
    CREATE TABLE stock_order (id bigint PRIMARY KEY, sid bigint NOT NULL, buyer text NOT NULL,
                              quantity integer NOT NULL, state text NOT NULL, idem_key text);";

fn names(fake: &Fake, url: &str) -> Result<String, VerifyError> {
    let merchant = Merchant::new(&fake.admin, TOKEN);
    let export_wait = Duration::from_secs(1);
    let postgres = Some(url);
    let verdict =
        verify(&VerifyConfig { postgres, export_wait, ..VerifyConfig::of_merchant(&merchant, ITEM) })?;
    let names: Vec<_> = verdict.violations.iter().map(Violation::name).collect();
    Ok(names.join(" "))
}

fn fill(client: &mut Client, fake: &Fake) {
    client.batch_execute(SCHEMA).unwrap();
    client.execute("INSERT INTO stock VALUES (1, 0, 0, $1)", &[&(STOCK as i64)]).unwrap();
    for (id, buyer) in fake.rows() {
        let text = "INSERT INTO stock_order VALUES ($1, 1, $2, 1, 'confirmed', $2)";
        client.execute(text, &[&(id as i64), &buyer]).unwrap();
    }
}

#[test]
fn postgres_is_held_against_the_pages() {
    let cluster = PostgresCluster::new(ClusterOptions::default()).unwrap();
    let url = cluster.url();
    let fake = Fake::start(STOCK, Fault::None);
    run(&RunConfig::closed(fake.public, Workload::purchases(ITEM, 21), 2 * STOCK)).unwrap();
    let mut client = Client::connect(&url, NoTls).unwrap();
    fill(&mut client, &fake);
    assert_eq!(names(&fake, &url).unwrap(), "");
    for (edit, undo, expected) in [
        ("UPDATE stock SET sale = sale - 1", "UPDATE stock SET sale = sale + 1", "postgres_differs"),
        (
            "UPDATE stock_order SET sid = 2 WHERE id % 10 = 0",
            "UPDATE stock_order SET sid = 1",
            "postgres_differs postgres_differs",
        ),
        (
            "UPDATE stock_order SET state = 'cancelled' WHERE id % 20 = 1",
            "UPDATE stock_order SET state = 'paid'",
            "postgres_differs",
        ),
        (
            "INSERT INTO stock_order VALUES (7, 1, 'x', 1, 'paid', 'x')",
            "DELETE FROM stock_order WHERE id = 7",
            "postgres_differs",
        ),
    ] {
        client.batch_execute(edit).unwrap();
        assert_eq!(names(&fake, &url).unwrap(), expected, "{edit}");
        client.batch_execute(undo).unwrap();
        assert_eq!(names(&fake, &url).unwrap(), "", "{undo}");
    }
    client.batch_execute("DROP TABLE stock").unwrap();
    let error = names(&fake, &url).unwrap_err().to_string();
    assert!(error.contains("relation \"stock\" does not exist"), "{error}");
}
