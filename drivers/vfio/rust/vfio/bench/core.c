// SPDX-License-Identifier: GPL-2.0
/*
 * The core's bitmap of a REPORT, from the kernel's own source. It is here because a kernel without
 * IOMMU drivers does not build it, and those of user-mode Linux that would select it bring debug
 * code along. A file of its own, so that the loops that call it do not get it inlined.
 */
#include "iova_bitmap.c"
