// SPDX-License-Identifier: GPL-2.0

//! Proof that bindgen (which asks libclang) and the C compiler that built the kernel agree on every
//! layout that Rust code relies on.

use kernel::prelude::*;

#[kunit_tests(dlr_bindings_layout)]
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
            // SAFETY: The helper has no preconditions; it answers any index.
            let c = unsafe { rust_helper_vfio_layout(index) };
            assert_eq!(expected, c);
            index += 1;
        }
        // SAFETY: As above. One past the end: both lists have the same length.
        let end = unsafe { rust_helper_vfio_layout(index) };
        assert_eq!(end, usize::MAX);
    }

    #[test]
    fn contract_layout() {
        assert_eq!(size_of::<dlr::dlr_sqe>(), 64);
        assert_eq!(size_of::<dlr::dlr_cqe>(), 16);
        assert_eq!(size_of::<dlr::dlr_level_params>(), 40);
        assert_eq!(size_of::<dlr::dlr_log_start_params>(), 40);
        assert_eq!(size_of::<dlr::dlr_log_sync_params>(), 40);
        assert_eq!(size_of::<dlr::dlr_section>(), 32);
        assert_eq!(size_of::<dlr::dlr_status_page>(), 64);
    }
}
