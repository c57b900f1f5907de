//! Scenarios against a server: items are created once, and never over somebody else's sale.

use std::process::Command;

use stampede_loadgen::engine::{RunConfig, run};
use stampede_loadgen::scenario::{Scenario, ScenarioError};
use stampede_loadgen::verify::{Merchant, VerifyError};
use stampede_loadgen::workload::{Items, Workload};

use crate::fake::{Fake, Fault, ITEM, TOKEN};

/// Any moment that is over, so that the sale is open.
const LONG_AGO_MS: u64 = 1_000_000;

#[test]
fn items_of_another_sale_are_left_alone() {
    // As many units as the lottery has.
    let fake = Fake::start(100, Fault::None);
    let merchant = Merchant::new(&fake.admin, TOKEN);
    let item = Items::one(ITEM);
    Scenario::Lottery.create(&merchant, item, LONG_AGO_MS).unwrap();
    Scenario::Lottery.create(&merchant, item, LONG_AGO_MS).unwrap();
    let other_stock = Scenario::Double11.create(&merchant, item, LONG_AGO_MS);
    assert!(matches!(other_stock, Err(ScenarioError::Taken(ITEM))));
    let outcome = run(&RunConfig::closed(fake.public, Workload::purchases(ITEM, 3), 1)).unwrap();
    assert_eq!(outcome.history.unwrap().orders_acked(), 1);
    let error = Scenario::Lottery.create(&merchant, item, LONG_AGO_MS).unwrap_err();
    assert!(error.to_string().contains("choose another --item"), "{error}");
}

#[test]
fn a_merchant_that_refuses_is_named() {
    let fake = Fake::start(100, Fault::None);
    let item = Items::one(ITEM);
    let error =
        Scenario::Lottery.create(&Merchant::new(&fake.admin, "wrong"), item, LONG_AGO_MS).unwrap_err();
    assert!(matches!(error, ScenarioError::Verify(VerifyError::Refused { status: 401, .. })), "{error}");
}

#[test]
fn scenarios_are_listed_with_what_they_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_stampede-loadgen")).arg("scenarios").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for words in
        ["double11\n  One phone", "red-packet", "railway", "lottery", "--zipf 1", "run URL --scenario NAME"]
    {
        assert!(text.contains(words), "no `{words}` in\n{text}");
    }
}
