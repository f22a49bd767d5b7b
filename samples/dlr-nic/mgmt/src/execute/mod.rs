// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The commands of a data function.

mod log;
mod state;

use dlr_abi::abi;
use dlr_core::FnState;

use self::{
    log::{log_add, log_start, log_stop, log_sync},
    state::{load_abort, load_begin, load_commit, load_write, save_begin, save_end, save_read},
};
use crate::{
    command::{zero, Request},
    log::{MAX_RANGES, PAGE_SHIFTS},
    port::{Port, Session},
    state::{MAX_STATE_BYTES, STATE_VERSION, STATE_VERSION_MIN},
    status::{Done, Status},
};

/// Executes one command of `port`'s function.
pub(crate) fn execute(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    let opcode = u32::from(request.sqe().opcode);
    zero(request.sqe().reserved0 == 0)?;
    if port.caps() & needed(opcode) != needed(opcode) {
        return Err(Status::InvalidOpcode);
    }
    let known = match opcode {
        abi::DLR_CMD_SAVE_READ => abi::DLR_SAVE_READ_F_FINAL,
        _ => 0,
    };
    let flags = request.flags(known);
    let no_arguments = || {
        request.no_params()?;
        request.no_buffer()
    };
    let result = match opcode {
        abi::DLR_CMD_IDENTIFY_FN => flags.and_then(|_| identify(port, request)),
        abi::DLR_CMD_STATUS_PAGE => flags.and_then(|_| status_page(port, request)),
        abi::DLR_CMD_ATTEST => flags.and_then(|_| attest(port, request)),
        abi::DLR_CMD_SUSPEND | abi::DLR_CMD_RESUME => flags.and_then(|_| level(port, request)),
        abi::DLR_CMD_SAVE_BEGIN => flags.and_then(|_| save_begin(port, request)),
        abi::DLR_CMD_SAVE_READ => flags.and_then(|flags| save_read(port, request, flags)),
        abi::DLR_CMD_LOAD_WRITE => flags.and_then(|_| load_write(port, request)),
        abi::DLR_CMD_LOG_START => flags.and_then(|_| log_start(port, request)),
        abi::DLR_CMD_LOG_ADD => flags.and_then(|_| log_add(port, request)),
        abi::DLR_CMD_LOG_SYNC => flags.and_then(|_| log_sync(port, request)),
        _ => {
            let run: fn(&Port) -> Result<(), Status> = match opcode {
                abi::DLR_CMD_SAVE_END => save_end,
                abi::DLR_CMD_LOAD_BEGIN => load_begin,
                abi::DLR_CMD_LOAD_COMMIT => load_commit,
                abi::DLR_CMD_LOAD_ABORT => load_abort,
                abi::DLR_CMD_LOG_STOP => log_stop,
                _ => return Err(Status::InvalidOpcode),
            };
            flags.and_then(|_| no_arguments())?;
            request.in_epoch(|| run(port))
        }
    };
    if needed(opcode) == abi::DLR_FN_CAP_LOG {
        // The page may have to wait for a command of the state row; the log row may not.
        port.kick();
    } else {
        port.refresh_page();
    }
    result
}

/// The ability (`DLR_FN_CAP_*`) without which there is no such command.
fn needed(opcode: u32) -> u32 {
    match opcode {
        abi::DLR_CMD_STATUS_PAGE => abi::DLR_FN_CAP_STATUS_PAGE,
        abi::DLR_CMD_SUSPEND
        | abi::DLR_CMD_RESUME
        | abi::DLR_CMD_SAVE_BEGIN
        | abi::DLR_CMD_SAVE_READ
        | abi::DLR_CMD_SAVE_END
        | abi::DLR_CMD_LOAD_BEGIN
        | abi::DLR_CMD_LOAD_WRITE
        | abi::DLR_CMD_LOAD_COMMIT
        | abi::DLR_CMD_LOAD_ABORT => abi::DLR_FN_CAP_STATE,
        abi::DLR_CMD_LOG_START
        | abi::DLR_CMD_LOG_ADD
        | abi::DLR_CMD_LOG_SYNC
        | abi::DLR_CMD_LOG_STOP => abi::DLR_FN_CAP_LOG,
        _ => 0,
    }
}

fn identify(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_params()?;
    let answer = abi::dlr_identify_fn {
        caps: port.caps(),
        page_shift_min: *PAGE_SHIFTS.start() as u16,
        page_shift_max: *PAGE_SHIFTS.end() as u16,
        ring_order_min: abi::DLR_LOG_RING_MIN_ORDER as u16,
        ring_order_max: abi::DLR_LOG_RING_MAX_ORDER as u16,
        max_ranges: MAX_RANGES as u16,
        iova_bits: port.iova_bits as u16,
        compat: port.compat,
        state_version_min: STATE_VERSION_MIN,
        state_version: STATE_VERSION,
        max_state_bytes: MAX_STATE_BYTES,
        reserved: [0; 2],
    };
    let result = request.answer(&answer)?;
    Ok(Done { result, flags: 0 })
}

fn status_page(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_params()?;
    let (addr, len) = (request.sqe().addr, request.sqe().len);
    let page = u64::from(abi::DLR_STATUS_PAGE_SIZE);
    zero(addr % page == 0 && (len == 0 || u64::from(len) >= page && addr != 0))?;
    request.in_epoch(|| port.set_page((addr != 0).then_some(addr)))
}

fn attest(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_buffer()?;
    let params: abi::dlr_attest_params = request.params()?;
    zero(params.reserved == [0; 8])?;
    request.in_epoch(|| {
        if port.attest(params.nonce) {
            Ok(())
        } else {
            Err(Status::Internal)
        }
    })
}

fn level(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_buffer()?;
    let params: abi::dlr_level_params = request.params()?;
    zero(params.reserved == [0; 9])?;
    let p2p = port.caps() & abi::DLR_FN_CAP_P2P != 0;
    let to = match params.state {
        abi::DLR_FN_RUNNING => FnState::Running,
        abi::DLR_FN_RUNNING_P2P if p2p => FnState::RunningP2p,
        abi::DLR_FN_STOPPED => FnState::Stopped,
        _ => return Err(Status::InvalidField),
    };
    let function = port.need_function()?;
    let now = function.state();
    let down = u32::from(request.sqe().opcode) == abi::DLR_CMD_SUSPEND;
    if now == to {
        return Ok(Done::default());
    }
    // States from RUNNING on, in the order of a suspension.
    let ladder: &[FnState] = if p2p {
        &[FnState::Running, FnState::RunningP2p, FnState::Stopped]
    } else {
        &[FnState::Running, FnState::Stopped]
    };
    let step = |from, to| ladder.windows(2).any(|pair| pair == [from, to]);
    if down && step(now, to) {
        function.suspend(to);
        port.log.flush_at_suspend();
    } else if !down && step(to, now) {
        if now == FnState::Stopped {
            if matches!(port.slot().session, Session::Load(_)) {
                return Err(Status::InvalidState);
            }
            port.count_resume();
        }
        function.resume(to);
    } else {
        return Err(Status::InvalidState);
    }
    Ok(Done::default())
}
