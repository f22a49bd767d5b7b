// SPDX-License-Identifier: Apache-2.0 OR MIT

//! IOVA space of one function.

use std::{
    fmt, io,
    ops::Deref,
    os::fd::OwnedFd,
    sync::{atomic::Ordering, Arc, PoisonError, RwLock, RwLockReadGuard},
};

use dlr_core::{DirtySink, DmaFault, DmaMemory};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap, Permissions};

use super::{
    files::{FileCache, FileId, FileMapping},
    hook::DirtyHook,
    table::RangeTable,
    FunctionMemory,
};

/// Smallest unit of a mapping.
const PAGE: u64 = 4096;
/// Distance between two files in the file space, beyond their sizes.
const FILE_GAP: u64 = 1 << 30;

/// Why a DMA_MAP was refused.
#[derive(Debug)]
pub enum MapError {
    /// Empty, unaligned or wrapping range, or one beyond the end of the file.
    Invalid,
    /// The file cannot be mapped.
    File(io::Error),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("not a usable range"),
            Self::File(e) => write!(f, "memory file: {e}"),
        }
    }
}

impl std::error::Error for MapError {}

#[derive(Debug)]
struct State {
    memory: FunctionMemory,
    /// Where each file lies in the file space.
    files: Vec<(FileId, Arc<FileMapping>, u64)>,
    next_base: u64,
}

/// Host memory as one function reaches it. Nothing is reachable until it is mapped.
pub struct DmaSpace {
    state: RwLock<State>,
    files: Arc<FileCache>,
}

impl DmaSpace {
    /// An empty space. Each write is announced to `sink`.
    pub fn new(files: Arc<FileCache>, sink: Option<Arc<dyn DirtySink>>) -> Self {
        let memory = FunctionMemory::new(
            GuestMemoryMmap::default(),
            RangeTable::new(sink.clone()),
            true,
            DirtyHook::new(sink),
        );
        Self {
            state: RwLock::new(State {
                memory,
                files: Vec::new(),
                next_base: 0,
            }),
            files,
        }
    }

    /// Holds all mappings as they are: an unmap waits until the guard is gone. The holder
    /// must not take a second guard of the same space meanwhile.
    pub fn lock(&self) -> DmaGuard<'_> {
        DmaGuard(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Maps `[iova, iova + len)` to `fd` from `offset` on.
    ///
    /// # Errors
    ///
    /// The range is not usable or the file cannot be mapped; nothing has changed then.
    pub fn map(
        &self,
        iova: u64,
        len: u64,
        fd: OwnedFd,
        offset: u64,
        perm: Permissions,
    ) -> Result<(), MapError> {
        let end = offset.checked_add(len).ok_or(MapError::Invalid)?;
        let aligned = (iova | len | offset) % PAGE == 0;
        if len == 0 || !aligned || iova.checked_add(len).is_none() {
            return Err(MapError::Invalid);
        }
        let bytes = usize::try_from(len).map_err(|_| MapError::Invalid)?;
        let (id, mapping) = self.files.get(fd, end).map_err(|e| match e.kind() {
            io::ErrorKind::InvalidInput => MapError::Invalid,
            _ => MapError::File(e),
        })?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let base = state.place(id, mapping).ok_or(MapError::Invalid)?;
        state.memory.iommu().map(iova, base + offset, bytes, perm);
        Ok(())
    }

    /// Unmaps what lies in `[iova, iova + len)`, be it nothing. Returns when no access to it
    /// is in flight any more.
    pub fn unmap(&self, iova: u64, len: u64) {
        let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.memory.iommu().unmap(iova, len);
    }

    /// Unmaps everything and lets go of all files.
    pub fn unmap_all(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.memory.iommu().clear();
        state.memory = state.memory.with_replaced_backend(Default::default());
        state.files.clear();
        state.next_base = 0;
    }
}

impl State {
    /// Where `mapping` lies in the file space; it is put there when it is new.
    fn place(&mut self, id: FileId, mapping: Arc<FileMapping>) -> Option<u64> {
        let known = self
            .files
            .iter()
            .find(|(known, at, _)| *known == id && Arc::ptr_eq(at, &mapping));
        if let Some((_, _, base)) = known {
            return Some(*base);
        }
        let base = self.next_base;
        let size = (mapping.size() as u64).checked_next_multiple_of(PAGE)?;
        let next = base.checked_add(size)?.checked_add(FILE_GAP)?;
        let region = GuestRegionMmap::with_arc(Arc::clone(&mapping), GuestAddress(base))?;
        let backend = self
            .memory
            .get_backend()
            .insert_region(Arc::new(region))
            .ok()?;
        self.memory = self.memory.with_replaced_backend(backend);
        self.files.push((id, mapping, base));
        self.next_base = next;
        Some(base)
    }
}

impl fmt::Debug for DmaSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaSpace").finish_non_exhaustive()
    }
}

/// A [`DmaSpace`] whose mappings stand still.
pub struct DmaGuard<'a>(RwLockReadGuard<'a, State>);

impl Deref for DmaGuard<'_> {
    type Target = FunctionMemory;

    fn deref(&self) -> &FunctionMemory {
        &self.0.memory
    }
}

impl fmt::Debug for DmaGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaGuard").finish_non_exhaustive()
    }
}

impl DmaMemory for DmaSpace {
    fn read(&self, iova: u64, buf: &mut [u8]) -> Result<(), DmaFault> {
        let len = buf.len() as u64;
        if len == 0 {
            return Ok(());
        }
        self.lock()
            .read_slice(buf, GuestAddress(iova))
            .map_err(|_| DmaFault { iova, len })
    }

    fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaFault> {
        let len = data.len() as u64;
        if len == 0 {
            return Ok(());
        }
        self.lock()
            .write_slice(data, GuestAddress(iova))
            .map_err(|_| DmaFault { iova, len })
    }

    fn write_u64(&self, iova: u64, value: u64) -> Result<(), DmaFault> {
        self.lock()
            .store(value.to_le(), GuestAddress(iova), Ordering::Release)
            .map_err(|_| DmaFault { iova, len: 8 })
    }
}
