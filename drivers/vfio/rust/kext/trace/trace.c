// SPDX-License-Identifier: GPL-2.0
/* Instantiates the tracepoints and the functions through which Rust fires them. */
#include <linux/types.h>
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "dlr_trace.h"
