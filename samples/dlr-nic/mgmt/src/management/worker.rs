// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The threads of the management function: one per row of commands, one for the status pages.

use std::{
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use dlr_abi::abi;
use zerocopy::IntoBytes;

use super::shared::Shared;
use crate::{
    command::{zero, Request},
    execute::execute,
    fault::FaultAction,
    rows::Command,
    status::{Done, Status},
};

/// Least time between two updates of the status pages that traffic causes.
const PAGE_PERIOD: Duration = Duration::from_millis(10);
/// How soon a command that waits on purpose notices that it was dropped.
const SLICE: Duration = Duration::from_millis(2);

impl Shared {
    /// The thread of `row`.
    pub(super) fn work(&self, row: usize, commands: &Receiver<Command>) {
        let Some(current) = self.current.get(row) else {
            return;
        };
        for mut command in commands {
            // Before the look at the epoch in `carry_out`: what is seen neither here nor there
            // does not begin any more.
            *current.0.lock() = Some(command.epoch.clone());
            self.take_note(&command);
            self.carry_out(&mut command);
            *current.0.lock() = None;
        }
    }

    /// A LOG_STOP has reached its turn, or was dropped: no SYNC stands before it any more.
    fn take_note(&self, command: &Command) {
        let stop = u32::from(command.sqe.opcode) == abi::DLR_CMD_LOG_STOP;
        if let Some(port) = self.ports.get(command.owner).filter(|_| stop) {
            port.log.retract_stop();
        }
    }

    /// Sleeps unless and until the command is dropped.
    fn delay(&self, command: &Command, ms: u64) {
        let end = Instant::now().checked_add(Duration::from_millis(ms));
        while command.epoch.alive() {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return;
            }
            thread::sleep(left.unwrap_or(SLICE).min(SLICE));
        }
    }

    fn carry_out(&self, command: &mut Command) {
        if !command.epoch.alive() {
            return;
        }
        let fault = self.faults.take(command.owner, command.sqe.opcode);
        if let Some(FaultAction::Delay(ms)) = fault {
            self.delay(command, ms);
        }
        match fault {
            _ if !command.epoch.alive() || self.is_gone() => return,
            Some(FaultAction::Stuck) => return self.queue.stick(),
            Some(FaultAction::WrongCookie) => {
                let at = std::mem::offset_of!(abi::dlr_log_sync_params, cookie);
                flip(command, at);
            }
            Some(FaultAction::WrongNonce) => {
                let at = std::mem::offset_of!(abi::dlr_attest_params, nonce);
                flip(command, at);
            }
            _ => {}
        }
        let success = abi::DLR_STATUS_SUCCESS as u16;
        let (status, done) = match fault {
            Some(FaultAction::Status(status)) => (status, Done::default()),
            Some(FaultAction::Ignore | FaultAction::StrayId | FaultAction::Late(_)) => {
                (success, Done::default())
            }
            _ => match self.run(command, fault) {
                Ok(done) => (success, done),
                Err(status) => (status as u16, Done::default()),
            },
        };
        let id = command.sqe.id;
        let posted = match fault {
            Some(FaultAction::Drop | FaultAction::Ignore) => {
                self.queue.forget(command);
                false
            }
            Some(FaultAction::WrongId | FaultAction::StrayId) => {
                self.queue.complete(command, !id, status, done)
            }
            Some(FaultAction::Result(result)) => {
                let done = Done { result, ..done };
                self.queue.complete(command, id, status, done)
            }
            _ => self.queue.complete(command, id, status, done),
        };
        if let Some(FaultAction::Late(ms)) = fault {
            self.delay(command, ms);
            if command.epoch.alive() {
                // Answered already: its result interests the log of the NIC alone.
                let _ = self.run(command, fault);
            }
        }
        if posted && done.flags & abi::DLR_CQE_F_EMPTY != 0 {
            if let Some(port) = self.ports.get(command.owner) {
                port.await_more();
            }
        }
    }

    fn run(&self, command: &Command, fault: Option<FaultAction>) -> Result<Done, Status> {
        let request = Request {
            command,
            memory: &*self.memory,
            vectors: self.config.vectors,
            // A refusal has to arrive before the driver gives up on the command.
            deadline: Instant::now() + self.config.cmd_timeout * 3 / 4,
        };
        let number = command.owner;
        ::log::debug!("function {number}: command {:#06x}", command.sqe.opcode);
        let opcode = u32::from(command.sqe.opcode);
        let port = match fault {
            Some(FaultAction::Elsewhere(other)) => self.ports.get(other),
            _ => self.ports.get(number),
        };
        let result = match port {
            Some(port) => execute(port, &request),
            None if opcode == abi::DLR_CMD_IDENTIFY_NIC => self.identify_nic(&request),
            None => Err(Status::InvalidFunction),
        };
        result.inspect_err(|status| {
            let hint = if command.sqe.as_bytes().iter().all(|&byte| byte == 0) {
                ". The entry is all zeros, as memory is that the client does not share: give it to \
                 QEMU with memory-backend-memfd,share=on"
            } else {
                ""
            };
            ::log::warn!("function {number}: command {opcode:#06x} failed: {status:?}{hint}");
        })
    }

    fn identify_nic(&self, request: &Request<'_>) -> Result<Done, Status> {
        zero(request.sqe().reserved0 == 0 && request.sqe().function == 0)?;
        request.flags(0)?;
        request.no_params()?;
        let mut answer = abi::dlr_identify_nic {
            version: abi::DLR_CONTRACT_VERSION,
            num_functions: self.ports.len() as u32,
            serial: self.config.serial,
            model: [0; 32],
            firmware: [0; 16],
        };
        pad(&mut answer.model, &self.config.model);
        pad(&mut answer.firmware, &self.config.firmware);
        let result = request.answer(&answer)?;
        Ok(Done { result, flags: 0 })
    }

    /// The thread that brings the status pages up to date after traffic and events.
    pub(super) fn keep_pages(&self) {
        while self.kick.wait() {
            for port in &self.ports {
                port.refresh_page();
            }
            thread::sleep(PAGE_PERIOD);
        }
    }
}

/// Spoils a parameter.
fn flip(command: &mut Command, at: usize) {
    if let Some(byte) = command.sqe.params.get_mut(at) {
        *byte ^= 1;
    }
}

/// Copies as much of `text` as fits, leaving a zero at the end.
fn pad(field: &mut [u8], text: &str) {
    let room = field.len().saturating_sub(1);
    for (to, from) in field.iter_mut().zip(text.bytes().take(room)) {
        *to = from;
    }
}
