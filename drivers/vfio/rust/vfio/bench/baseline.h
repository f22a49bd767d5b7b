/* SPDX-License-Identifier: GPL-2.0 */
/* Called from Rust only; see mod.rs, which declares the same. */
#ifndef VFIO_BENCH_BASELINE_H
#define VFIO_BENCH_BASELINE_H

#include <linux/types.h>

/* Bytes of the pages that all benchmarks track. */
#define BENCH_PAGE 4096
/* Position of the page number in a word of the log ring: the upper 52 bits, as in a run. */
#define BENCH_PAGE_SHIFT 12

struct iova_bitmap;

unsigned int vfio_bench_passes(void);
u64 vfio_bench_now(void);
unsigned long vfio_bench_user(size_t bytes);
bool vfio_bench_user_clear(unsigned long user, size_t bytes);
u64 vfio_bench_user_count(unsigned long user, size_t bytes);
void vfio_bench_flat(unsigned long *bits, const u64 *words, size_t count);
void vfio_bench_each(struct iova_bitmap *bitmap, const u64 *words, size_t count);
void vfio_bench_xor(struct iova_bitmap *bitmap, const u64 *seq, u64 *ack, size_t dwords);
void vfio_bench_copy(u64 *to, const u64 *from, size_t count);

#endif
