// SPDX-License-Identifier: GPL-2.0

//! Commands of the admin queue. [`completion`] has their completions.

use super::{
    FnState,
    SyncScope,
    COOKIE_BITS, //
};
use crate::proto::dlr;
use kernel::prelude::*;

mod completion;
mod nature;
pub(crate) use completion::{
    phase,
    status_to_result,
    Completion,
    CQE_WORDS, //
};
pub(crate) use nature::{
    Kind,
    Row,
    KINDS, //
};

/// Vector number that disables an event (`DLR_NO_VECTOR`).
const NO_VECTOR: u16 = dlr::DLR_NO_VECTOR as u16;

/// Length of a submission entry in words of eight bytes.
pub(crate) const SQE_WORDS: usize = size_of::<dlr::dlr_sqe>() / 8;

static_assert!(size_of::<dlr::dlr_sqe>() == 64);
static_assert!(size_of::<dlr::dlr_level_params>() == 40);
static_assert!(size_of::<dlr::dlr_attest_params>() == 40);
static_assert!(size_of::<dlr::dlr_save_begin_params>() == 40);
static_assert!(size_of::<dlr::dlr_log_start_params>() == 40);
static_assert!(size_of::<dlr::dlr_log_sync_params>() == 40);

/// Parameters of LOG_START (`struct dlr_log_start_params`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogStart {
    /// DMA address of the ring.
    pub(crate) ring: u64,
    /// Log2 of the number of entries of the ring.
    pub(crate) ring_order: u16,
    /// MSI-X vector of the log.
    pub(crate) vector: u16,
    /// Number of unconsumed entries at which the device raises the vector.
    pub(crate) irq_threshold: u32,
    /// Number of ranges in the command's buffer.
    pub(crate) num_ranges: u16,
    /// Log2 of the granule.
    pub(crate) page_shift: u16,
    /// Longest time in microseconds for which the device holds DMA back at a full ring before it
    /// posts LOST ("Dirty log", rule 6, in `dlr-contract.rst`). At most `DLR_LOG_MAX_HOLD_US`; 0
    /// without [`Cap::Hold`](super::identify::Cap::Hold).
    pub(crate) hold_us: u32,
}

/// A command without its id and its buffer (`struct dlr_sqe`).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command(dlr::dlr_sqe);

impl Command {
    /// Creates a command without parameters.
    fn new(opcode: dlr::dlr_opcode, function: u16) -> Self {
        Self(dlr::dlr_sqe {
            opcode: opcode as u16,
            function,
            ..zerocopy::FromZeros::new_zeroed()
        })
    }

    /// Returns the number of the data function that the command is for.
    pub(crate) fn function(&self) -> u16 {
        self.0.function
    }

    /// Returns the opcode of the command.
    pub(crate) fn opcode(&self) -> u16 {
        self.0.opcode
    }

    /// Encodes the submission entry with the queue's `id` and the buffer of `len` bytes at `addr`.
    pub(crate) fn encode(&self, id: u16, addr: u64, len: u32) -> [u64; SQE_WORDS] {
        let mut sqe = self.0;
        sqe.id = id;
        // A command without a buffer keeps its own address: STATUS_PAGE has one.
        if len != 0 {
            sqe.addr = addr;
            sqe.len = len;
        }
        zerocopy::transmute!(sqe)
    }

    /// Creates an IDENTIFY_NIC command.
    pub(crate) fn identify_nic() -> Self {
        Self::new(dlr::DLR_CMD_IDENTIFY_NIC, 0)
    }

    /// Creates an IDENTIFY_FN command.
    pub(crate) fn identify_fn(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_IDENTIFY_FN, function)
    }

    /// Creates a STATUS_PAGE command: the device keeps the page at `addr`, or stops if `addr` is 0.
    pub(crate) fn status_page(function: u16, addr: u64) -> Self {
        let mut command = Self::new(dlr::DLR_CMD_STATUS_PAGE, function);
        command.0.addr = addr;
        command
    }

    /// Creates an ATTEST command: the function shows `nonce` in its DVSEC; 0 removes the nonce.
    pub(crate) fn attest(function: u16, nonce: u64) -> Self {
        let mut command = Self::new(dlr::DLR_CMD_ATTEST, function);
        command.0.params = zerocopy::transmute!(dlr::dlr_attest_params {
            nonce,
            ..zerocopy::FromZeros::new_zeroed()
        });
        command
    }

    /// Creates a SUSPEND or RESUME command.
    fn level(opcode: dlr::dlr_opcode, function: u16, to: FnState) -> Self {
        let mut command = Self::new(opcode, function);
        command.0.params = zerocopy::transmute!(dlr::dlr_level_params {
            state: to.raw(),
            ..zerocopy::FromZeros::new_zeroed()
        });
        command
    }

    /// Creates a SUSPEND command, one step down to the state `to`.
    pub(crate) fn suspend(function: u16, to: FnState) -> Self {
        Self::level(dlr::DLR_CMD_SUSPEND, function, to)
    }

    /// Creates a RESUME command, one step up to the state `to`.
    pub(crate) fn resume(function: u16, to: FnState) -> Self {
        Self::level(dlr::DLR_CMD_RESUME, function, to)
    }

    /// Creates a SAVE_BEGIN command. The event "more to read" raises `vector`; `None` disables it.
    pub(crate) fn save_begin(function: u16, vector: Option<u16>) -> Self {
        let mut command = Self::new(dlr::DLR_CMD_SAVE_BEGIN, function);
        command.0.params = zerocopy::transmute!(dlr::dlr_save_begin_params {
            vector: vector.unwrap_or(NO_VECTOR),
            ..zerocopy::FromZeros::new_zeroed()
        });
        command
    }

    /// Creates a SAVE_READ command. `fin` requests everything up to the trailer.
    pub(crate) fn save_read(function: u16, fin: bool) -> Self {
        let mut command = Self::new(dlr::DLR_CMD_SAVE_READ, function);
        if fin {
            command.0.flags = dlr::DLR_SAVE_READ_F_FINAL;
        }
        command
    }

    /// Creates a SAVE_END command.
    pub(crate) fn save_end(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_SAVE_END, function)
    }

    /// Creates a LOAD_BEGIN command.
    pub(crate) fn load_begin(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_LOAD_BEGIN, function)
    }

    /// Creates a LOAD_WRITE command.
    pub(crate) fn load_write(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_LOAD_WRITE, function)
    }

    /// Creates a LOAD_COMMIT command.
    pub(crate) fn load_commit(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_LOAD_COMMIT, function)
    }

    /// Creates a LOAD_ABORT command.
    pub(crate) fn load_abort(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_LOAD_ABORT, function)
    }

    /// Creates a LOG_START command.
    pub(crate) fn log_start(function: u16, start: &LogStart) -> Self {
        let mut command = Self::new(dlr::DLR_CMD_LOG_START, function);
        command.0.params = zerocopy::transmute!(dlr::dlr_log_start_params {
            ring: start.ring,
            ring_order: start.ring_order,
            vector: start.vector,
            irq_threshold: start.irq_threshold,
            num_ranges: start.num_ranges,
            page_shift: start.page_shift,
            hold_us: start.hold_us,
            reserved: [0; 4],
        });
        command
    }

    /// Creates a LOG_ADD command.
    pub(crate) fn log_add(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_LOG_ADD, function)
    }

    /// Creates a LOG_SYNC command.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `cookie` has more than [`COOKIE_BITS`] bits.
    pub(crate) fn log_sync(function: u16, scope: SyncScope, cookie: u64) -> Result<Self> {
        if cookie >> COOKIE_BITS != 0 {
            return Err(EINVAL);
        }
        let (iova, length, flags) = match scope {
            SyncScope::All => (0, 0, dlr::DLR_LOG_SYNC_F_ALL),
            SyncScope::Range(range) => (range.iova, range.length, 0),
        };
        let mut command = Self::new(dlr::DLR_CMD_LOG_SYNC, function);
        command.0.params = zerocopy::transmute!(dlr::dlr_log_sync_params {
            iova,
            length,
            cookie,
            flags,
            reserved: [0; 3],
        });
        Ok(command)
    }

    /// Creates a LOG_STOP command.
    pub(crate) fn log_stop(function: u16) -> Self {
        Self::new(dlr::DLR_CMD_LOG_STOP, function)
    }
}

/// Returns the name of an opcode, for messages.
pub(crate) fn opcode_name(opcode: u16) -> &'static str {
    match u32::from(opcode) {
        dlr::DLR_CMD_IDENTIFY_NIC => "IDENTIFY_NIC",
        dlr::DLR_CMD_IDENTIFY_FN => "IDENTIFY_FN",
        dlr::DLR_CMD_STATUS_PAGE => "STATUS_PAGE",
        dlr::DLR_CMD_ATTEST => "ATTEST",
        dlr::DLR_CMD_SUSPEND => "SUSPEND",
        dlr::DLR_CMD_RESUME => "RESUME",
        dlr::DLR_CMD_SAVE_BEGIN => "SAVE_BEGIN",
        dlr::DLR_CMD_SAVE_READ => "SAVE_READ",
        dlr::DLR_CMD_SAVE_END => "SAVE_END",
        dlr::DLR_CMD_LOAD_BEGIN => "LOAD_BEGIN",
        dlr::DLR_CMD_LOAD_WRITE => "LOAD_WRITE",
        dlr::DLR_CMD_LOAD_COMMIT => "LOAD_COMMIT",
        dlr::DLR_CMD_LOAD_ABORT => "LOAD_ABORT",
        dlr::DLR_CMD_LOG_START => "LOG_START",
        dlr::DLR_CMD_LOG_ADD => "LOG_ADD",
        dlr::DLR_CMD_LOG_SYNC => "LOG_SYNC",
        dlr::DLR_CMD_LOG_STOP => "LOG_STOP",
        _ => "?",
    }
}

#[kunit_tests(dlr_proto_admin)]
mod tests {
    use super::*;
    use crate::proto::Range;

    #[test]
    fn entry_layout() {
        let words = Command::save_read(3, true).encode(0x1234, 0xdead_0000, 4096);
        assert_eq!(words[0], 0x0000_0003_1234_0021);
        assert_eq!(words[1], 0xdead_0000);
        assert_eq!(words[2], 0x0000_0001_0000_1000);
        assert_eq!(words[3..], [0; 5]);
    }

    #[test]
    fn own_address_is_kept() {
        let words = Command::status_page(1, 0x8000).encode(1, 0, 0);
        assert_eq!(words[1], 0x8000);
        assert_eq!(words[2], 0);
    }

    #[test]
    fn params_layout() -> Result {
        let range = Range {
            iova: 0x1000,
            length: 0x2000,
        };
        let words = Command::log_sync(0, SyncScope::Range(range), 7)?.encode(0, 0, 0);
        assert_eq!(words[3..7], [0x1000, 0x2000, 7, 0]);
        let words = Command::log_sync(0, SyncScope::All, 8)?.encode(0, 0, 0);
        assert_eq!(words[3..7], [0, 0, 8, 1]);
        assert!(Command::log_sync(0, SyncScope::All, 1 << 52).is_err());
        let start = LogStart {
            ring: 0x10_0000,
            ring_order: 9,
            vector: 2,
            irq_threshold: 256,
            num_ranges: 1,
            page_shift: 12,
            hold_us: 50,
        };
        let words = Command::log_start(0, &start).encode(0, 0, 0);
        assert_eq!(words[3], 0x10_0000);
        assert_eq!(words[4], 0x0000_0100_0002_0009);
        assert_eq!(words[5], 0x0000_0032_000c_0001);
        let words = Command::attest(1, 0x0123_4567_89ab_cdef).encode(0, 0, 0);
        assert_eq!(words[3..], [0x0123_4567_89ab_cdef, 0, 0, 0, 0]);
        let words = Command::save_begin(1, Some(3)).encode(0, 0, 0);
        assert_eq!(words[3..], [3, 0, 0, 0, 0]);
        let words = Command::save_begin(1, None).encode(0, 0, 0);
        assert_eq!(words[3], 0xffff);
        Ok(())
    }
}
