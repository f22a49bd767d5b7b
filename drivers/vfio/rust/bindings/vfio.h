/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for vfio_generated.rs: the kernel interfaces that the kernel's own Rust
 * bindings do not cover.
 */
#include <linux/vfio.h>
#include <linux/vfio_pci_core.h>
#include <linux/iova_bitmap.h>
#include <linux/interval_tree.h>
#include <linux/anon_inodes.h>
#include <linux/crc32.h>
#include <linux/gfp_types.h>
#include <linux/mman.h>

/* As the kernel's own rust/bindings/bindings_helper.h does it for other flags. */
static const unsigned int VFIO_RUST_GFP_NORETRY = ___GFP_NORETRY;
