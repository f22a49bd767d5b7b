// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that Rust needs and bindgen cannot see because they are inline, and sizes and offsets
 * as the C compiler computes them, to be compared with those of bindgen (libclang).
 */
#include <linux/fs.h>
#include <linux/interval_tree.h>
#include <linux/iommu.h>
#include <linux/memcontrol.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/pm_runtime.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/vfio_pci_core.h>

void rust_helper_vfio_put_device(struct vfio_device *vdev);
void rust_helper_vfio_put_device(struct vfio_device *vdev)
{
	vfio_put_device(vdev);
}

int rust_helper_pm_runtime_resume_and_get(struct device *dev);
int rust_helper_pm_runtime_resume_and_get(struct device *dev)
{
	return pm_runtime_resume_and_get(dev);
}

void rust_helper_pm_runtime_put(struct device *dev);
void rust_helper_pm_runtime_put(struct device *dev)
{
	pm_runtime_put(dev);
}

bool rust_helper_devices_share_iommu_group(struct device *a, struct device *b);
bool rust_helper_devices_share_iommu_group(struct device *a, struct device *b)
{
	struct iommu_group *of_a = iommu_group_get(a);
	struct iommu_group *of_b = iommu_group_get(b);
	bool same = of_a && of_a == of_b;

	iommu_group_put(of_a);
	iommu_group_put(of_b);
	return same;
}

/* The PF of a VF; NULL for a function that is not a VF, and without CONFIG_PCI_IOV. */
struct pci_dev *rust_helper_pci_vf_physfn(struct pci_dev *pdev);
struct pci_dev *rust_helper_pci_vf_physfn(struct pci_dev *pdev)
{
	struct pci_dev *pf = pci_physfn(pdev);

	return pf == pdev ? NULL : pf;
}

struct pci_dev *rust_helper_pci_upstream_bridge(struct pci_dev *pdev);
struct pci_dev *rust_helper_pci_upstream_bridge(struct pci_dev *pdev)
{
	return pci_upstream_bridge(pdev);
}

int rust_helper_mutex_lock_killable(struct mutex *lock);
int rust_helper_mutex_lock_killable(struct mutex *lock)
{
	return mutex_lock_killable(lock);
}

int rust_helper_mutex_lock_interruptible(struct mutex *lock);
int rust_helper_mutex_lock_interruptible(struct mutex *lock)
{
	return mutex_lock_interruptible(lock);
}

bool rust_helper_vfio_fatal_signal_pending(void);
bool rust_helper_vfio_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

/* Copies with page faults disabled, so it may stop early. */
size_t rust_helper_vfio_copy_from_iter_nofault(void *to, size_t bytes, struct iov_iter *from);
size_t rust_helper_vfio_copy_from_iter_nofault(void *to, size_t bytes, struct iov_iter *from)
{
	size_t copied;

	pagefault_disable();
	copied = _copy_from_iter(to, bytes, from);
	pagefault_enable();
	return copied;
}

/* The memory cgroup of the caller's address space, with a reference; NULL without cgroups. */
void *rust_helper_vfio_memcg_get(void);
void *rust_helper_vfio_memcg_get(void)
{
	return get_mem_cgroup_from_mm(current->mm);
}

void rust_helper_vfio_memcg_put(void *memcg);
void rust_helper_vfio_memcg_put(void *memcg)
{
	mem_cgroup_put(memcg);
}

void *rust_helper_vfio_memcg_set_active(void *memcg);
void *rust_helper_vfio_memcg_set_active(void *memcg)
{
	return set_active_memcg(memcg);
}

/* Inline without CONFIG_PCI_IOV. */
int rust_helper_pci_num_vf(struct pci_dev *pdev);
int rust_helper_pci_num_vf(struct pci_dev *pdev)
{
	return pci_num_vf(pdev);
}

int rust_helper_pci_enable_sriov(struct pci_dev *pdev, int count);
int rust_helper_pci_enable_sriov(struct pci_dev *pdev, int count)
{
	return pci_enable_sriov(pdev, count);
}

void rust_helper_pci_disable_sriov(struct pci_dev *pdev);
void rust_helper_pci_disable_sriov(struct pci_dev *pdev)
{
	pci_disable_sriov(pdev);
}

/* The number of a VF; negative for a function that is not a VF. */
int rust_helper_pci_iov_vf_id(struct pci_dev *pdev);
int rust_helper_pci_iov_vf_id(struct pci_dev *pdev)
{
	return pci_iov_vf_id(pdev);
}

bool rust_helper_pci_bar_is_memory(struct pci_dev *pdev, unsigned int bar);
bool rust_helper_pci_bar_is_memory(struct pci_dev *pdev, unsigned int bar)
{
	return bar < PCI_STD_NUM_BARS && pci_resource_flags(pdev, bar) & IORESOURCE_MEM;
}

/* As vfio_pci_memory_lock_and_enable(), which is not exported, and -EIO in D3hot. */
int rust_helper_vfio_pci_hold_memory(struct vfio_pci_core_device *vdev, u16 *cmd);
int rust_helper_vfio_pci_hold_memory(struct vfio_pci_core_device *vdev, u16 *cmd)
{
	down_write(&vdev->memory_lock);
	if (vdev->pdev->current_state >= PCI_D3hot) {
		up_write(&vdev->memory_lock);
		return -EIO;
	}
	pci_read_config_word(vdev->pdev, PCI_COMMAND, cmd);
	if (!(*cmd & PCI_COMMAND_MEMORY))
		pci_write_config_word(vdev->pdev, PCI_COMMAND, *cmd | PCI_COMMAND_MEMORY);
	return 0;
}

void rust_helper_vfio_pci_release_memory(struct vfio_pci_core_device *vdev, u16 cmd);
void rust_helper_vfio_pci_release_memory(struct vfio_pci_core_device *vdev, u16 cmd)
{
	if (!(cmd & PCI_COMMAND_MEMORY))
		pci_write_config_word(vdev->pdev, PCI_COMMAND, cmd);
	up_write(&vdev->memory_lock);
}

void rust_helper_vfio_copy_from_bar(void *to, const void __iomem *from, size_t len);
void rust_helper_vfio_copy_from_bar(void *to, const void __iomem *from, size_t len)
{
	memcpy_fromio(to, from, len);
}

void rust_helper_vfio_copy_to_bar(void __iomem *to, const void *from, size_t len);
void rust_helper_vfio_copy_to_bar(void __iomem *to, const void *from, size_t len)
{
	memcpy_toio(to, from, len);
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
