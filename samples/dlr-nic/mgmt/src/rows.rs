// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Which thread executes which command.
//!
//! Each data function has two rows, one for the commands of its log and one for all others,
//! and the NIC itself has one. A row is a channel with one worker behind it.

use std::sync::{
    mpsc::{channel, Receiver, Sender},
    Arc,
};

use dlr_abi::abi;

use crate::{epoch::Epoch, log::LogEngine};

/// A submitted command: a copy, since host memory may change under the device.
#[derive(Debug)]
pub(crate) struct Command {
    /// The submission entry.
    pub(crate) sqe: abi::dlr_sqe,
    /// Its access to host memory: over with the reset handshake and with an abort.
    pub(crate) epoch: Arc<Epoch>,
    /// Whose it is, see [`Rows::owner`].
    pub(crate) owner: usize,
}

/// See the module.
pub(crate) struct Rows {
    /// State row and log row of function 0, of function 1, …, then the NIC's row; empty when
    /// closed.
    senders: Vec<Sender<Command>>,
    logs: Vec<Arc<LogEngine>>,
}

impl Rows {
    /// Rows for the functions with these logs; the receivers are the workers' ends.
    pub(crate) fn new(logs: Vec<Arc<LogEngine>>) -> (Self, Vec<Receiver<Command>>) {
        let (senders, receivers) = (0..=2 * logs.len()).map(|_| channel()).unzip();
        (Self { senders, logs }, receivers)
    }

    /// Functions, and the NIC.
    pub(crate) fn owners(&self) -> usize {
        self.logs.len() + 1
    }

    /// The function whose command this is, or the number of functions for one of the NIC's and
    /// for one of a function that does not exist.
    pub(crate) fn owner(&self, sqe: &abi::dlr_sqe) -> usize {
        let nic = self.logs.len();
        if u32::from(sqe.opcode) == abi::DLR_CMD_IDENTIFY_NIC {
            nic
        } else {
            nic.min(sqe.function.into())
        }
    }

    /// Puts a command at the end of its row.
    pub(crate) fn submit(&self, command: Command) {
        let opcode = u32::from(command.sqe.opcode);
        let mut row = 2 * command.owner;
        if let Some(log) = self.logs.get(command.owner) {
            row += usize::from(is_of_log(opcode));
            if opcode == abi::DLR_CMD_LOG_STOP {
                log.announce_stop();
            }
        }
        if let Some(sender) = self.senders.get(row) {
            // A worker that is gone is a NIC that is going down.
            let _ = sender.send(command);
        }
    }

    /// Lets the workers end.
    pub(crate) fn close(&mut self) {
        self.senders.clear();
    }
}

/// The rows of `owner`, as indices of the workers.
pub(crate) fn rows_of(owner: usize) -> [usize; 2] {
    [2 * owner, 2 * owner + 1]
}

/// The command stands in the log row.
fn is_of_log(opcode: u32) -> bool {
    matches!(
        opcode,
        abi::DLR_CMD_LOG_START
            | abi::DLR_CMD_LOG_ADD
            | abi::DLR_CMD_LOG_SYNC
            | abi::DLR_CMD_LOG_STOP
    )
}
