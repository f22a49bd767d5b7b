/* SPDX-License-Identifier: GPL-2.0 */
/* Tracepoints of the driver. Rust code fires them through the functions in mod.rs. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dlr_vfio_pci

#if !defined(_DLR_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _DLR_TRACE_H

#include <linux/tracepoint.h>
#include <linux/types.h>

/* A transition of the migration state machine has ended. error is 0 or a negative errno. */
TRACE_EVENT(dlr_migration_step,
	TP_PROTO(const char *dev, u32 from, u32 to, int error),
	TP_ARGS(dev, from, to, error),
	TP_STRUCT__entry(
		__string(dev, dev)
		__field(u32, from)
		__field(u32, to)
		__field(int, error)
	),
	TP_fast_assign(
		__assign_str(dev);
		__entry->from = from;
		__entry->to = to;
		__entry->error = error;
	),
	TP_printk("%s %u->%u error=%d", __get_str(dev), __entry->from, __entry->to,
		  __entry->error)
);

/* The driver has consumed the marker of a LOG_SYNC. all is 1 if the SYNC covered every range. */
TRACE_EVENT(dlr_log_sync,
	TP_PROTO(const char *dev, u64 iova, u64 length, u32 all, u64 latency_ns),
	TP_ARGS(dev, iova, length, all, latency_ns),
	TP_STRUCT__entry(
		__string(dev, dev)
		__field(u64, iova)
		__field(u64, length)
		__field(u32, all)
		__field(u64, latency_ns)
	),
	TP_fast_assign(
		__assign_str(dev);
		__entry->iova = iova;
		__entry->length = length;
		__entry->all = all;
		__entry->latency_ns = latency_ns;
	),
	TP_printk("%s iova=0x%llx length=0x%llx all=%u latency_ns=%llu", __get_str(dev),
		  __entry->iova, __entry->length, __entry->all, __entry->latency_ns)
);

/* Entries of a log ring were consumed. irq is 1 if an interrupt asked for it, 0 in a harvest. */
TRACE_EVENT(dlr_log_drain,
	TP_PROTO(const char *dev, u32 entries, u64 granules, u32 irq),
	TP_ARGS(dev, entries, granules, irq),
	TP_STRUCT__entry(
		__string(dev, dev)
		__field(u32, entries)
		__field(u64, granules)
		__field(u32, irq)
	),
	TP_fast_assign(
		__assign_str(dev);
		__entry->entries = entries;
		__entry->granules = granules;
		__entry->irq = irq;
	),
	TP_printk("%s entries=%u granules=%llu irq=%u", __get_str(dev), __entry->entries,
		  __entry->granules, __entry->irq)
);

/* A REPORT has found that the log lost writes. It marks every tracked granule dirty. */
TRACE_EVENT(dlr_log_lost,
	TP_PROTO(const char *dev, u64 count),
	TP_ARGS(dev, count),
	TP_STRUCT__entry(
		__string(dev, dev)
		__field(u64, count)
	),
	TP_fast_assign(
		__assign_str(dev);
		__entry->count = count;
	),
	TP_printk("%s count=%llu", __get_str(dev), __entry->count)
);

#endif /* _DLR_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE dlr_trace
#include <trace/define_trace.h>
