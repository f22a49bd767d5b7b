// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Mappings of the client's memory files.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use rustix::fs::{fcntl_get_seals, SealFlags};
use vm_memory::{FileOffset, MmapRegion};

use super::hook::DirtyHook;

/// What makes a file the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    dev: u64,
    ino: u64,
}

/// A file, whole, in our address space.
pub(crate) type FileMapping = MmapRegion<DirtyHook>;

/// All files mapped by a process. Each is mapped once, however many descriptors of it
/// arrive (one with each DMA_MAP), and unmapped when the last function forgets it.
#[derive(Debug, Default)]
pub struct FileCache(Mutex<HashMap<FileId, Weak<FileMapping>>>);

impl FileCache {
    /// The mapping of `fd`'s file, at least `len` bytes long.
    pub(crate) fn get(&self, fd: OwnedFd, len: u64) -> io::Result<(FileId, Arc<FileMapping>)> {
        let file = File::from(fd);
        let meta = file.metadata()?;
        if !meta.is_file() || meta.size() < len {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let id = FileId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.get(&id).and_then(Weak::upgrade) {
            if known.size() as u64 >= len {
                return Ok((id, known));
            }
        }
        // A file that shrinks under its mapping would kill us with SIGBUS. Only the client
        // could do that, not a guest; QEMU seals its memory files against it.
        if !fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK)) {
            log::debug!("memory file {id:?} is not sealed against shrinking");
        }
        let size = usize::try_from(meta.size()).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mapping = FileMapping::from_file(FileOffset::new(file, 0), size)
            .map_err(|e| io::Error::other(format!("mmap of {size:#x} bytes: {e}")))?;
        let mapping = Arc::new(mapping);
        files.retain(|_, known| known.strong_count() != 0);
        files.insert(id, Arc::downgrade(&mapping));
        Ok((id, mapping))
    }

    /// Number of files mapped now.
    pub fn count(&self) -> usize {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        files.values().filter(|m| m.strong_count() != 0).count()
    }
}
