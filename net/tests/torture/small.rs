//! A file system that somebody else fills in mid-sale: selling stops before anything is acknowledged that
//! could not be kept, and continues when there is space again.

use std::fs::File;
use std::path::Path;

use stampede_testkit::{Missing, Need};

use crate::mount::{Kind, Place};
use crate::round::{Reached, Round};
use crate::sale::{Sale, wait_for_sold};
use crate::server::{Bed, get, wait_for};
use crate::world::verify_log;

/// Size of the file system: little more than the log and its reserve of free space need.
const BYTES: u64 = 512 << 20;

/// How long its sale takes, in seconds.
const SALE_S: f64 = 3.0;

/// A separate shop on a small file system, next to the round's.
pub(crate) fn fill(round: &mut Round<'_>) -> Result<Reached, Missing> {
    let place = Place::new();
    let mounted = place.mount_image(Kind::Ext4, &place.path("image"), BYTES);
    let root = mounted.map_err(|why| Missing::new(Need::FileSystems, why))?;
    let mut bed = Bed::new();
    bed.dir = root.join("data");
    let mut server = bed.start();
    // Slow enough that the server checks the free space several times meanwhile.
    let per_s = Some(round.sale.purchases as f64 / SALE_S);
    let sale = Sale { item: 1, seed: round.dice.next(), per_s, ..round.sale };
    sale.open(&server);
    let crowd = sale.start(server.public);
    wait_for_sold(&server, &crowd, sale.stock / 10);
    let filler = root.join("somebody else's");
    take_all_room(&filler);
    wait_for("selling to stop", || {
        let ready = get(server.admin, "/readyz")?;
        (ready.contains("log_full") || crowd.is_over()).then_some(())
    });
    let was_in_time = !crowd.is_over();
    if was_in_time {
        server.wait_until_told("log_full");
    }
    std::fs::remove_file(&filler).expect("it is ours");
    let told = crowd.finish();
    told.judge(&server, None);
    if was_in_time {
        wait_for("the end of it to be told", || {
            let alarms = server.merchant().get("/admin/stats").ok()?["alarms"].to_string();
            (alarms.contains("log_full is over") && server.said().contains("log_full is over")).then_some(())
        });
    }
    server.kill();
    let server = bed.start();
    told.judge(&server, None);
    let totals = server.merchant().item(sale.item).expect("the item's page").totals;
    assert!(sale.cancel > 0.0 || totals.sold == sale.stock as i64, "everything is sold: {totals:?}");
    assert_eq!(server.stop(), Some(0));
    verify_log(&bed.dir);
    place.unmount("file");
    Ok(if was_in_time { Reached::Yes } else { Reached::Not })
}

/// A file that fills all the remaining space.
fn take_all_room(path: &Path) {
    let file = File::create(path).expect("a file");
    loop {
        let free = rustix::fs::fstatvfs(&file).expect("its file system").f_bavail * 4096;
        let grown = file.metadata().expect("its size").len() + free;
        if free == 0 || rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, grown).is_err() {
            return;
        }
    }
}
