//! Bytes on the wire: what the engine says to hundreds of raw requests, good and hostile, cut at
//! every position and with a purchase behind each; and what a second reader says to millions more.
//!
//! The table stands in one file per class; [`case`] explains how a line reads, and
//! [`differ`] how the two readers are compared.

#[expect(dead_code, reason = "the other binaries use the rest of it")]
#[path = "../common/rig.rs"]
mod rig;

#[path = "../common/compare.rs"]
mod compare;
#[path = "../common/reader.rs"]
mod reader;

mod answers;
mod case;
mod codings;
mod differ;
mod engine;
mod fields;
mod hosts;
mod json;
mod lengths;
mod limits;
mod lines;
mod merchant;
mod purchases;
mod routes;
mod streams;
mod targets;
mod tickets;
mod tokens;
mod wellformed;

use case::{Case, check_all};
use engine::Naming;

/// Fewest lines of the whole table.
const CASES_MIN: usize = 300;

fn check(class: fn() -> Vec<Case>) {
    check_all(Naming::Header, &class());
}

#[test]
fn request_lines() {
    check(lines::cases);
}

#[test]
fn request_targets() {
    check(targets::cases);
}

#[test]
fn header_fields() {
    check(fields::cases);
}

#[test]
fn host_fields() {
    check(hosts::cases);
}

#[test]
fn content_lengths() {
    check(lengths::cases);
}

#[test]
fn transfer_codings() {
    check(codings::cases);
}

#[test]
fn limits_of_size() {
    check(limits::cases);
}

#[test]
fn pipelines_and_truncation() {
    check(streams::cases);
}

#[test]
fn json_bodies() {
    check(json::cases);
}

#[test]
fn ids_subjects_and_keys() {
    check(purchases::cases);
}

#[test]
fn buyers_tokens() {
    check_all(Naming::Token, &tokens::cases());
}

#[test]
fn sealed_tickets() {
    check(tickets::cases);
}

#[test]
fn the_shops_paths_for_buyers() {
    check(merchant::on_the_public_listener);
}

#[test]
fn the_shops_own_listener() {
    check(merchant::on_its_own_listener);
}

#[test]
fn batches_of_gateways() {
    check(merchant::batches);
}

#[test]
fn wellformed_requests() {
    check(wellformed::cases);
}

#[test]
fn the_table_is_large() {
    let classes = [
        lines::cases,
        targets::cases,
        fields::cases,
        hosts::cases,
        lengths::cases,
        codings::cases,
        limits::cases,
        streams::cases,
        json::cases,
        purchases::cases,
        tokens::cases,
        tickets::cases,
        merchant::on_the_public_listener,
        merchant::on_its_own_listener,
        merchant::batches,
        wellformed::cases,
    ];
    let cases: usize = classes.iter().map(|class| class().len()).sum();
    println!("{cases} raw requests");
    assert!(cases >= CASES_MIN, "{cases} cases");
}
