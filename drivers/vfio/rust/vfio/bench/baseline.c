// SPDX-License-Identifier: GPL-2.0
/*
 * What `make bench` compares with: the ways in which C drivers do the same, and the limits. Each
 * loop gets the words of the log ring, so that both sides read the same memory.
 */
#include <linux/bitops.h>
#include <linux/err.h>
#include <linux/iova_bitmap.h>
#include <linux/time64.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "baseline.h"

static unsigned int bench_passes = 9;
module_param(bench_passes, uint, 0444);
MODULE_PARM_DESC(bench_passes, "passes of each benchmark; fewer than 9: no points of the plot");

unsigned int vfio_bench_passes(void)
{
	return bench_passes;
}

/*
 * Processor time of this kernel, which is a process of the host: what else runs there does not
 * count. A system call of the host, which user-mode Linux has no function for.
 */
u64 vfio_bench_now(void)
{
	struct __kernel_timespec now = {};
	long nr = 228, clock = 2; /* clock_gettime, CLOCK_PROCESS_CPUTIME_ID */

	asm volatile("syscall" : "+a"(nr) : "D"(clock), "S"(&now) : "rcx", "r11", "memory");
	return now.tv_sec * NSEC_PER_SEC + now.tv_nsec;
}

/* Memory of the process that loads the module: where its bitmap is. It dies with the process. */
unsigned long vfio_bench_user(size_t bytes)
{
	return vm_mmap(NULL, 0, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, 0);
}

/* Zeroes and touches it. */
bool vfio_bench_user_clear(unsigned long user, size_t bytes)
{
	return !clear_user((void __user *)user, bytes);
}

/* Bits that are set in it. */
u64 vfio_bench_user_count(unsigned long user, size_t bytes)
{
	const u64 __user *words = (const u64 __user *)user;
	u64 word, count = 0;

	for (size_t i = 0; i < bytes / sizeof(word); i++) {
		if (get_user(word, words + i))
			return U64_MAX;
		count += hweight64(word);
	}
	return count;
}

/* The limit: one bit of a flat bitmap of kernel memory for each entry. */
void vfio_bench_flat(unsigned long *bits, const u64 *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		__set_bit(words[i] >> BENCH_PAGE_SHIFT, bits);
}

/* What mlx5 does with its reports: the core's function, once for each page. */
void vfio_bench_each(struct iova_bitmap *bitmap, const u64 *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		iova_bitmap_set(bitmap, words[i] & ~(u64)(BENCH_PAGE - 1), BENCH_PAGE);
}

/* pds_vfio_dirty_process_bitmaps() of drivers/vfio/pci/pds/dirty.c, for one region at 0. */
void vfio_bench_xor(struct iova_bitmap *bitmap, const u64 *seq, u64 *ack, size_t dwords)
{
	for (size_t i = 0; i < dwords; i++) {
		u64 xor = seq[i] ^ ack[i];

		ack[i] = seq[i];
		for (u8 bit = 0; bit < BITS_PER_TYPE(u64); ++bit) {
			if (xor & BIT(bit)) {
				u64 page = i * BITS_PER_TYPE(u64) + bit;

				iova_bitmap_set(bitmap, page * BENCH_PAGE, BENCH_PAGE);
			}
		}
	}
}

/* A plain copy. */
void vfio_bench_copy(u64 *to, const u64 *from, size_t count)
{
	memcpy(to, from, count * sizeof(*to));
}
