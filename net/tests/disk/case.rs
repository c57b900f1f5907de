//! The cases: each is a sale on a file system of its own, with one fault in the middle.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use stampede_loadgen::verify::Merchant;

use crate::layer::{self, Mode, Switch};
use crate::mount::{Kind, Place};
use crate::sale::{Crowd, Sale, Told, last, wait_for_sold};
use crate::server::{Bed, Server, binary, get, pause, wait_for};

/// Exit code after a log failure.
const EXIT_LOG_FAILED: i32 = 74;
/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`: both are `_IOR('X', 125, __u32)`.
const SHUTDOWN: libc::Ioctl = 0x8004_587D_u32 as libc::Ioctl;
/// Without writing the file system's own journal first, like a power cut.
const NO_LOG_FLUSH: u32 = 2;
/// Size of the images.
const IMAGE_BYTES: u64 = 640 << 20;

/// One case; an error says why it cannot be made here.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Result<(), String>,
}

/// All of them.
pub(crate) const CASES: &[Case] = &[
    Case { name: "layer: EIO on a write", run: || fails(Mode::WriteEio) },
    Case { name: "layer: EIO on a flush", run: || fails(Mode::FlushEio) },
    Case { name: "layer: ENOSPC on a write", run: || fails(Mode::WriteEnospc) },
    Case { name: "layer: a write that ends inside a sector", run: || fails(Mode::ShortInSector) },
    Case { name: "layer: writes of one sector at most", run: writes_by_sector },
    Case { name: "layer: a disk that hangs and comes back", run: hangs },
    Case { name: "layer: a disk that hangs until the power is cut", run: hangs_until_power_cut },
    Case { name: "ext4: power cut after a kill", run: || power_cut(Kind::Ext4, true) },
    Case { name: "ext4: the file system is shut down", run: || power_cut(Kind::Ext4, false) },
    Case { name: "xfs: power cut after a kill", run: || power_cut(Kind::Xfs, true) },
    Case { name: "xfs: the file system is shut down", run: || power_cut(Kind::Xfs, false) },
    Case { name: "ext4: its backing store runs full", run: backing_store_full },
];

/// A shop on a directory, with its buyers.
struct Shop {
    bed: Bed,
    server: Option<Server>,
    sale: Sale,
    crowd: Option<Crowd>,
}

impl Shop {
    fn open(dir: &Path) -> Self {
        let mut bed = Bed::new();
        bed.dir = dir.join("data");
        let server = bed.start();
        let seed = u64::from(std::process::id());
        let sale = Sale::new(1, 400, seed, 1_000.0, 100);
        sale.open(&server);
        let crowd = Some(sale.start(server.public));
        let shop = Self { bed, server: Some(server), sale, crowd };
        shop.reach(20);
        shop
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    fn crowd(&self) -> &Crowd {
        self.crowd.as_ref().expect("it buys")
    }

    fn reach(&self, percent: u64) {
        wait_for_sold(self.server(), self.crowd(), self.sale.stock * percent / 100);
    }

    fn merchant(&self) -> Merchant {
        self.server().merchant()
    }

    /// The server must stop by itself and give the reason.
    fn stops_by_itself(&mut self) {
        let mut server = self.server.take().expect("it runs");
        let status = server.wait_for_exit();
        let said = server.said();
        assert_eq!(status.code(), Some(EXIT_LOG_FAILED), "{status}\n{said}");
        assert!(said.contains("the log has failed"), "{said}");
        assert!(!self.crowd().is_over(), "the fault came too late");
    }

    fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    fn start(&mut self) {
        self.server = Some(self.bed.start());
    }

    /// Everybody gets a final answer, nothing is lost, everything is sold; and again after a restart.
    fn close(mut self) {
        let told = self.crowd.take().expect("it buys").finish();
        self.judge(&told);
        self.kill();
        self.start();
        self.judge(&told);
        assert_eq!(self.server.take().expect("it runs").stop(), Some(0));
        let output = Command::new(binary()).args(["log", "verify"]).arg(&self.bed.dir).output();
        let output = output.expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    fn judge(&self, told: &Told) {
        told.judge(self.server(), None);
        let totals = self.merchant().item(self.sale.item).expect("the item's page").totals;
        assert_eq!((totals.sold, totals.granted), (self.sale.stock as i64, self.sale.stock as i64));
    }
}

/// A shop on the layer.
fn on_layer(run: impl FnOnce(Shop, &Switch)) -> Result<(), String> {
    let place = Place::new();
    let switch = Arc::<Switch>::default();
    let session = layer::mount(&place.path("below"), &place.path("top"), switch.clone())?;
    run(Shop::open(&place.path("top")), &switch);
    session.umount_and_join().map_err(|error| error.to_string()).expect("nobody uses it any more");
    Ok(())
}

fn fails(mode: Mode) -> Result<(), String> {
    on_layer(|mut shop, switch| {
        switch.turn(mode);
        shop.stops_by_itself();
        assert_eq!(switch.met(), 1, "nothing may touch a failed file again");
        switch.turn(Mode::Sound);
        shop.start();
        shop.close();
    })
}

/// A short write is not a failure if it ends between sectors: the rest is written.
fn writes_by_sector() -> Result<(), String> {
    on_layer(|shop, switch| {
        // What gathers while the disk hangs is more than one sector.
        let hung = hang(&shop, switch);
        switch.turn(Mode::ShortBySector);
        shop.reach(80);
        assert!(switch.met() > 1, "no write was longer than a sector");
        switch.turn(Mode::Sound);
        shop.close();
        drop(hung);
    })
}

/// Releases a hung disk on drop: a server that waits for it cannot even be killed.
struct Hung<'a>(&'a Switch);

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        self.0.turn(Mode::WriteEio);
    }
}

/// Waits until a durable write hangs. Then the sale stands still, but requests that need no disk
/// still get responses.
fn hang<'a>(shop: &Shop, switch: &'a Switch) -> Hung<'a> {
    switch.turn(Mode::Hung);
    let hung = Hung(switch);
    wait_for("a write that hangs", || (switch.met() > 0).then_some(()));
    last(Duration::from_millis(500));
    for (address, path) in [(shop.server().public, "/v1/items/1"), (shop.server().admin, "/healthz")] {
        let answer = get(address, path).unwrap_or_default();
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    assert_eq!(switch.met(), 1, "nothing may be written after a write that hangs");
    assert!(!shop.crowd().is_over(), "a purchase was answered");
    hung
}

fn hangs() -> Result<(), String> {
    on_layer(|shop, switch| {
        let hung = hang(&shop, switch);
        switch.turn(Mode::Sound);
        shop.close();
        drop(hung);
    })
}

fn hangs_until_power_cut() -> Result<(), String> {
    on_layer(|mut shop, switch| {
        let hung = hang(&shop, switch);
        let pid = rustix::process::Pid::from_raw(shop.server().pid().cast_signed()).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
        // The hung write is not done; only now can the process end.
        drop(hung);
        shop.server.take().expect("it runs").wait_for_exit();
        switch.turn(Mode::Sound);
        shop.start();
        shop.close();
    })
}

/// The file system forgets what was not synced. Either the server was killed a moment before,
/// or it must notice by itself.
fn power_cut(kind: Kind, is_killed_first: bool) -> Result<(), String> {
    let place = Place::new();
    let image = place.path("image");
    let root = place.mount_image(kind, &image, IMAGE_BYTES)?;
    let mut shop = Shop::open(&root);
    shop.reach(40);
    let door = File::open(&root).expect("the mount's directory");
    if is_killed_first {
        shop.kill();
    }
    shut_down(&door)?;
    drop(door);
    if !is_killed_first {
        shop.stops_by_itself();
    }
    place.unmount("file");
    place.mount_again(kind, &image).expect("a file system survives a power cut");
    shop.start();
    shop.close();
    place.unmount("file");
    Ok(())
}

fn shut_down(file: &File) -> Result<(), String> {
    let flags = NO_LOG_FLUSH;
    // SAFETY: the call reads four bytes at this address, which is that of a live u32.
    let done = unsafe { libc::ioctl(file.as_raw_fd(), SHUTDOWN, &raw const flags) };
    if done == 0 { Ok(()) } else { Err(format!("shutdown: {}", std::io::Error::last_os_error())) }
}

/// The file system thinks that it has space, but its device has none. Either a write of the log
/// fails, which ends the process, or no spare segment can be made: then selling
/// stops before anything is acknowledged that could not be kept, and continues when there is space.
fn backing_store_full() -> Result<(), String> {
    let place = Place::new();
    let base = place.mount_memory(2 * IMAGE_BYTES)?;
    let root = place.mount_image(Kind::Ext4, &base.join("image"), 2 * IMAGE_BYTES)?;
    let mut shop = Shop::open(&root);
    let ballast = Sale { purchases: 200_000, per_s: None, ..Sale::new(2, 200_000, 7, 1.0, 12) };
    ballast.open(shop.server());
    let ballast = ballast.start(shop.server().public);
    wait_for_sold(shop.server(), &ballast, 1);
    place.fill_memory();
    let failed = wait_for("selling to stop", || {
        let server = shop.server.as_mut().expect("it runs");
        if server.exited().is_some() {
            return Some(true);
        }
        let ready = get(server.admin, "/readyz")?;
        ready.contains("log_full").then_some(false)
    });
    place.resize_memory(2 * IMAGE_BYTES);
    if failed {
        shop.stops_by_itself();
        // It is read-only by then.
        place.unmount("file");
        place.mount_again(Kind::Ext4, &base.join("image")).expect("its journal is intact");
        shop.start();
    }
    wait_for("selling to go on", || {
        let ready = get(shop.server().admin, "/readyz")?;
        pause();
        ready.starts_with("HTTP/1.1 200").then_some(())
    });
    let told = ballast.send_away();
    told.judge(shop.server(), None);
    shop.close();
    place.unmount("file");
    place.unmount("base");
    Ok(())
}
