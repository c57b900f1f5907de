//! A disk in memory that is made in a microsecond, for trials by the hundred thousand.
//!
//! It begins as an image, shared and never changed; what is written goes into a copy.
//! It knows whether anything was changed at all. It does not crash or tear: the image
//! is what a crash or a fault has left. See [`super::log_sim`] for one that does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use stampede_persist::disk::{Disk, DiskFile, DiskLock, LockError, OpenMode};

/// The files of a directory.
pub(crate) type Image = BTreeMap<PathBuf, Arc<Vec<u8>>>;

struct Plate {
    files: Image,
    changed: bool,
}

/// The disk; clones share it.
#[derive(Clone)]
pub(crate) struct PlateDisk(Arc<Mutex<Plate>>);

impl PlateDisk {
    pub(crate) fn new(files: Image) -> Self {
        Self(Arc::new(Mutex::new(Plate { files, changed: false })))
    }
    fn plate(&self) -> MutexGuard<'_, Plate> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    /// Whether anything was written, made, renamed or removed.
    pub(crate) fn was_changed(&self) -> bool {
        self.plate().changed
    }
    /// What stands there now.
    pub(crate) fn image(&self) -> Image {
        self.plate().files.clone()
    }
}

impl Disk for PlateDisk {
    fn create_dir(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
    fn open(&self, file: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut plate = self.plate();
        match (plate.files.contains_key(file), mode) {
            (true, OpenMode::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (false, OpenMode::CreateNew) => {
                plate.changed = true;
                plate.files.insert(file.to_owned(), Arc::default());
            }
            (false, _) => return Err(ErrorKind::NotFound.into()),
            (true, _) => {}
        }
        Ok(Box::new(PlateFile { disk: self.clone(), path: file.to_owned() }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let plate = self.plate();
        let inside = plate.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut plate = self.plate();
        plate.changed = true;
        let bytes = plate.files.remove(from).ok_or(ErrorKind::NotFound)?;
        plate.files.insert(to.to_owned(), bytes);
        Ok(())
    }
    fn remove(&self, file: &Path) -> io::Result<()> {
        let mut plate = self.plate();
        plate.files.remove(file).ok_or(ErrorKind::NotFound)?;
        plate.changed = true;
        Ok(())
    }
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(1 << 40)
    }
    fn is_volatile(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
    fn lock(&self, _: &Path) -> Result<Box<dyn DiskLock>, LockError> {
        Ok(Box::new(NoLock))
    }
}

struct NoLock;
impl DiskLock for NoLock {}

struct PlateFile {
    disk: PlateDisk,
    path: PathBuf,
}

impl DiskFile for PlateFile {
    fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(offset, bytes)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut plate = self.disk.plate();
        plate.changed = true;
        let file = Arc::make_mut(plate.files.get_mut(&self.path).ok_or(ErrorKind::NotFound)?);
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        file.resize(file.len().max(to), 0);
        file[from..to].copy_from_slice(bytes);
        Ok(())
    }
    fn zero_fill(&mut self, bytes: u64) -> io::Result<()> {
        self.write(0, &vec![0; bytes as usize])
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let plate = self.disk.plate();
        let file = plate.files.get(&self.path).ok_or(ErrorKind::NotFound)?;
        let from = (offset as usize).min(file.len());
        let len = buffer.len().min(file.len() - from);
        buffer[..len].copy_from_slice(&file[from..from + len]);
        Ok(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        let plate = self.disk.plate();
        Ok(plate.files.get(&self.path).ok_or(ErrorKind::NotFound)?.len() as u64)
    }
}
