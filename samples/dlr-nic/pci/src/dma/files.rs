// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Mappings of the client's memory files.

use std::{
    collections::HashMap,
    fmt,
    fs::File,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use rustix::fs::{fcntl_get_seals, fstatfs, SealFlags};
use vm_memory::{FileOffset, MmapRegion};

use super::hook::DirtyHook;

/// Bytes of files that one function has mapped at a time. A client can make a file of any length, and
/// all functions share the address space of this process: 2^47 bytes on x86.
pub(crate) const MAX_BYTES: u64 = 512 << 30;

/// `HUGETLBFS_MAGIC` of `linux/magic.h`.
const HUGETLBFS: u64 = 0x9584_58f6;

/// What makes a file the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    dev: u64,
    ino: u64,
}

/// A file, whole, in our address space.
pub(crate) type FileMapping = MmapRegion<DirtyHook>;

/// Why a file cannot be mapped.
#[derive(Debug)]
pub enum FileError {
    /// No regular file, or shorter than what is to be mapped of it.
    Invalid,
    /// Its size may shrink.
    NotSealed,
    /// Its pages may go.
    HugePages,
    /// The function has as many memory files mapped as it may have, or as many bytes of them.
    TooMany,
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("not a regular file of this length"),
            Self::NotSealed => f.write_str(
                "the file is not sealed against shrinking, and a file that shrinks would end this \
                 process with all its functions: use memory-backend-memfd,share=on, which QEMU \
                 seals, or start the NIC with --unsealed-memory",
            ),
            Self::HugePages => f.write_str(
                "the file is made of huge pages: its owner can take one out of it, and if no other \
                 one is free then, that would end this process with all its functions: use \
                 memory-backend-memfd,share=on without hugetlb, or start the NIC with \
                 --unsealed-memory",
            ),
            Self::TooMany => f.write_str("too many memory files, or too large ones"),
            Self::System(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for FileError {}

impl From<io::Error> for FileError {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

/// All files mapped by a process. Each is mapped once, however many descriptors of it
/// arrive (one with each DMA_MAP), and unmapped when the last function forgets it.
#[derive(Debug, Default)]
pub struct FileCache {
    files: Mutex<HashMap<FileId, Weak<FileMapping>>>,
    unsealed: bool,
}

impl FileCache {
    /// A cache that takes files whose owner can truncate them, too, or take huge pages out of them. A
    /// client that does so ends this process by SIGBUS.
    pub fn with_unsealed() -> Self {
        Self {
            unsealed: true,
            ..Self::default()
        }
    }

    /// The mapping of `fd`'s file, at least `len` bytes long.
    pub(crate) fn get(
        &self,
        fd: OwnedFd,
        len: u64,
    ) -> Result<(FileId, Arc<FileMapping>), FileError> {
        let file = File::from(fd);
        let meta = file.metadata()?;
        if !meta.is_file() || meta.size() < len {
            return Err(FileError::Invalid);
        }
        if meta.size() > MAX_BYTES {
            return Err(FileError::TooMany);
        }
        let id = FileId {
            dev: meta.dev(),
            ino: meta.ino(),
        };
        let mut files = self.files.lock();
        if let Some(known) = files.get(&id).and_then(Weak::upgrade) {
            if known.size() as u64 >= len {
                return Ok((id, known));
            }
        }
        // A file that shrinks under its mapping would kill us with SIGBUS, and with us the
        // functions of all other clients.
        let sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed && !self.unsealed {
            return Err(FileError::NotSealed);
        }
        // No seal keeps a client from punching a hole (fallocate(2)), and a page of this kind is not
        // reserved a second time.
        let huge = fstatfs(&file).is_ok_and(|fs| fs.f_type as u64 == HUGETLBFS);
        if huge && !self.unsealed {
            return Err(FileError::HugePages);
        }
        let out_of_memory = |_| io::Error::from(io::ErrorKind::OutOfMemory);
        let size = usize::try_from(meta.size()).map_err(out_of_memory)?;
        let mapping = FileMapping::from_file(FileOffset::new(file, 0), size)
            .map_err(|e| io::Error::other(format!("mmap of {size:#x} bytes: {e}")))?;
        let mapping = Arc::new(mapping);
        files.retain(|_, known| known.strong_count() != 0);
        files.insert(id, Arc::downgrade(&mapping));
        Ok((id, mapping))
    }

    /// Number of files mapped now.
    pub fn count(&self) -> usize {
        let files = self.files.lock();
        files.values().filter(|m| m.strong_count() != 0).count()
    }
}
