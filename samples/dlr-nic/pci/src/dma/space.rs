// SPDX-License-Identifier: Apache-2.0 OR MIT

//! IOVA space of one function.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Deref,
    os::fd::OwnedFd,
    sync::{atomic::Ordering, Arc},
    time::Instant,
};

use dlr_core::{DirtySink, DmaFault, DmaMemory};
use parking_lot::{RwLock, RwLockReadGuard};
use rangemap::RangeMap;
use vm_memory::{
    Bytes, GuestAddress, GuestMemoryMmap, GuestRegionMmap, Permissions, VolatileMemory,
};

use super::{
    files::{FileCache, FileError, FileId, FileMapping, MAX_BYTES},
    hook::DirtyHook,
    table::RangeTable,
    FunctionMemory,
};

/// Smallest unit of a mapping.
const PAGE: u64 = 4096;
/// Distance between two files in the file space, beyond their sizes.
const FILE_GAP: u64 = 1 << 30;

/// Memory files that one function has mapped at a time: each costs a descriptor and a mapping of
/// this process, which all functions share.
const MAX_FILES: usize = 64;

/// Ranges that one function has mapped at a time, where neighbours that belong together are one: each
/// costs memory of this process. Enough for a gigabyte of single pages; VFIO itself allows a
/// container 65 535 (`dma_entry_limit`).
pub(super) const MAX_RANGES: usize = 1 << 18;

/// Why a DMA_MAP was refused.
#[derive(Debug)]
pub enum MapError {
    /// Empty, unaligned or wrapping range, or one beyond the end of the file.
    Invalid,
    /// The file cannot be mapped.
    File(FileError),
    /// The function has as many ranges mapped as it may have.
    TooMany,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid => f.write_str("not a usable range"),
            Self::File(e) => write!(f, "memory file: {e}"),
            Self::TooMany => write!(f, "{MAX_RANGES} ranges are mapped already"),
        }
    }
}

impl std::error::Error for MapError {}

#[derive(Debug)]
struct State {
    memory: FunctionMemory,
    /// Where each file lies in the file space.
    files: Vec<(FileId, Arc<FileMapping>, u64)>,
    /// What each mapped IOVA belongs to: as many ranges as the table of `memory` has.
    users: RangeMap<u64, User>,
    next_base: u64,
}

/// Neighbours that are alike are one range, as in the crate's `Iotlb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct User {
    /// The file, by its place in the file space.
    base: u64,
    /// From the IOVA to the place in the file space.
    distance: u64,
    perm: Permissions,
}

/// Host memory as one function reaches it. Nothing is reachable until it is mapped.
pub struct DmaSpace {
    state: RwLock<State>,
    files: Arc<FileCache>,
    sink: Option<Arc<dyn DirtySink>>,
}

impl DmaSpace {
    /// An empty space. Each write is announced to `sink`.
    pub fn new(files: Arc<FileCache>, sink: Option<Arc<dyn DirtySink>>) -> Self {
        let memory = FunctionMemory::new(
            GuestMemoryMmap::default(),
            RangeTable::new(sink.clone()),
            true,
            DirtyHook::new(sink.clone()),
        );
        Self {
            state: RwLock::new(State {
                memory,
                files: Vec::new(),
                users: RangeMap::new(),
                next_base: 0,
            }),
            files,
            sink,
        }
    }

    /// Until when work that may write to `entries` different places has to wait:
    /// [`DirtySink::hold_until`].
    pub fn hold_until(&self, entries: u32) -> Option<Instant> {
        self.sink.as_ref()?.hold_until(entries)
    }

    /// Holds all mappings as they are: an unmap waits until the guard is gone. The holder
    /// must not take a second guard of the same space meanwhile.
    pub fn lock(&self) -> DmaGuard<'_> {
        DmaGuard(self.state.read())
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
        let (id, mapping) = self.files.get(fd, end).map_err(|e| match e {
            FileError::Invalid => MapError::Invalid,
            e => MapError::File(e),
        })?;
        let mut state = self.state.write();
        // A range in the middle of another one makes three of one.
        if state.users.len() + 2 > MAX_RANGES {
            return Err(MapError::TooMany);
        }
        let base = state.place(id, mapping)?;
        state.memory.iommu().map(iova, base + offset, bytes, perm);
        let user = User {
            base,
            distance: (base + offset).wrapping_sub(iova),
            perm,
        };
        state.users.insert(iova..iova + len, user);
        Ok(())
    }

    /// Unmaps what lies in `[iova, iova + len)`, be it nothing. Returns when no access to it
    /// is in flight any more.
    ///
    /// Where one range more than [`MAX_RANGES`] would be left over, the rest of the range goes, too: a
    /// client that unmaps piece by piece loses DMA, and this process no memory.
    pub fn unmap(&self, iova: u64, len: u64) {
        let mut state = self.state.write();
        let mut end = iova.saturating_add(len);
        if iova >= end {
            return;
        }
        if state.users.len() >= MAX_RANGES {
            if let Some((range, _)) = state.users.get_key_value(&iova) {
                if range.start < iova {
                    end = end.max(range.end);
                }
            }
        }
        state.memory.iommu().unmap(iova, end - iova);
        state.users.remove(iova..end);
    }

    /// Ranges that are mapped.
    #[cfg(test)]
    pub(super) fn ranges(&self) -> usize {
        self.state.read().users.len()
    }

    /// Unmaps everything and lets go of all files.
    pub fn unmap_all(&self) {
        let mut state = self.state.write();
        state.memory.iommu().clear();
        state.memory = state.memory.with_replaced_backend(Default::default());
        state.files.clear();
        state.users.clear();
        state.next_base = 0;
    }
}

impl State {
    /// Where `mapping` lies in the file space; it is put there when it is new.
    fn place(&mut self, id: FileId, mapping: Arc<FileMapping>) -> Result<u64, MapError> {
        let known = self
            .files
            .iter()
            .find(|(known, at, _)| *known == id && Arc::ptr_eq(at, &mapping));
        if let Some((_, _, base)) = known {
            return Ok(*base);
        }
        if self.is_full(&mapping) {
            self.forget_unused();
        }
        if self.is_full(&mapping) {
            return Err(MapError::File(FileError::TooMany));
        }
        self.add(id, mapping).ok_or(MapError::Invalid)
    }

    /// The file in which a word lies that may be written, and where in it. Nothing is announced: for
    /// a space without a sink, the management function's, which posts an entry of a log for each
    /// frame. The way through the tables of `memory` takes several times as long.
    fn place_of_word(&self, iova: u64) -> Option<(&FileMapping, usize)> {
        // Ranges are whole pages, so all of an aligned word lies in one.
        let user = self.users.get(&iova).filter(|_| iova % 8 == 0)?;
        if !user.perm.allow(Permissions::Write) {
            return None;
        }
        let (_, mapping, base) = self.files.iter().find(|(_, _, base)| *base == user.base)?;
        let at = iova.wrapping_add(user.distance).checked_sub(*base)?;
        Some((mapping, usize::try_from(at).ok()?))
    }

    /// `another` would be one file too many, or bytes too many.
    fn is_full(&self, another: &FileMapping) -> bool {
        let files = self.files.iter().map(|(_, mapping, _)| &**mapping);
        let bytes: u64 = files.chain([another]).map(|m| m.size() as u64).sum();
        self.files.len() >= MAX_FILES || bytes > MAX_BYTES
    }

    /// Lets go of files that nothing is mapped to any more.
    fn forget_unused(&mut self) {
        let used: BTreeSet<u64> = self.users.iter().map(|(_, user)| user.base).collect();
        let mut backend = self.memory.get_backend().clone();
        self.files.retain(|(_, mapping, base)| {
            let size = mapping.size() as u64;
            let gone = !used.contains(base)
                && match backend.remove_region(GuestAddress(*base), size) {
                    Ok((rest, _)) => {
                        backend = rest;
                        true
                    }
                    Err(_) => false,
                };
            !gone
        });
        self.memory = self.memory.with_replaced_backend(backend);
    }

    fn add(&mut self, id: FileId, mapping: Arc<FileMapping>) -> Option<u64> {
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
        let fault = DmaFault { iova, len: 8 };
        let state = self.state.read();
        let (value, order) = (value.to_le(), Ordering::Release);
        if self.sink.is_none() {
            let (mapping, at) = state.place_of_word(iova).ok_or(fault)?;
            let word = mapping.get_slice(at, size_of::<u64>());
            return word
                .and_then(|word| word.store(value, 0, order))
                .map_err(|_| fault);
        }
        let stored = state.memory.store(value, GuestAddress(iova), order);
        stored.map_err(|_| fault)
    }
}
