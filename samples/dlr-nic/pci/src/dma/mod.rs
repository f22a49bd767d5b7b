// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Host memory as one function reaches it through its IOMMU domain.
//!
//! ```text
//!   IOVA ──RangeTable──▶ file space ──GuestMemoryMmap──▶ our mapping of the memfd
//!     │    (DMA_MAP)     each memfd has a place in it,
//!     ▼                  mapped once for all functions
//!   DirtyHook            told of each write, by IOVA
//! ```
//!
//! The three are `vm-memory`'s [`IommuMemory`](vm_memory::IommuMemory): whatever writes
//! through it, queues of the crate `virtio-queue` included, passes the hook, so that no
//! write path can forget the dirty log.

mod files;
mod hook;
mod space;
mod table;

pub use files::{FileCache, FileError};
pub use hook::{DirtyHook, DirtyRef};
pub use space::{DmaGuard, DmaSpace, MapError};
pub use table::RangeTable;

/// The memory type that data paths work on.
pub type FunctionMemory = vm_memory::IommuMemory<vm_memory::GuestMemoryMmap<DirtyHook>, RangeTable>;

#[cfg(test)]
mod tests;
