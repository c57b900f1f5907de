//! An etcd that loses members, majority or space: each on a cluster of its own, since others would feel it.

use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use stampede_persist::cluster::{
    ClusterError, ClusterName, EtcdOptions, EtcdStore, Ledger as _, Registry as _, Room,
};
use stampede_testkit::{EtcdCluster, EtcdClusterOptions};

use crate::bed::{append_some, chain, lead, led, next_block, patient, present, wait_until};

fn cluster(members: usize, args: &[&str]) -> EtcdCluster {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    EtcdCluster::new(&EtcdClusterOptions { members, args, ..EtcdClusterOptions::default() }).expect("etcd")
}

fn options(endpoints: Vec<String>) -> EtcdOptions {
    EtcdOptions::new(ClusterName::new("shop").expect("a name"), endpoints)
}

fn store(options: &EtcdOptions) -> EtcdStore {
    EtcdStore::new(options).expect("options")
}

/// A member's silence costs half a second, and an election has time.
fn quick(endpoints: Vec<String>) -> EtcdOptions {
    let mut options = patient(options(endpoints));
    options.timeouts.connect = Duration::from_millis(500);
    options.timeouts.attempt = Duration::from_millis(500);
    options
}

#[test]
fn members_may_die_stop_and_come_back() {
    let mut etcd = cluster(3, &[]);
    let mut node = store(&quick(etcd.endpoints()));
    let (leader, start) = led(&mut node, 1);
    let mut blocks = append_some(&mut node, &leader, start, 5);
    let go_on = |node: &mut EtcdStore, blocks: &mut Vec<_>| {
        let end = blocks.last().map(stampede_persist::cluster::Block::after).expect("some");
        blocks.extend(append_some(node, &leader, end, 5));
    };
    let first = etcd.leader().expect("one leads");
    etcd.kill(first);
    go_on(&mut node, &mut blocks);
    etcd.start(first).expect("it comes back");
    let second = etcd.leader().expect("another leads");
    etcd.pause(second);
    go_on(&mut node, &mut blocks);
    etcd.resume(second);
    go_on(&mut node, &mut blocks);
    assert_eq!(chain(&mut node), blocks);

    // Without a majority nothing is added, and nothing is lost.
    let gone: Vec<usize> = (0..3).filter(|at| *at != first).collect();
    gone.iter().for_each(|at| etcd.kill(*at));
    let mut hasty = quick(etcd.endpoints());
    hasty.timeouts.call = Duration::from_secs(2);
    hasty.expected = Some(crate::bed::record(1).id);
    let block = next_block(&leader, blocks.last().expect("some").after(), 1, 100);
    let told = store(&hasty).append(&leader, &block);
    assert!(matches!(told, Err(ClusterError::Unavailable(_))), "{told:?}");
    thread::scope(|scope| {
        let same = scope.spawn(|| node.append(&leader, &block));
        // The first waits for the second.
        let _alone = etcd.start(gone[0]);
        etcd.start(gone[1]).expect("it comes back");
        assert_eq!(same.join().expect("no panic"), Ok(()));
    });
    blocks.push(block);
    assert_eq!(chain(&mut node), blocks);
}

#[test]
fn a_full_etcd_says_so_and_can_be_emptied() {
    const QUOTA: u64 = 16 << 20;
    let etcd = cluster(1, &["--quota-backend-bytes", &QUOTA.to_string()]);
    let mut node = store(&patient(EtcdOptions { quota_bytes: QUOTA, ..options(etcd.endpoints()) }));
    let (leader, mut at) = led(&mut node, 1);
    let mut blocks = Vec::new();
    let refused = loop {
        let block = next_block(&leader, at, 1, 1 << 20);
        match node.append(&leader, &block) {
            Ok(()) => (at, _) = (block.after(), blocks.push(block)),
            Err(ClusterError::OutOfSpace(_)) => break block,
            Err(error) => panic!("{error}"),
        }
    };
    // It looks at its file ten times a second, so somewhat more may go in.
    assert!(blocks.len() >= 8, "{} blocks", blocks.len());
    let room: Room = node.room().expect("told");
    assert!(room.is_out && room.file_bytes > QUOTA / 2 && room.quota_bytes == QUOTA, "{room:?}");
    assert!(room.used_percent() > 50, "{room:?}");
    assert!(chain(&mut node) == blocks, "it is still read");
    assert_eq!(node.seal(&leader), Ok(at));
    // Trimming only deletes, so it is possible; what comes then is the operator's, as the error says.
    let kept_from = blocks.len() - 1;
    node.trim(&leader, blocks[kept_from].before()).expect("trimmed");
    etcd.post(0, "/v3/maintenance/defragment", "{}").expect("defragmented");
    let alarms = etcd.post(0, "/v3/maintenance/alarm", "{}").expect("told");
    let member = alarms.split("\"memberID\":\"").nth(1).and_then(|rest| rest.split('"').next());
    let disarm = format!(
        "{{\"action\":\"DEACTIVATE\",\"memberID\":\"{}\",\"alarm\":\"NOSPACE\"}}",
        member.expect("an alarm")
    );
    etcd.post(0, "/v3/maintenance/alarm", &disarm).expect("disarmed");
    assert_eq!(node.append(&leader, &refused), Ok(()));
    blocks.push(refused);
    assert!(chain(&mut node) == blocks[kept_from..]);
    let emptied = node.room().expect("told");
    assert!(!emptied.is_out && emptied.used_bytes < room.used_bytes, "{emptied:?}");
}

#[test]
fn trimming_gives_space_back_while_it_goes_on() {
    const QUOTA: u64 = 16 << 20;
    let etcd = cluster(1, &["--quota-backend-bytes", &QUOTA.to_string()]);
    let mut node = store(&patient(options(etcd.endpoints())));
    let (leader, mut at) = led(&mut node, 1);
    // Five times the quota in all.
    for _ in 0..80 {
        let block = next_block(&leader, at, 1, 1 << 20);
        node.append(&leader, &block).expect("there is room");
        at = block.after();
        node.trim(&leader, block.before()).expect("trimmed");
    }
    assert_eq!(node.bounds().expect("told").1, at);
}

#[test]
fn a_member_that_hangs_hides_no_change() {
    let etcd = cluster(3, &[]);
    let mut node = store(&quick(etcd.endpoints()));
    led(&mut node, 1);
    // Its watch is at the member that then hangs.
    let mut waits = store(&quick(etcd.endpoints()));
    let (_, mut seen) = waits.leader().expect("told");
    seen = waits.wait(seen, Duration::from_millis(50)).expect("told");
    etcd.pause(0);
    lead(&mut node, "second", 2);
    let before = seen;
    wait_until("the change is seen", || {
        seen = waits.wait(before, Duration::from_millis(100)).unwrap_or(before);
        seen > before
    });
    assert_eq!(waits.leader().expect("told").0.name(), "second");
}

#[test]
fn a_node_that_is_silent_is_gone() {
    let etcd = cluster(1, &[]);
    let mut node = store(&patient(options(etcd.endpoints())));
    led(&mut node, 1);
    node.announce(&present("a", 1), 1).expect("announced");
    assert_eq!(node.nodes().expect("told").len(), 1);
    wait_until("it is gone", || node.nodes().expect("told").is_empty());
    // The same process is there again.
    node.announce(&present("a", 1), 60).expect("announced");
    assert_eq!(node.nodes().expect("told").len(), 1);
}

#[test]
fn endpoints_of_two_etcds_are_not_taken_for_one() {
    let (mut one, other) = (cluster(1, &[]), cluster(1, &[]));
    led(&mut store(&patient(options(other.endpoints()))), 1);
    let mut node = store(&quick([one.endpoints(), other.endpoints()].concat()));
    let (leader, start) = led(&mut node, 1);
    one.kill(0);
    // The other one has the very same cluster, and would take it.
    let told = node.append(&leader, &next_block(&leader, start, 1, 10));
    assert!(matches!(told, Err(ClusterError::Unusable(_))), "{told:?}");
}

#[test]
fn nobody_or_nobody_of_etcd_is_said_in_time() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let url = format!("http://127.0.0.1:{port}");
    let asked = |url: &str| {
        let mut options = options(vec![url.to_owned()]);
        options.timeouts.attempt = Duration::from_millis(100);
        options.timeouts.call = Duration::from_millis(400);
        store(&options).cluster()
    };
    // Somebody who takes connections and says nothing; then nobody.
    for _ in 0..2 {
        let told = asked(&url);
        assert!(matches!(told, Err(ClusterError::Unavailable(_))), "{told:?}");
    }
    drop(listener);
    let told = asked(&url);
    assert!(matches!(told, Err(ClusterError::Unavailable(_))), "{told:?}");
}
