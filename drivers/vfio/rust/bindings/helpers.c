// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that Rust needs and bindgen cannot see because they are inline, and the C compiler's
 * opinion of the layouts that bindgen (libclang) computed.
 */
#include <linux/fs.h>
#include <linux/pci.h>
#include <linux/vfio_pci_core.h>

void rust_helper_vfio_put_device(struct vfio_device *vdev);
void rust_helper_vfio_put_device(struct vfio_device *vdev)
{
	vfio_put_device(vdev);
}

/* One entry per type or field that Rust touches; the order is that of layout.rs. */
size_t rust_helper_vfio_layout(unsigned int index);
size_t rust_helper_vfio_layout(unsigned int index)
{
	static const size_t layout[] = {
		sizeof(struct vfio_pci_core_device),
		offsetof(struct vfio_pci_core_device, vdev),
		offsetof(struct vfio_pci_core_device, pdev),
		sizeof(struct vfio_device),
		offsetof(struct vfio_device, dev),
		offsetof(struct vfio_device, mig_ops),
		offsetof(struct vfio_device, log_ops),
		offsetof(struct vfio_device, migration_flags),
		offsetof(struct vfio_device, precopy_info_v2),
		sizeof(struct vfio_device_ops),
		offsetof(struct vfio_device_ops, device_feature),
		sizeof(struct vfio_migration_ops),
		sizeof(struct vfio_log_ops),
		sizeof(struct vfio_precopy_info),
		sizeof(struct interval_tree_node),
		offsetof(struct interval_tree_node, start),
		offsetof(struct interval_tree_node, last),
	};

	return index < ARRAY_SIZE(layout) ? layout[index] : SIZE_MAX;
}
