// SPDX-License-Identifier: GPL-2.0

//! A test that bindgen (through libclang) and the C compiler of the kernel agree on every layout
//! that Rust code relies on.

use kernel::prelude::*;

#[kunit_tests(vfio_bindings_layout)]
mod tests {
    use super::super::*;
    use core::mem::offset_of;

    #[test]
    fn vfio_layout_matches_c() {
        // Same order as `rust_helper_vfio_layout()`.
        let rust = [
            size_of::<vfio_pci_core_device>(),
            offset_of!(vfio_pci_core_device, vdev),
            offset_of!(vfio_pci_core_device, pdev),
            size_of::<vfio_device>(),
            offset_of!(vfio_device, dev),
            offset_of!(vfio_device, mig_ops),
            offset_of!(vfio_device, log_ops),
            offset_of!(vfio_device, migration_flags),
            offset_of!(vfio_device, precopy_info_v2),
            size_of::<vfio_device_ops>(),
            offset_of!(vfio_device_ops, device_feature),
            size_of::<vfio_migration_ops>(),
            size_of::<vfio_log_ops>(),
            size_of::<vfio_precopy_info>(),
            size_of::<interval_tree_node>(),
            offset_of!(interval_tree_node, start),
            offset_of!(interval_tree_node, last),
        ];
        let mut index = 0u32;
        for expected in rust {
            // SAFETY: The helper has no preconditions; it returns `SIZE_MAX` for an index that is
            // too large.
            let c = unsafe { rust_helper_vfio_layout(index) };
            assert_eq!(expected, c);
            index += 1;
        }
        // SAFETY: The helper has no preconditions. This index is one past the end if both lists are
        // equally long.
        let end = unsafe { rust_helper_vfio_layout(index) };
        assert_eq!(end, usize::MAX);
    }
}
