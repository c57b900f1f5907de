//! A disk in memory, for what reads files: no faults, no durability, any bytes.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stampede_persist::disk::{Disk, DiskFile, DiskLock, LockError, OpenMode};

type Content = Arc<Mutex<Vec<u8>>>;

/// The disk; clones share it.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<BTreeMap<PathBuf, Content>>>);

/// Nobody who panics leaves half a change behind.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryDisk {
    /// A copy that shares nothing with this one.
    #[must_use]
    pub fn copy(&self) -> Self {
        let files = held(&self.0);
        let copied = |(path, file): (&PathBuf, &Content)| {
            let content: Vec<u8> = held(file).clone();
            (path.clone(), Arc::new(Mutex::new(content)))
        };
        Self(Arc::new(Mutex::new(files.iter().map(copied).collect())))
    }

    /// Puts a file there.
    pub fn put(&self, file: &Path, bytes: Vec<u8>) {
        held(&self.0).insert(file.to_owned(), Arc::new(Mutex::new(bytes)));
    }

    /// What is in a file; `None` if there is none.
    pub fn get(&self, file: &Path) -> Option<Vec<u8>> {
        held(&self.0).get(file).map(|content| held(content).clone())
    }
}

struct MemoryFile(Content);

struct MemoryLock;

impl DiskLock for MemoryLock {}

impl Disk for MemoryDisk {
    fn create_dir(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
    fn open(&self, file: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut files = held(&self.0);
        let found = files.get(file).cloned();
        let content = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(content), _) => content,
            (None, OpenMode::CreateNew) => files.entry(file.to_owned()).or_default().clone(),
            (None, _) => return Err(ErrorKind::NotFound.into()),
        };
        Ok(Box::new(MemoryFile(content)))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let files = held(&self.0);
        let inside = files.keys().filter(|file| file.parent() == Some(dir));
        Ok(inside.filter_map(|file| Some(file.file_name()?.to_str()?.to_owned())).collect())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = held(&self.0);
        let content = files.remove(from).ok_or(ErrorKind::NotFound)?;
        files.insert(to.to_owned(), content);
        Ok(())
    }
    fn remove(&self, file: &Path) -> io::Result<()> {
        held(&self.0).remove(file).map(drop).ok_or(ErrorKind::NotFound.into())
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
        Ok(Box::new(MemoryLock))
    }
}

impl DiskFile for MemoryFile {
    fn write_durable(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(offset, bytes)
    }
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = held(&self.0);
        let (from, to) = (offset as usize, offset as usize + bytes.len());
        if content.len() < to {
            content.resize(to, 0);
        }
        content[from..to].copy_from_slice(bytes);
        Ok(())
    }
    fn zero_fill(&mut self, bytes: u64) -> io::Result<()> {
        let mut content = held(&self.0);
        content.clear();
        content.resize(bytes as usize, 0);
        Ok(())
    }
    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let content = held(&self.0);
        let rest = content.get(offset as usize..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(held(&self.0).len() as u64)
    }
}
