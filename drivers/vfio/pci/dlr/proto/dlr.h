/* SPDX-License-Identifier: GPL-2.0 */
/* What bindgen reads for dlr_generated.rs: the hardware contract. */
#include <uapi/linux/dlr.h>
