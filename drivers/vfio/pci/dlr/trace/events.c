// SPDX-License-Identifier: GPL-2.0
/* Defines the tracepoints and the functions through which Rust code fires them. */
#include <linux/types.h>
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "dlr_trace.h"
