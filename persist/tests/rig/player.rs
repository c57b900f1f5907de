//! Plays what a [`CaptureDisk`](super::capture::CaptureDisk) has noted onto a simulated disk, step by
//! step, so that the power can be cut between any two steps.
//!
//! A write that has begun and not ended is there as an unsynced one: a power cut leaves any of its
//! sectors. Next: [`super::judge`].

use std::collections::HashMap;
use std::path::Path;

use stampede_persist::disk::{Disk as _, DiskFile, OpenMode};

use super::capture::{Change, Event};
use super::sim_disk::{Landing, SimDisk};

pub(crate) struct Player {
    disk: SimDisk,
    files: HashMap<usize, Box<dyn DiskFile>>,
    /// How many events were played.
    pub(crate) played: usize,
}

impl Player {
    /// Begins with the disk as it was before the first event.
    pub(crate) fn new(disk: &SimDisk) -> Self {
        Self { disk: disk.copy(), files: HashMap::new(), played: 0 }
    }

    /// Plays until so many events have happened.
    pub(crate) fn play_until(&mut self, events: &[Event], count: usize) {
        while self.played < count {
            self.play(&events[self.played].change);
            self.played += 1;
        }
    }

    fn play(&mut self, change: &Change) {
        let done = match change {
            Change::Create { file, path } => self.open(*file, path, OpenMode::CreateNew),
            Change::Open { file, path } => self.open(*file, path, OpenMode::ReadWrite),
            Change::Rename { from, to } => self.disk.rename(Path::new(from), Path::new(to)),
            Change::Remove { path } => self.disk.remove(Path::new(path)),
            Change::SyncDir { path } => self.disk.sync_dir(Path::new(path)),
            Change::MakeDir { path } => self.disk.create_dir(Path::new(path)).map(drop),
            Change::Begin { file, offset, bytes } | Change::Write { file, offset, bytes } => {
                self.file(*file).write(*offset, bytes)
            }
            Change::End { file, offset, bytes } => self.file(*file).write_durable(*offset, bytes),
            Change::Zero { file, bytes } => self.file(*file).zero_fill(*bytes),
            Change::Sync { file } => self.file(*file).sync(),
        };
        done.expect("what the live disk has done can be done again");
    }

    fn open(&mut self, file: usize, path: &str, mode: OpenMode) -> std::io::Result<()> {
        self.files.insert(file, self.disk.open(Path::new(path), mode)?);
        Ok(())
    }

    fn file(&mut self, file: usize) -> &mut dyn DiskFile {
        &mut **self.files.get_mut(&file).expect("opened before")
    }

    /// The disk after a power cut now.
    pub(crate) fn cut(&self, landing: Landing, fine_tears: bool, seed: u64) -> SimDisk {
        let image = self.disk.copy();
        image.reseed(seed);
        image.set_fine_tears(fine_tears);
        image.cut_as(landing);
        image
    }
}
