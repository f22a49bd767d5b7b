/* SPDX-License-Identifier: GPL-2.0 */
/* Input of bindgen for events_generated.rs: the declarations of the tracepoints. */
#include <linux/types.h>
#include "dlr_trace.h"
