/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * DLR (dirty-log ring): hardware contract between a NIC whose functions can be
 * live-migrated and the host driver that migrates them.
 *
 * This header is the single source of every number of the contract: the kernel
 * driver and the reference NIC both generate their bindings from it. The
 * normative text is Documentation/hardware/dlr-contract.rst: the duties of
 * device and driver, and the order of operations. R1..R10 below are the rules
 * in its section "Dirty log".
 *
 * Conventions: all multi-byte fields in memory and in registers are
 * little-endian. Lengths are bytes unless a name says otherwise. "Granule" is
 * the unit of dirty logging, 1 << page_shift bytes, never below 4 KiB. Fields
 * called reserved are written as zero; a device answers
 * DLR_STATUS_INVALID_FIELD when one in a command is not zero. "MF" is the
 * management function, "DF" a data function, which is assigned to a guest.
 */
#ifndef _UAPI_LINUX_DLR_H
#define _UAPI_LINUX_DLR_H

#include <linux/types.h>

/* Version of this contract: major in bits 31:16, minor in bits 15:0. A driver
 * refuses a major that it does not know and accepts any minor.
 */
#define DLR_CONTRACT_VERSION		0x00020000

/*
 * ---------------------------------------------------------------------------
 * PCI identity
 * ---------------------------------------------------------------------------
 */

/* The reference NIC. The DF is a modern virtio-net function; its subsystem id
 * sets it apart from all others. The ids of the MF and of the subsystem are
 * from the range that the virtio vendor id reserves for experiments: silicon
 * MUST NOT carry them, nor the DVSEC's vendor id. Other vendors add their own
 * ids: pairing depends on the DVSEC alone.
 */
#define DLR_PCI_VENDOR_ID		0x1af4
#define DLR_PCI_DEVICE_ID_MF		0x10f0
#define DLR_PCI_DEVICE_ID_DF		0x1041
#define DLR_PCI_SUBSYSTEM_VENDOR_ID_DF	0x1af4
#define DLR_PCI_SUBSYSTEM_ID_DF		0x10f1

/* DVSEC (PCIe extended capability 0x0023) that every MF and DF carries. */
#define DLR_DVSEC_VENDOR_ID		0x1af4
#define DLR_DVSEC_ID			0x0d17
#define DLR_DVSEC_REVISION		2
#define DLR_DVSEC_LENGTH		0x20

/* Offsets from the start of the DVSEC capability. From DLR_DVSEC_IDENTITY to
 * the end of the capability the words identify one particular NIC; the driver
 * shows its user zeros in their place and drops the user's writes. All words
 * are read-only in the device. NONCE holds the nonce of the last ATTEST of
 * this DF. It reads as zero after power-on, after an FLR of the DF and after a
 * reset of the MF, and always in the MF.
 */
#define DLR_DVSEC_HEADER1		0x04	/* 15:0 vendor, 19:16 revision, 31:20 length */
#define DLR_DVSEC_HEADER2		0x08	/* 15:0 DLR_DVSEC_ID, 31:16 contract major */
#define DLR_DVSEC_FUNCTION		0x0c	/* 15:0 function number, 16 role: 1 = MF */
#define DLR_DVSEC_SERIAL_LO		0x10
#define DLR_DVSEC_SERIAL_HI		0x14
#define DLR_DVSEC_NONCE_LO		0x18
#define DLR_DVSEC_NONCE_HI		0x1c
#define DLR_DVSEC_IDENTITY		DLR_DVSEC_FUNCTION

#define DLR_DVSEC_FUNCTION_NUMBER_MASK	0x0000ffff
#define DLR_DVSEC_FUNCTION_ROLE_MF	0x00010000

/* Maximum number of data functions of one NIC. They are numbered from 0. */
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
#define DLR_REG_SERIAL_LO		0x010	/* RO the serial that the DVSECs carry; 0 and ~0 pair nothing */
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

/* CONTROL. When 1 is written to ENABLE, the device takes over the queue
 * registers and sets READY, or sets FATAL if they are not usable. Writing 0 is
 * the reset handshake of the admin queue: the device drops the commands in
 * flight without a completion, and clears READY when it will not access either
 * ring or any command buffer any more. Functions, save and load sessions,
 * logs, status pages and nonces are not affected.
 *
 * Writing 1 to RESET, whatever the other bits, resets the MF: admin queue,
 * logs, sessions, status pages and nonces end, and all registers are as at
 * power-on. RESET reads as 1 until the device will not access any memory of
 * the MF's domain nor raise any vector of the MF, for at most CMD_TIMEOUT;
 * until then the device ignores writes to other registers. The data functions
 * stay in their states, except that one with a load session is as after an
 * FLR. Configuration space, MSI-X included, is not changed. The driver resets
 * the MF with this, never with an FLR, while the MF is a PF with VFs enabled.
 */
#define DLR_CONTROL_ENABLE		0x00000001
#define DLR_CONTROL_RESET		0x00000002

#define DLR_MF_STATUS_READY		0x00000001
#define DLR_MF_STATUS_FATAL		0x00000002	/* cleared by ENABLE = 0, RESET and FLR */

/* Registers of data function F: DLR_REG_FN(F) + DLR_REG_LOG_* or DLR_REG_FN_*. */
#define DLR_REG_FN_BASE			0x1000
#define DLR_REG_FN_STRIDE		0x40

#define DLR_REG_LOG_POSTED		0x00	/* RO DLR_LOG_POSTED_* */
#define DLR_REG_LOG_HEAD		0x04	/* WO free-running consumer count of the ring */
#define DLR_REG_LOG_STATE		0x08	/* RO DLR_LOG_STATE_*; no side effects, for debugging */
#define DLR_REG_FN_STATE		0x0c	/* RO enum dlr_fn_state; for debugging */
#define DLR_REG_FN_ABORT		0x10	/* RW drop the function's commands */

/* FN_ABORT. When 1 is written, the device drops every command of the function
 * that was submitted before (of both rows, fetched or not). The register reads
 * as 1 until they are dropped, for at most CMD_TIMEOUT, and as 0 from then on:
 * the device posts no completion of them and does not access their buffers.
 * A completion that was posted before is valid. Each dropped command has been
 * executed or not, in the order of its row. Function, session, log, status
 * page and the commands of other functions are not affected. The driver
 * submits no command of the function meanwhile. Writing 0 has no effect.
 * Without READY, a write has no effect and the register reads as 0.
 */
#define DLR_FN_ABORT			0x00000001

/* POSTED (R5). The device answers a read only when the entries of every DMA
 * write of the function that was visible before the read are posted; the
 * completion pushes those entries ahead of itself. COUNT is the number of
 * entries posted since LOG_START, modulo 2^31. ERROR means that COUNT is
 * invalid: the log is not active or has failed. A read of all ones from a
 * device that is gone has ERROR set, too.
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
 * The commands of one data function form two rows: LOG_* commands in one, all
 * others in the second. A row is executed in the order of submission. Rows do
 * not wait for each other, whether they are of one function or of two.
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
	/* From now on the device keeps struct dlr_status_page of the function at
	 * addr, which is 64-byte aligned; 0 stops it. Complete when the page is
	 * valid (or will not be written any more).
	 */
	DLR_CMD_STATUS_PAGE		= 0x0003,
	/* struct dlr_attest_params. Show this nonce in DLR_DVSEC_NONCE_LO/HI of
	 * the configuration space of that data function, and of no other;
	 * complete when a read of it answers the nonce. 0 removes the nonce. In
	 * any function state.
	 */
	DLR_CMD_ATTEST			= 0x0004,

	/* struct dlr_level_params. One step of enum dlr_fn_state down or up. A
	 * step to the current state succeeds, a step that skips a state is
	 * INVALID_STATE. Without DLR_FN_CAP_P2P the state after RUNNING is
	 * STOPPED, and RUNNING_P2P is INVALID_FIELD. SUSPEND completes when
	 * every DMA write that the new state forbids is visible and its log
	 * entry posted (R7). It is one point of the log order, as LOG_SYNC is,
	 * but waits for no command of the log row.
	 */
	DLR_CMD_SUSPEND			= 0x0010,
	DLR_CMD_RESUME			= 0x0011,

	/* struct dlr_save_begin_params. Start a save session; in any function
	 * state.
	 */
	DLR_CMD_SAVE_BEGIN		= 0x0020,
	/* Fill the buffer with the next bytes of the stream; result is their
	 * number. Without DLR_SAVE_READ_F_FINAL the device delivers the changes
	 * so far, and sets DLR_CQE_F_EMPTY when it has nothing more for now.
	 * With the flag (function STOPPED, else INVALID_STATE) it delivers
	 * everything up to the trailer, and sets DLR_CQE_F_END on the read that
	 * delivers the last byte and on every later one, whose result is 0.
	 * Several reads may be in flight.
	 */
	DLR_CMD_SAVE_READ		= 0x0021,
	/* End the session, finished or not. Success also when there is none. */
	DLR_CMD_SAVE_END		= 0x0022,

	/* Start a load session; function STOPPED. */
	DLR_CMD_LOAD_BEGIN		= 0x0028,
	/* The buffer holds the next bytes of the stream, in order, any split. */
	DLR_CMD_LOAD_WRITE		= 0x0029,
	/* The trailer has been written: verify the whole stream and install it
	 * in the function, which is still STOPPED. On failure the function is as
	 * after reset.
	 */
	DLR_CMD_LOAD_COMMIT		= 0x002a,
	/* Forget the session; the function is as after reset, and STOPPED.
	 * Success also when there is no session, which leaves the function as it
	 * is.
	 */
	DLR_CMD_LOAD_ABORT		= 0x002b,

	/* struct dlr_log_start_params; the buffer holds num_ranges struct
	 * dlr_range. The ring is zeroed by the driver; counts start at 0, the
	 * phase at 1. Complete when every later DMA write in the ranges will be
	 * logged.
	 */
	DLR_CMD_LOG_START		= 0x0030,
	/* The buffer holds struct dlr_range: track these ranges, too. They may
	 * overlap with tracked ones. Complete as LOG_START.
	 */
	DLR_CMD_LOG_ADD			= 0x0031,
	/* struct dlr_log_sync_params (R3). One point of the log order: posts the
	 * SYNC marker and from there on logs anew every granule of the range;
	 * with DLR_LOG_SYNC_F_ALL of all ranges, which also re-arms after LOST.
	 * Completes after the marker is posted. While the ring has only its
	 * reserved slot left the device holds the marker back until the driver
	 * has consumed entries. A device that cannot post the marker within the
	 * command timeout, or that gets a LOG_STOP meanwhile, answers BUSY and
	 * has changed nothing.
	 */
	DLR_CMD_LOG_SYNC		= 0x0032,
	/* Stop; complete when the ring will not be written any more. Success
	 * also when the log is not active. Does not wait behind a LOG_SYNC that
	 * waits for room: that LOG_SYNC ends with BUSY.
	 */
	DLR_CMD_LOG_STOP		= 0x0033,
};

/* dlr_sqe.flags of SAVE_READ. */
#define DLR_SAVE_READ_F_FINAL		0x00000001

/* dlr_cqe.flags of SAVE_READ. */
#define DLR_CQE_F_EMPTY			0x00000001
#define DLR_CQE_F_END			0x00000002

/* Status of a completion. The errno is the one that the driver returns. */
enum dlr_status {
	DLR_STATUS_SUCCESS		= 0x00,
	DLR_STATUS_INVALID_OPCODE	= 0x01,	/* EOPNOTSUPP */
	DLR_STATUS_INVALID_FIELD	= 0x02,	/* EINVAL */
	DLR_STATUS_INVALID_FUNCTION	= 0x03,	/* ENODEV */
	DLR_STATUS_INVALID_STATE	= 0x04,	/* EINVAL */
	DLR_STATUS_BUSY			= 0x05,	/* EBUSY */
	DLR_STATUS_NO_RESOURCE		= 0x06,	/* ENOSPC */
	DLR_STATUS_NO_MEMORY		= 0x07,	/* ENOMEM */
	DLR_STATUS_DMA_FAULT		= 0x08,	/* EIO */
	DLR_STATUS_INTERNAL		= 0x09,	/* EIO */
	DLR_STATUS_INCOMPATIBLE		= 0x10,	/* EOPNOTSUPP: other model or version */
	DLR_STATUS_CORRUPT		= 0x11,	/* EINVAL: checksum, order, framing */
	DLR_STATUS_TRUNCATED		= 0x12,	/* EINVAL: commit before the trailer */
	DLR_STATUS_TOO_BIG		= 0x13,	/* ENOMEM: beyond the function's limits */
};

/* Run states of a data function. */
enum dlr_fn_state {
	DLR_FN_RUNNING			= 0,
	/* Starts no DMA and raises no interrupt; still takes accesses by others. */
	DLR_FN_RUNNING_P2P		= 1,
	/* In addition its internal state does not change: register writes are
	 * ignored, reads are answered.
	 */
	DLR_FN_STOPPED			= 2,
};

/* Parameters of SUSPEND and RESUME: the state to enter. */
struct dlr_level_params {
	__le32 state;		/* enum dlr_fn_state */
	__le32 reserved[9];
};

struct dlr_attest_params {
	__le64 nonce;
	__le32 reserved[8];
};

/* The vector is for the event "more to read": once after each SAVE_READ that
 * completed with DLR_CQE_F_EMPTY, as soon as initial_bytes + dirty_bytes of the
 * status page is not zero, the device updates the status page, then raises the
 * vector. It checks after it has posted the completion, so that it misses no
 * change.
 */
struct dlr_save_begin_params {
	__le16 vector;		/* MSI-X vector of the MF, or DLR_NO_VECTOR */
	__le16 reserved0;
	__le32 reserved[9];
};

#define DLR_NO_VECTOR			0xffff

/* Part of a function's IOVA space. Both fields are multiples of the granule,
 * length is not 0, and iova + length does not wrap.
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
	/* Longest time in microseconds for which the device holds DMA back at a
	 * full ring before LOST (R6), at most DLR_LOG_MAX_HOLD_US; 0 for none.
	 * INVALID_FIELD when it is not 0 without DLR_FN_CAP_HOLD.
	 */
	__le32 hold_us;
	__le32 reserved[4];
};

#define DLR_LOG_MAX_HOLD_US		100000

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

/* A command that needs a capability that is not set is INVALID_OPCODE. */
#define DLR_FN_CAP_LOG			0x00000001	/* LOG_* */
#define DLR_FN_CAP_STATE		0x00000002	/* SUSPEND/RESUME to STOPPED, save and load */
/* The next two need STATE. */
#define DLR_FN_CAP_P2P			0x00000004	/* RUNNING_P2P is a state of its own */
#define DLR_FN_CAP_PRECOPY		0x00000008	/* SAVE_READ without FINAL, else INVALID_FIELD */
#define DLR_FN_CAP_STATUS_PAGE		0x00000010	/* STATUS_PAGE */
#define DLR_FN_CAP_HOLD			0x00000020	/* LOG_START with hold_us; needs LOG */

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
	/* The ring was full: the device does not log writes after this entry
	 * until a LOG_SYNC with DLR_LOG_SYNC_F_ALL (R6). Posted in the last free
	 * slot, which no other entry may take.
	 */
	DLR_LOG_LOST			= 3,
};

/*
 * ---------------------------------------------------------------------------
 * Status page
 * ---------------------------------------------------------------------------
 * The device keeps the page current, in every function state and with or
 * without a session. To update it, the device makes seq odd, writes the rest,
 * and makes seq even; a reader that sees seq odd or changed reads again.
 */
struct dlr_status_page {
	__le32 seq;
	__le32 health;		/* DLR_HEALTH_*; 0 is healthy */
	__le64 initial_bytes;	/* of the initial image: left to read in this session, or in one begun now */
	__le64 dirty_bytes;	/* of changes after the initial image: left to read; 0 without a session */
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
	__le32 seq;		/* 0 for the header section, one more for each later section */
	__le32 length;		/* payload bytes, 1..DLR_SECTION_MAX */
	__le32 reserved;
	__le32 payload_crc;
	__le32 header_crc;	/* of the 28 bytes before it */
};

#define DLR_SECTION_MAGIC		0x53524c44	/* "DLRS" */
#define DLR_SECTION_MAX			65536

#define DLR_SECTION_HEADER		0x0001	/* payload: struct dlr_stream_header */
#define DLR_SECTION_TRAILER		0x0002	/* payload: struct dlr_stream_trailer */
#define DLR_SECTION_DEVICE_FIRST	0x0100	/* first type of the device's own */
#define DLR_SECTION_DEVICE_LAST		0x7fff

/* A loader that does not know the type or version of a section with this flag
 * skips the section; without the flag it refuses the stream (INCOMPATIBLE).
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
