// SPDX-License-Identifier: GPL-2.0

//! Properties of a command that the queue depends on: its row, its kind, and whether the driver may
//! submit it twice.

use super::Command;
use crate::proto::dlr;
use kernel::prelude::*;

/// The two rows of a function's commands ("Admin queue" in `dlr-contract.rst`). The device executes
/// each row in the order of submission, and neither row waits for the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Row {
    /// LOG_* commands.
    Log,
    /// All other commands.
    State,
}

/// A group of commands that undo or repeat one another. Commands of different kinds affect
/// different parts of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// IDENTIFY_NIC, IDENTIFY_FN, and opcodes that this driver does not know.
    Identify,
    /// STATUS_PAGE.
    Page,
    /// ATTEST.
    Attest,
    /// SUSPEND, RESUME.
    Level,
    /// SAVE_* commands.
    Save,
    /// LOAD_* commands.
    Load,
    /// LOG_* commands.
    Log,
}

/// Number of kinds.
pub(crate) const KINDS: usize = Kind::Log as usize + 1;

impl Command {
    /// Returns the kind of the command.
    pub(crate) fn kind(&self) -> Kind {
        match u32::from(self.opcode()) {
            dlr::DLR_CMD_STATUS_PAGE => Kind::Page,
            dlr::DLR_CMD_ATTEST => Kind::Attest,
            dlr::DLR_CMD_SUSPEND | dlr::DLR_CMD_RESUME => Kind::Level,
            dlr::DLR_CMD_SAVE_BEGIN | dlr::DLR_CMD_SAVE_READ | dlr::DLR_CMD_SAVE_END => Kind::Save,
            dlr::DLR_CMD_LOAD_BEGIN
            | dlr::DLR_CMD_LOAD_WRITE
            | dlr::DLR_CMD_LOAD_COMMIT
            | dlr::DLR_CMD_LOAD_ABORT => Kind::Load,
            dlr::DLR_CMD_LOG_START
            | dlr::DLR_CMD_LOG_ADD
            | dlr::DLR_CMD_LOG_SYNC
            | dlr::DLR_CMD_LOG_STOP => Kind::Log,
            _ => Kind::Identify,
        }
    }

    /// Returns the row of the command.
    pub(crate) fn row(&self) -> Row {
        match self.kind() {
            Kind::Log => Row::Log,
            _ => Row::State,
        }
    }

    /// Returns whether the command transfers device state. A session submits many such commands at
    /// a time.
    pub(crate) fn is_bulk(&self) -> bool {
        matches!(
            u32::from(self.opcode()),
            dlr::DLR_CMD_SAVE_READ | dlr::DLR_CMD_LOAD_WRITE
        )
    }

    /// Returns whether this is LOG_SYNC.
    pub(crate) fn is_log_sync(&self) -> bool {
        u32::from(self.opcode()) == dlr::DLR_CMD_LOG_SYNC
    }

    /// Returns whether this is LOG_STOP.
    pub(crate) fn is_log_stop(&self) -> bool {
        u32::from(self.opcode()) == dlr::DLR_CMD_LOG_STOP
    }

    /// Returns whether the device may execute the command twice ("Time" in `dlr-contract.rst`).
    pub(crate) fn is_idempotent(&self) -> bool {
        matches!(
            u32::from(self.opcode()),
            dlr::DLR_CMD_IDENTIFY_NIC
                | dlr::DLR_CMD_IDENTIFY_FN
                | dlr::DLR_CMD_STATUS_PAGE
                | dlr::DLR_CMD_ATTEST
                | dlr::DLR_CMD_SUSPEND
                | dlr::DLR_CMD_RESUME
                | dlr::DLR_CMD_SAVE_END
                | dlr::DLR_CMD_LOAD_ABORT
                | dlr::DLR_CMD_LOG_STOP
                | dlr::DLR_CMD_LOG_ADD
                | dlr::DLR_CMD_LOG_SYNC
        )
    }
}

#[kunit_tests(dlr_proto_nature)]
mod tests {
    use super::*;
    use crate::proto::{
        admin::LogStart,
        FnState,
        SyncScope, //
    };

    #[test]
    fn every_command_has_its_nature() -> Result {
        let start = LogStart {
            ring: 0,
            ring_order: 4,
            vector: 1,
            irq_threshold: 1,
            num_ranges: 1,
            page_shift: 12,
            hold_us: 0,
        };
        let stop = Command::suspend(1, FnState::Stopped);
        let run = Command::resume(1, FnState::Running);
        let sync = Command::log_sync(1, SyncScope::All, 1)?;
        // From the contract: kind, bulk, and whether the device may execute the command twice.
        for (command, kind, bulk, twice) in [
            (Command::identify_nic(), Kind::Identify, false, true),
            (Command::identify_fn(1), Kind::Identify, false, true),
            (Command::status_page(1, 0), Kind::Page, false, true),
            (Command::attest(1, 2), Kind::Attest, false, true),
            (stop, Kind::Level, false, true),
            (run, Kind::Level, false, true),
            (Command::save_begin(1, None), Kind::Save, false, false),
            (Command::save_read(1, true), Kind::Save, true, false),
            (Command::save_end(1), Kind::Save, false, true),
            (Command::load_begin(1), Kind::Load, false, false),
            (Command::load_write(1), Kind::Load, true, false),
            (Command::load_commit(1), Kind::Load, false, false),
            (Command::load_abort(1), Kind::Load, false, true),
            (Command::log_start(1, &start), Kind::Log, false, false),
            (Command::log_add(1), Kind::Log, false, true),
            (sync, Kind::Log, false, true),
            (Command::log_stop(1), Kind::Log, false, true),
        ] {
            assert_eq!(command.kind(), kind);
            let is_log = kind == Kind::Log;
            assert_eq!(command.row(), if is_log { Row::Log } else { Row::State });
            assert_eq!(command.is_bulk(), bulk);
            assert_eq!(command.is_idempotent(), twice);
        }
        Ok(())
    }
}
