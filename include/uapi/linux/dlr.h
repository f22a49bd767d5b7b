/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * DLR (dirty-log ring): hardware contract between a NIC whose functions can be
 * live-migrated and the host driver that migrates them.
 *
 * This header is the single source of every number of the contract: the kernel
 * driver and the reference NIC both generate their bindings from it. The
 * normative text (who may do what, when, and in which order) is
 * Documentation/hardware/dlr-contract.rst; the rules R1..R10 cited below are
 * the log rules of that text.
 *
 * Conventions: all multi-byte fields in memory and in registers are
 * little-endian. Lengths are bytes unless a name says otherwise. "Granule" is
 * the unit of dirty logging, 1 << page_shift bytes, never below 4 KiB. Fields
 * called reserved are written as zero and not interpreted; a device answers
 * DLR_STATUS_INVALID_FIELD when one is not zero. "MF" is the management
 * function, "DF" a data function: the one a guest gets.
 */
#ifndef _UAPI_LINUX_DLR_H
#define _UAPI_LINUX_DLR_H

#include <linux/types.h>

/* Version of this contract: major in bits 31:16, minor in bits 15:0. A driver
 * refuses a major it does not know and accepts any minor.
 */
#define DLR_CONTRACT_VERSION		0x00010000

/*
 * ---------------------------------------------------------------------------
 * PCI identity
 * ---------------------------------------------------------------------------
 */

/* The reference NIC. The MF uses the range that the virtio vendor id reserves
 * for experiments; the DF is a modern virtio-net function. Other vendors add
 * their own ids: pairing depends on the DVSEC alone.
 */
#define DLR_PCI_VENDOR_ID		0x1af4
#define DLR_PCI_DEVICE_ID_MF		0x10f0
#define DLR_PCI_DEVICE_ID_DF		0x1041

/* DVSEC (PCIe extended capability 0x0023) that every MF and DF carries. */
#define DLR_DVSEC_VENDOR_ID		0x1af4
#define DLR_DVSEC_ID			0x0d17
#define DLR_DVSEC_REVISION		1
#define DLR_DVSEC_LENGTH		0x18

/* Offsets from the start of the DVSEC capability. From DLR_DVSEC_IDENTITY to
 * the end of the capability the words identify one particular NIC; the driver
 * shows its user zeros in their place.
 */
#define DLR_DVSEC_HEADER1		0x04	/* 15:0 vendor, 19:16 revision, 31:20 length */
#define DLR_DVSEC_HEADER2		0x08	/* 15:0 DLR_DVSEC_ID, 31:16 contract major */
#define DLR_DVSEC_FUNCTION		0x0c	/* 15:0 function number, 16 role: 1 = MF */
#define DLR_DVSEC_SERIAL_LO		0x10
#define DLR_DVSEC_SERIAL_HI		0x14
#define DLR_DVSEC_IDENTITY		DLR_DVSEC_FUNCTION

#define DLR_DVSEC_FUNCTION_NUMBER_MASK	0x0000ffff
#define DLR_DVSEC_FUNCTION_ROLE_MF	0x00010000

/* Most data functions of one NIC; functions are numbered from 0. */
#define DLR_MAX_FUNCTIONS		64

/*
 * ---------------------------------------------------------------------------
 * Registers of the management function, BAR 0, 32-bit accesses only
 * ---------------------------------------------------------------------------
 */
#define DLR_MF_BAR			0
#define DLR_MF_BAR_SIZE			0x4000

#define DLR_REG_MAGIC			0x000	/* RO DLR_MAGIC */
#define DLR_REG_VERSION			0x004	/* RO DLR_CONTRACT_VERSION of the device */
#define DLR_REG_NUM_FUNCTIONS		0x008	/* RO 1..DLR_MAX_FUNCTIONS */
#define DLR_REG_CMD_TIMEOUT		0x00c	/* RO longest time of any admin command, ms */
#define DLR_REG_SERIAL_LO		0x010	/* RO the serial that the DVSECs carry */
#define DLR_REG_SERIAL_HI		0x014	/* RO */
#define DLR_REG_AQ_MAX_ORDER		0x018	/* RO 7:0 largest SQ order, 15:8 largest CQ order */
#define DLR_REG_CONTROL			0x020	/* RW DLR_CONTROL_* */
#define DLR_REG_STATUS			0x024	/* RO DLR_MF_STATUS_* */
#define DLR_REG_SQ_BASE_LO		0x030	/* RW while not READY */
#define DLR_REG_SQ_BASE_HI		0x034	/* RW while not READY */
#define DLR_REG_CQ_BASE_LO		0x038	/* RW while not READY */
#define DLR_REG_CQ_BASE_HI		0x03c	/* RW while not READY */
#define DLR_REG_AQ_ATTR			0x040	/* RW while not READY: 7:0 SQ order, 15:8 CQ order */
#define DLR_REG_AQ_VECTOR		0x044	/* RW while not READY: MSI-X vector of completions */
#define DLR_REG_SQ_TAIL			0x050	/* WO free-running producer count of the SQ */
#define DLR_REG_CQ_HEAD			0x054	/* WO free-running consumer count of the CQ */

#define DLR_MAGIC			0x31524c44	/* "DLR1" */

/* CONTROL. Writing 1 to ENABLE takes the queue registers over and sets READY,
 * or sets FATAL when they are not usable. Writing 0 is the reset handshake of
 * the admin queue: commands in flight are dropped without a completion, READY
 * falls when the device will not touch either ring or any command buffer any
 * more. It leaves functions, save and load sessions and logs alone.
 */
#define DLR_CONTROL_ENABLE		0x00000001

#define DLR_MF_STATUS_READY		0x00000001
#define DLR_MF_STATUS_FATAL		0x00000002	/* cleared by ENABLE = 0 and by FLR */

/* Registers of data function F's log: DLR_REG_FN(F) + DLR_REG_LOG_*. */
#define DLR_REG_FN_BASE			0x1000
#define DLR_REG_FN_STRIDE		0x40

#define DLR_REG_LOG_POSTED		0x00	/* RO DLR_LOG_POSTED_* */
#define DLR_REG_LOG_HEAD		0x04	/* WO free-running consumer count of the ring */
#define DLR_REG_LOG_STATE		0x08	/* RO DLR_LOG_STATE_*; no side effects, for debugging */
#define DLR_REG_FN_STATE		0x0c	/* RO enum dlr_fn_state; for debugging */

/* POSTED (R5). The device answers a read only when the entries of every DMA
 * write of the function that was visible before the read are posted; the
 * completion pushes those entries ahead of itself. COUNT is the number of
 * entries ever posted, modulo 2^31. ERROR says that the count means nothing:
 * the log is not active, or failed for good. A read of all ones from a device
 * that is gone has ERROR set too.
 */
#define DLR_LOG_POSTED_COUNT_MASK	0x7fffffff
#define DLR_LOG_POSTED_ERROR		0x80000000

#define DLR_LOG_STATE_ACTIVE		0x00000001
#define DLR_LOG_STATE_LOST		0x00000002	/* LOST posted or owed, not yet re-armed */
#define DLR_LOG_STATE_ERROR		0x00000004

/*
 * ---------------------------------------------------------------------------
 * Admin queue
 * ---------------------------------------------------------------------------
 * Two rings in coherent host memory, of 1 << order entries each. Producer and
 * consumer counts are free-running 32-bit numbers; slot = count & (size - 1).
 * Commands of one data function are executed in the order of submission;
 * commands of different functions in any order.
 */
#define DLR_AQ_MIN_ORDER		2
#define DLR_AQ_MAX_ORDER		10

/* Submission entry, 64 bytes. */
struct dlr_sqe {
	__le16 opcode;		/* enum dlr_opcode */
	__le16 id;		/* chosen by the driver, echoed in the completion */
	__le16 function;	/* data function, 0 where the command has none */
	__le16 reserved0;
	__le64 addr;		/* DMA address of the command's buffer, or 0 */
	__le32 len;		/* bytes of that buffer */
	__le32 flags;		/* DLR_CMD_F_* of the command */
	__u8 params[40];	/* one of struct dlr_*_params, rest zero */
};

/* Completion entry, 16 bytes. The device writes the second half after the
 * first and flips PHASE on each pass, starting with 1 in zeroed memory.
 */
struct dlr_cqe {
	__le32 result;		/* meaning depends on the command */
	__le32 flags;		/* DLR_CQE_F_* */
	__le16 sq_head;		/* low 16 bits of the device's SQ consumer count */
	__le16 id;
	__le16 status;		/* enum dlr_status */
	__le16 phase;		/* bit 0 */
};

#define DLR_CQE_PHASE			0x0001

enum dlr_opcode {
	/* Fill the buffer with struct dlr_identify_nic. */
	DLR_CMD_IDENTIFY_NIC		= 0x0001,
	/* Fill the buffer with struct dlr_identify_fn. */
	DLR_CMD_IDENTIFY_FN		= 0x0002,
	/* addr is where the device keeps struct dlr_status_page of the function
	 * from now on, 64-byte aligned; 0 stops it. Complete when the page is
	 * valid (or will not be written any more).
	 */
	DLR_CMD_STATUS_PAGE		= 0x0003,

	/* struct dlr_level_params. One step of enum dlr_fn_state down or up; a
	 * step to where the function is already succeeds, a step that skips one
	 * is INVALID_STATE. Without DLR_FN_CAP_P2P the next one to RUNNING is
	 * STOPPED, and RUNNING_P2P is INVALID_FIELD. SUSPEND completes when every DMA write that the new
	 * state forbids is visible and its log entry posted (R7).
	 */
	DLR_CMD_SUSPEND			= 0x0010,
	DLR_CMD_RESUME			= 0x0011,

	/* Start a save session; in any function state. */
	DLR_CMD_SAVE_BEGIN		= 0x0020,
	/* Fill the buffer with the next bytes of the stream; result is their
	 * number. Without DLR_SAVE_READ_F_FINAL the stream of changes so far:
	 * DLR_CQE_F_EMPTY when there is nothing more just now. With it (function
	 * STOPPED, else INVALID_STATE): everything up to the trailer;
	 * DLR_CQE_F_END on the read that delivers the last byte and on every
	 * later one, whose result is 0. Several may be in flight.
	 */
	DLR_CMD_SAVE_READ		= 0x0021,
	/* End the session, finished or not. Success also when there is none. */
	DLR_CMD_SAVE_END		= 0x0022,

	/* Start a load session; function STOPPED. */
	DLR_CMD_LOAD_BEGIN		= 0x0028,
	/* The buffer holds the next bytes of the stream, in order, any split. */
	DLR_CMD_LOAD_WRITE		= 0x0029,
	/* The trailer has been written: verify all and install it in the
	 * (still STOPPED) function. On failure the function is as after reset.
	 */
	DLR_CMD_LOAD_COMMIT		= 0x002a,
	/* Forget the session; the function is as after reset, and STOPPED.
	 * Success also when there is no session (the function is then left alone).
	 */
	DLR_CMD_LOAD_ABORT		= 0x002b,

	/* struct dlr_log_start_params; the buffer holds num_ranges struct
	 * dlr_range. The ring is zeroed by the driver; counts start at 0, the
	 * phase at 1. Complete when every later DMA write in the ranges will be
	 * logged.
	 */
	DLR_CMD_LOG_START		= 0x0030,
	/* The buffer holds struct dlr_range: track these too. They may overlap
	 * what is tracked. Complete as LOG_START.
	 */
	DLR_CMD_LOG_ADD			= 0x0031,
	/* struct dlr_log_sync_params (R3). One point of the log order: posts the
	 * SYNC marker and from there on logs anew every granule of the range;
	 * with DLR_LOG_SYNC_F_ALL of all ranges, which also re-arms after LOST.
	 * Completes after the marker is posted. While the ring has only its
	 * reserved slot left the device holds the marker back until the driver
	 * has consumed entries.
	 */
	DLR_CMD_LOG_SYNC		= 0x0032,
	/* Stop; complete when the ring will not be written any more. Success
	 * also when the log is not active.
	 */
	DLR_CMD_LOG_STOP		= 0x0033,
};

/* dlr_sqe.flags of SAVE_READ. */
#define DLR_SAVE_READ_F_FINAL		0x00000001

/* dlr_cqe.flags of SAVE_READ. */
#define DLR_CQE_F_EMPTY			0x00000001
#define DLR_CQE_F_END			0x00000002

/* Status of a completion. The errno is what the driver reports. */
enum dlr_status {
	DLR_STATUS_SUCCESS		= 0x00,
	DLR_STATUS_INVALID_OPCODE	= 0x01,	/* EOPNOTSUPP */
	DLR_STATUS_INVALID_FIELD	= 0x02,	/* EINVAL */
	DLR_STATUS_INVALID_FUNCTION	= 0x03,	/* ENODEV */
	DLR_STATUS_INVALID_STATE	= 0x04,	/* EINVAL */
	DLR_STATUS_BUSY			= 0x05,	/* EBUSY */
	DLR_STATUS_NO_RESOURCE		= 0x06,	/* ENOSPC */
	DLR_STATUS_NO_MEMORY		= 0x07,	/* ENOMEM */
	DLR_STATUS_DMA_FAULT		= 0x08,	/* EFAULT inside, EIO to the user */
	DLR_STATUS_INTERNAL		= 0x09,	/* EIO */
	DLR_STATUS_INCOMPATIBLE		= 0x10,	/* EOPNOTSUPP: other model or version */
	DLR_STATUS_CORRUPT		= 0x11,	/* EINVAL: checksum, order, framing */
	DLR_STATUS_TRUNCATED		= 0x12,	/* EINVAL: commit before the trailer */
	DLR_STATUS_TOO_BIG		= 0x13,	/* ENOMEM: beyond the function's limits */
};

/* What a data function does by itself. */
enum dlr_fn_state {
	DLR_FN_RUNNING			= 0,
	/* Starts no DMA and no interrupt; still takes accesses from others. */
	DLR_FN_RUNNING_P2P		= 1,
	/* In addition its internal state does not change: register writes are
	 * ignored, reads are answered.
	 */
	DLR_FN_STOPPED			= 2,
};

/* SUSPEND to, or RESUME to, this state. */
struct dlr_level_params {
	__le32 state;		/* enum dlr_fn_state */
	__le32 reserved[9];
};

/* Part of a function's IOVA space; both multiples of the granule, length > 0,
 * iova + length does not wrap.
 */
struct dlr_range {
	__le64 iova;
	__le64 length;
};

struct dlr_log_start_params {
	__le64 ring;		/* DMA address, aligned to the ring's size or 4 KiB, whichever is less */
	__le16 ring_order;	/* log2 of the number of entries */
	__le16 vector;		/* MSI-X vector of the MF */
	__le32 irq_threshold;	/* unconsumed entries that raise the vector, 1..ring size */
	__le16 num_ranges;
	__le16 page_shift;	/* log2 of the granule */
	__le32 reserved[5];
};

struct dlr_log_sync_params {
	__le64 iova;		/* 0 with DLR_LOG_SYNC_F_ALL */
	__le64 length;		/* 0 with DLR_LOG_SYNC_F_ALL */
	__le64 cookie;		/* echoed in the marker, at most 52 bits */
	__le32 flags;		/* DLR_LOG_SYNC_F_* */
	__le32 reserved[3];
};

#define DLR_LOG_SYNC_F_ALL		0x00000001

/*
 * ---------------------------------------------------------------------------
 * Answers of IDENTIFY
 * ---------------------------------------------------------------------------
 */
struct dlr_identify_nic {
	__le32 version;		/* DLR_CONTRACT_VERSION of the device */
	__le32 num_functions;
	__le64 serial;
	__u8 model[32];		/* UTF-8, padded with zeros */
	__u8 firmware[16];	/* UTF-8, padded with zeros */
};

struct dlr_identify_fn {
	__le32 caps;		/* DLR_FN_CAP_* */
	__le16 page_shift_min;	/* granules that LOG_START takes, >= 12 */
	__le16 page_shift_max;
	__le16 ring_order_min;	/* >= DLR_LOG_RING_MIN_ORDER */
	__le16 ring_order_max;	/* <= DLR_LOG_RING_MAX_ORDER */
	__le16 max_ranges;	/* tracked at one time, LOG_ADD included; >= 4 */
	__le16 iova_bits;	/* a range must end at or below 1 << iova_bits */
	__u8 compat[16];	/* streams are exchangeable between equal ids */
	__le32 state_version_min;	/* versions that LOAD accepts */
	__le32 state_version;	/* version that SAVE writes, the largest LOAD accepts */
	__le64 max_state_bytes;	/* no stream of this function is longer */
	__le64 reserved[2];
};

/* Commands that need what is not here are INVALID_OPCODE. */
#define DLR_FN_CAP_LOG			0x00000001	/* LOG_* */
#define DLR_FN_CAP_STATE		0x00000002	/* SUSPEND/RESUME to STOPPED, save and load */
/* The next two need STATE. */
#define DLR_FN_CAP_P2P			0x00000004	/* RUNNING_P2P is a state of its own */
#define DLR_FN_CAP_PRECOPY		0x00000008	/* SAVE_READ without FINAL, else INVALID_FIELD */
#define DLR_FN_CAP_STATUS_PAGE		0x00000010	/* STATUS_PAGE */

/*
 * ---------------------------------------------------------------------------
 * Log ring
 * ---------------------------------------------------------------------------
 * 8-byte entries:
 *
 *   63            12 11          4 3    1   0
 *  +----------------+-------------+------+-----+
 *  | iova >> 12     | run - 1     | type | P   |   WRITE
 *  | cookie         | 0           | type | P   |   SYNC
 *  | 0              | 0           | type | P   |   LOST
 *  +----------------+-------------+------+-----+
 *
 * run counts granules, 1..256; P is the phase: 1 on the first pass, flipped on
 * each later one. The entry is written in one 8-byte access.
 */
#define DLR_LOG_RING_MIN_ORDER		4
#define DLR_LOG_RING_MAX_ORDER		19
#define DLR_LOG_ENTRY_SIZE		8

#define DLR_LOG_ENTRY_PHASE_SHIFT	0
#define DLR_LOG_ENTRY_TYPE_SHIFT	1
#define DLR_LOG_ENTRY_TYPE_BITS		3
#define DLR_LOG_ENTRY_RUN_SHIFT		4
#define DLR_LOG_ENTRY_RUN_BITS		8
#define DLR_LOG_ENTRY_ADDR_SHIFT	12
#define DLR_LOG_ENTRY_MAX_RUN		256
#define DLR_LOG_COOKIE_BITS		52

enum dlr_log_type {
	/* The function wrote into these granules. */
	DLR_LOG_WRITE			= 1,
	/* Marker of the LOG_SYNC with this cookie. */
	DLR_LOG_SYNC			= 2,
	/* The ring was full: writes after this entry are not logged until a
	 * LOG_SYNC with DLR_LOG_SYNC_F_ALL (R6). Posted in the last free slot,
	 * which no other entry may take.
	 */
	DLR_LOG_LOST			= 3,
};

/*
 * ---------------------------------------------------------------------------
 * Status page
 * ---------------------------------------------------------------------------
 * Kept current by the device, in every function state and with or without a
 * session. To update it the device makes seq odd, writes the rest, makes seq
 * even; a reader that sees seq odd or changed reads again.
 */
struct dlr_status_page {
	__le32 seq;
	__le32 health;		/* DLR_HEALTH_*; 0 is healthy */
	__le64 initial_bytes;	/* of the initial image: to come in this session, or in one begun now */
	__le64 dirty_bytes;	/* of changes after the initial image, to come; 0 while none is open */
	__le64 total_bytes;	/* estimate of all that SAVE_READ would still deliver, trailer
				 * included, if the function stopped now; never 0 before END
				 */
	__le32 reinit_count;	/* grows each time the initial image starts anew inside a session */
	__le32 log_lost_count;	/* LOST entries since the function was made */
	__le64 reserved[3];
};

#define DLR_STATUS_PAGE_SIZE		64
#define DLR_HEALTH_LOG_FAILED		0x00000001
#define DLR_HEALTH_STATE_FAILED		0x00000002	/* save or load engine needs a reset */

/*
 * ---------------------------------------------------------------------------
 * Device state on the wire
 * ---------------------------------------------------------------------------
 * A stream is a sequence of sections: exactly one header section first, any
 * number of state sections, exactly one trailer section last. Checksums are
 * CRC-32C (Castagnoli), initial value and final inversion all ones.
 */
struct dlr_section {
	__le32 magic;		/* DLR_SECTION_MAGIC */
	__le16 type;		/* DLR_SECTION_* or the device's own */
	__le16 version;		/* of the payload's layout, >= 1 */
	__le32 flags;		/* DLR_SECTION_F_* */
	__le32 seq;		/* 0 for the header section, then one more each */
	__le32 length;		/* payload bytes, 1..DLR_SECTION_MAX */
	__le32 reserved;
	__le32 payload_crc;
	__le32 header_crc;	/* of the 28 bytes before it */
};

#define DLR_SECTION_MAGIC		0x53524c44	/* "DLRS" */
#define DLR_SECTION_MAX			65536

#define DLR_SECTION_HEADER		0x0001	/* payload: struct dlr_stream_header */
#define DLR_SECTION_TRAILER		0x0002	/* payload: struct dlr_stream_trailer */
#define DLR_SECTION_DEVICE_FIRST	0x0100	/* from here the device's own */
#define DLR_SECTION_DEVICE_LAST		0x7fff

/* A loader that does not know this type or version skips the section; without
 * the flag it refuses the stream (INCOMPATIBLE).
 */
#define DLR_SECTION_F_OPTIONAL		0x00000001

struct dlr_stream_header {
	__u8 compat[16];	/* struct dlr_identify_fn.compat of the source */
	__le32 state_version;	/* struct dlr_identify_fn.state_version of the source */
	__le32 contract;	/* DLR_CONTRACT_VERSION of the source */
	__le64 reserved;
};

struct dlr_stream_trailer {
	__le32 sections;	/* in the stream, header included, trailer not */
	__le32 stream_crc;	/* of all bytes before the trailer section */
	__le64 stream_bytes;	/* number of those bytes */
};

#endif /* _UAPI_LINUX_DLR_H */
