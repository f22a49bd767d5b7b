// SPDX-License-Identifier: GPL-2.0

//! IOMMU groups.
//!
//! C header: [`include/linux/iommu.h`](srctree/include/linux/iommu.h)

use crate::bindings;
use kernel::device::Device;

/// Returns whether two devices are in one IOMMU group, so that VFIO assigns them to one user only.
/// Returns `false` for devices without a group. The group of a bound device does not change.
pub(crate) fn share_group(a: &Device, b: &Device) -> bool {
    let raw = |device: &Device| core::ptr::from_ref(device).cast_mut().cast();
    // SAFETY: Both devices are valid. The helper holds references to their groups while it
    // compares.
    unsafe { bindings::devices_share_iommu_group(raw(a), raw(b)) }
}
