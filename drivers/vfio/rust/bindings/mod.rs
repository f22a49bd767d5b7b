// SPDX-License-Identifier: GPL-2.0

//! Raw bindings of VFIO and of the other kernel interfaces that `kernel::bindings` lacks. Only
//! `ext` and `vfio` use them.

#[allow(warnings, clippy::all, unsafe_op_in_unsafe_fn)]
mod vfio {
    include!("vfio_generated.rs");

    extern "C" {
        /// `vfio_put_device()`, an inline function.
        #[link_name = "rust_helper_vfio_put_device"]
        pub(crate) fn vfio_put_device(vdev: *mut vfio_device);
        /// `pm_runtime_resume_and_get()`, an inline function.
        #[link_name = "rust_helper_pm_runtime_resume_and_get"]
        pub(crate) fn pm_runtime_resume_and_get(dev: *mut device) -> ffi::c_int;
        /// `pm_runtime_put()`, an inline function.
        #[link_name = "rust_helper_pm_runtime_put"]
        pub(crate) fn pm_runtime_put(dev: *mut device);
        /// Returns whether two devices are in one IOMMU group; false for a device without a group.
        #[link_name = "rust_helper_devices_share_iommu_group"]
        pub(crate) fn devices_share_iommu_group(a: *mut device, b: *mut device) -> bool;
        /// Returns the PF of a VF, or null for another function.
        #[link_name = "rust_helper_pci_vf_physfn"]
        pub(crate) fn pci_vf_physfn(pdev: *mut pci_dev) -> *mut pci_dev;
        /// `pci_upstream_bridge()`, an inline function.
        #[link_name = "rust_helper_pci_upstream_bridge"]
        pub(crate) fn pci_upstream_bridge(pdev: *mut pci_dev) -> *mut pci_dev;
        /// `mutex_lock_killable()`, a macro with `CONFIG_DEBUG_LOCK_ALLOC`.
        #[link_name = "rust_helper_mutex_lock_killable"]
        pub(crate) fn mutex_lock_killable(lock: *mut mutex) -> ffi::c_int;
        /// `mutex_lock_interruptible()`, a macro with `CONFIG_DEBUG_LOCK_ALLOC`.
        #[link_name = "rust_helper_mutex_lock_interruptible"]
        pub(crate) fn mutex_lock_interruptible(lock: *mut mutex) -> ffi::c_int;
        /// `pci_num_vf()`, an inline function without `CONFIG_PCI_IOV`.
        #[link_name = "rust_helper_pci_num_vf"]
        pub(crate) fn pci_num_vf(pdev: *mut pci_dev) -> ffi::c_int;
        /// `pci_enable_sriov()`, an inline function without `CONFIG_PCI_IOV`.
        #[link_name = "rust_helper_pci_enable_sriov"]
        pub(crate) fn pci_enable_sriov(pdev: *mut pci_dev, count: ffi::c_int) -> ffi::c_int;
        /// `pci_disable_sriov()`, an inline function without `CONFIG_PCI_IOV`.
        #[link_name = "rust_helper_pci_disable_sriov"]
        pub(crate) fn pci_disable_sriov(pdev: *mut pci_dev);
        /// `pci_iov_vf_id()`, an inline function without `CONFIG_PCI_IOV`.
        #[link_name = "rust_helper_pci_iov_vf_id"]
        pub(crate) fn pci_iov_vf_id(pdev: *mut pci_dev) -> ffi::c_int;
        /// Returns whether a BAR is memory and not I/O ports.
        #[link_name = "rust_helper_pci_bar_is_memory"]
        pub(crate) fn pci_bar_is_memory(pdev: *mut pci_dev, bar: ffi::c_uint) -> bool;
        /// Takes `memory_lock` for writing and sets Memory Space Enable in the command register.
        #[link_name = "rust_helper_vfio_pci_hold_memory"]
        pub(crate) fn vfio_pci_hold_memory(
            core: *mut vfio_pci_core_device,
            command: *mut u16,
        ) -> ffi::c_int;
        /// Undoes `vfio_pci_hold_memory`.
        #[link_name = "rust_helper_vfio_pci_release_memory"]
        pub(crate) fn vfio_pci_release_memory(core: *mut vfio_pci_core_device, command: u16);
        /// `memcpy_fromio()`, a macro.
        #[link_name = "rust_helper_vfio_copy_from_bar"]
        pub(crate) fn vfio_copy_from_bar(
            to: *mut ffi::c_void,
            from: *const ffi::c_void,
            len: usize,
        );
        /// `memcpy_toio()`, a macro.
        #[link_name = "rust_helper_vfio_copy_to_bar"]
        pub(crate) fn vfio_copy_to_bar(to: *mut ffi::c_void, from: *const ffi::c_void, len: usize);
        /// `vfio_pci_core_ioread64()`, which the header declares only where `ioread64` is a macro.
        #[link_name = "vfio_pci_core_ioread64"]
        pub(crate) fn vfio_bar_read64(
            core: *mut vfio_pci_core_device,
            test_mem: bool,
            value: *mut u64,
            io: *mut ffi::c_void,
        ) -> ffi::c_int;
        /// `vfio_pci_core_iowrite64()`, which the header declares only where `iowrite64` is a
        /// macro.
        #[link_name = "vfio_pci_core_iowrite64"]
        pub(crate) fn vfio_bar_write64(
            core: *mut vfio_pci_core_device,
            test_mem: bool,
            value: u64,
            io: *mut ffi::c_void,
        ) -> ffi::c_int;
        /// Returns a size or offset as the C compiler sees it, see `layout.rs`.
        pub(crate) fn rust_helper_vfio_layout(index: ffi::c_uint) -> usize;
        /// `fatal_signal_pending(current)`, an inline function.
        pub(crate) fn rust_helper_vfio_fatal_signal_pending() -> bool;
        /// `_copy_from_iter()` with page faults disabled: it copies less if it would meet one.
        #[link_name = "rust_helper_vfio_copy_from_iter_nofault"]
        pub(crate) fn vfio_copy_from_iter_nofault(
            to: *mut ffi::c_void,
            bytes: usize,
            from: *mut iov_iter,
        ) -> usize;
        /// `get_mem_cgroup_from_mm(current->mm)`.
        pub(crate) fn rust_helper_vfio_memcg_get() -> *mut ffi::c_void;
        /// `mem_cgroup_put()`, an inline function.
        pub(crate) fn rust_helper_vfio_memcg_put(memcg: *mut ffi::c_void);
        /// `set_active_memcg()`, an inline function.
        pub(crate) fn rust_helper_vfio_memcg_set_active(
            memcg: *mut ffi::c_void,
        ) -> *mut ffi::c_void;
    }
}

pub(crate) use vfio::*;

mod layout;
