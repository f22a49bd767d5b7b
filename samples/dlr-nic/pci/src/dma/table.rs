// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The IOVA ranges that the client has mapped.

use std::{fmt, sync::Arc};

use dlr_core::DirtySink;
use parking_lot::{RwLock, RwLockReadGuard};
use vm_memory::{
    iommu::{Error, Iotlb, IotlbIterator, IovaRange},
    GuestAddress, Iommu, Permissions,
};

/// Ranges of IOVA space and what they map to. The newest mapping of an address wins.
pub struct RangeTable {
    ranges: RwLock<Iotlb>,
    sink: Option<Arc<dyn DirtySink>>,
}

impl RangeTable {
    /// An empty table; `sink` is told before each write.
    pub fn new(sink: Option<Arc<dyn DirtySink>>) -> Self {
        Self {
            ranges: RwLock::new(Iotlb::new()),
            sink,
        }
    }

    /// Maps `[iova, iova + len)`, which does not wrap and is not empty.
    pub(crate) fn map(&self, iova: u64, target: u64, len: usize, perm: Permissions) {
        // Iotlb has no errors of its own for this call.
        let _ =
            self.ranges
                .write()
                .set_mapping(GuestAddress(iova), GuestAddress(target), len, perm);
    }

    /// Unmaps whatever lies in `[iova, iova + len)`: nothing, parts of mappings, beyond the
    /// end of the address space (a client unmaps "the rest" that way).
    pub(crate) fn unmap(&self, iova: u64, len: u64) {
        let len = len.min(u64::MAX - iova);
        if len != 0 {
            self.ranges
                .write()
                .invalidate_mapping(GuestAddress(iova), len as usize);
        }
    }

    /// Unmaps everything.
    pub(crate) fn clear(&self) {
        self.ranges.write().invalidate_all();
    }
}

impl fmt::Debug for RangeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RangeTable")
            .field("logged", &self.sink.is_some())
            .finish_non_exhaustive()
    }
}

impl Iommu for RangeTable {
    type IotlbGuard<'a> = RwLockReadGuard<'a, Iotlb>;

    fn translate(
        &self,
        iova: GuestAddress,
        length: usize,
        access: Permissions,
    ) -> Result<IotlbIterator<Self::IotlbGuard<'_>>, Error> {
        let fault = |reason: &str| Error::CannotResolve {
            iova_range: IovaRange { base: iova, length },
            reason: reason.into(),
        };
        // Iotlb does not look at these two itself, and a guest chooses both numbers.
        if length == 0 || iova.0.checked_add(length as u64).is_none() {
            return Err(fault("not a range"));
        }
        let ranges = self.ranges.read();
        let found = Iotlb::lookup(ranges, iova, length, access)
            .map_err(|_| fault("not mapped for this access"))?;
        // Each write asks for its translation first: the one place before all of them.
        if let (Some(sink), true) = (&self.sink, access.has_write()) {
            sink.before_write(iova.0, length as u64);
        }
        Ok(found)
    }
}
