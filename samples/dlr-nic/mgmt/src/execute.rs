// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The commands of a data function.

use dlr_abi::abi;
use dlr_core::FnState;
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    command::{zero, Request},
    log::{check_range, LogParams, SyncRange, IOVA_BITS, MAX_RANGES, PAGE_SHIFTS},
    port::{Port, Session},
    state::{load::LoadSession, save::SaveSession, COMPAT, MAX_STATE_BYTES, STATE_VERSION},
    status::{Done, Status},
};

/// Bytes that LOAD_WRITE takes from the buffer at a time.
const LOAD_PIECE: usize = 64 << 10;
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
        abi::DLR_CMD_SUSPEND | abi::DLR_CMD_RESUME => flags.and_then(|_| level(port, request)),
        abi::DLR_CMD_SAVE_READ => flags.and_then(|flags| save_read(port, request, flags)),
        abi::DLR_CMD_LOAD_WRITE => flags.and_then(|_| load_write(port, request)),
        abi::DLR_CMD_LOG_START => flags.and_then(|_| log_start(port, request)),
        abi::DLR_CMD_LOG_ADD => flags.and_then(|_| log_add(port, request)),
        abi::DLR_CMD_LOG_SYNC => flags.and_then(|_| log_sync(port, request)),
        _ => {
            let run: fn(&Port) -> Result<(), Status> = match opcode {
                abi::DLR_CMD_SAVE_BEGIN => save_begin,
                abi::DLR_CMD_SAVE_END => save_end,
                abi::DLR_CMD_LOAD_BEGIN => load_begin,
                abi::DLR_CMD_LOAD_COMMIT => load_commit,
                abi::DLR_CMD_LOAD_ABORT => load_abort,
                abi::DLR_CMD_LOG_STOP => log_stop,
                _ => return Err(Status::InvalidOpcode),
            };
            flags.and_then(|_| no_arguments())?;
            // Inside the epoch: after the reset handshake no session begins any more.
            let result = request.command.epoch.run(|| run(port));
            result
                .unwrap_or(Err(Status::Internal))
                .map(|()| Done::default())
        }
    };
    port.refresh_page();
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
        iova_bits: IOVA_BITS as u16,
        compat: COMPAT,
        state_version_min: STATE_VERSION,
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
    // Inside the epoch: a page of a queue that was reset must not come into use.
    let set = request
        .command
        .epoch
        .run(|| port.set_page((addr != 0).then_some(addr)));
    set.unwrap_or(Err(Status::Internal))
        .map(|()| Done::default())
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
        port.log.flush();
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

fn save_begin(port: &Port) -> Result<(), Status> {
    let mut slot = port.slot();
    match slot.session {
        Session::None => {
            slot.session = Session::Save(SaveSession::new(port.flow.clone()));
            Ok(())
        }
        _ => Err(Status::Busy),
    }
}

fn save_read(port: &Port, request: &Request<'_>, flags: u32) -> Result<Done, Status> {
    request.no_params()?;
    let fin = flags & abi::DLR_SAVE_READ_F_FINAL != 0;
    zero(request.sqe().len > 0 && (fin || port.caps() & abi::DLR_FN_CAP_PRECOPY != 0))?;
    let max = request.sqe().len as usize;
    let mut slot = port.slot();
    let Session::Save(save) = &mut slot.session else {
        return Err(Status::InvalidState);
    };
    let (data, done) = if !fin {
        save.read(max)?
    } else {
        let function = port.need_function()?;
        if function.state() != FnState::Stopped {
            return Err(Status::InvalidState);
        }
        save.read_final(max, &*function, port.resumes(), &port.sabotage)?
    };
    if !data.is_empty() {
        if let Err(status) = request.write(&data) {
            save.unread(data);
            return Err(status);
        }
    }
    port.count_state(data.len(), 0);
    Ok(Done {
        result: data.len() as u32,
        ..done
    })
}

fn save_end(port: &Port) -> Result<(), Status> {
    let mut slot = port.slot();
    if matches!(slot.session, Session::Save(_)) {
        slot.session = Session::None;
    }
    Ok(())
}

fn load_begin(port: &Port) -> Result<(), Status> {
    let function = port.need_function()?;
    let mut slot = port.slot();
    if function.state() != FnState::Stopped {
        return Err(Status::InvalidState);
    }
    match slot.session {
        Session::None => {
            slot.session = Session::Load(Box::new(LoadSession::new(port.flow.clone())));
            Ok(())
        }
        _ => Err(Status::Busy),
    }
}

fn load_write(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_params()?;
    zero(request.sqe().len > 0)?;
    let mut slot = port.slot();
    let Session::Load(load) = &mut slot.session else {
        return Err(Status::InvalidState);
    };
    let len = request.sqe().len as usize;
    let mut piece = vec![0; LOAD_PIECE.min(len)];
    let mut at = 0;
    while at < len {
        let count = LOAD_PIECE.min(len - at);
        let Some(now) = piece.get_mut(..count) else {
            return Err(Status::Internal);
        };
        let read = request.read(at as u64, now);
        if let Err(status) = read.and_then(|()| load.write(now)) {
            log::warn!("load refused: {status:?}");
            slot.session = Session::None;
            port.reset_function();
            return Err(status);
        }
        port.count_state(0, count);
        at += count;
    }
    Ok(Done::default())
}

fn load_commit(port: &Port) -> Result<(), Status> {
    let function = port.need_function()?;
    let mut slot = port.slot();
    if !matches!(slot.session, Session::Load(_)) {
        return Err(Status::InvalidState);
    }
    // Whatever comes out, the session is over.
    let Session::Load(load) = std::mem::replace(&mut slot.session, Session::None) else {
        return Err(Status::Internal);
    };
    load.commit(&*function).inspect_err(|status| {
        log::warn!("load commit refused: {status:?}");
        port.reset_function();
    })
}

fn load_abort(port: &Port) -> Result<(), Status> {
    let mut slot = port.slot();
    if matches!(slot.session, Session::Load(_)) {
        slot.session = Session::None;
        port.reset_function();
    }
    Ok(())
}

fn log_start(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    let params: abi::dlr_log_start_params = request.params()?;
    zero(params.reserved == [0; 5])?;
    let (order, shift) = (u32::from(params.ring_order), u32::from(params.page_shift));
    zero((abi::DLR_LOG_RING_MIN_ORDER..=abi::DLR_LOG_RING_MAX_ORDER).contains(&order))?;
    zero(PAGE_SHIFTS.contains(&shift))?;
    let bytes = u64::from(abi::DLR_LOG_ENTRY_SIZE) << order;
    zero(params.ring % bytes.min(4096) == 0 && params.ring.checked_add(bytes).is_some())?;
    zero(params.vector < request.vectors)?;
    zero((1..=1 << order).contains(&params.irq_threshold))?;
    zero((1..=MAX_RANGES).contains(&usize::from(params.num_ranges)))?;
    let size = size_of::<abi::dlr_range>();
    zero(request.sqe().len as usize == usize::from(params.num_ranges) * size)?;
    let mut ranges = vec![abi::dlr_range { iova: 0, length: 0 }; params.num_ranges.into()];
    request.read(0, ranges.as_mut_bytes())?;
    for range in &ranges {
        check_range(range.iova, range.length, shift)?;
    }
    let params = LogParams {
        ring: params.ring,
        order,
        vector: params.vector,
        threshold: params.irq_threshold,
        page_shift: shift,
        ranges: ranges.iter().map(|r| (r.iova, r.length)).collect(),
    };
    // Inside the epoch: a ring of a queue that was reset must not come into use.
    let function = port.function();
    let start = || port.log.start(function.as_deref(), &params);
    let started = request.command.epoch.run(start);
    started
        .unwrap_or(Err(Status::Internal))
        .map(|()| Done::default())
}

fn log_add(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_params()?;
    let mut raw = [0; size_of::<abi::dlr_range>()];
    zero(request.sqe().len as usize == raw.len())?;
    request.read(0, &mut raw)?;
    let range = abi::dlr_range::read_from_bytes(&raw).map_err(|_| Status::Internal)?;
    port.log.add(range.iova, range.length)?;
    Ok(Done::default())
}

fn log_sync(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_buffer()?;
    let params: abi::dlr_log_sync_params = request.params()?;
    zero(params.reserved == [0; 3] && params.flags & !abi::DLR_LOG_SYNC_F_ALL == 0)?;
    zero(params.cookie >> abi::DLR_LOG_COOKIE_BITS == 0)?;
    let range = if params.flags & abi::DLR_LOG_SYNC_F_ALL != 0 {
        zero(params.iova == 0 && params.length == 0)?;
        SyncRange::All
    } else {
        check_range(params.iova, params.length, *PAGE_SHIFTS.start())?;
        SyncRange::Part {
            iova: params.iova,
            length: params.length,
        }
    };
    let function = port.function();
    port.log.sync(
        function.as_deref(),
        range,
        params.cookie,
        request.deadline,
        &|| request.command.epoch.alive(),
    )?;
    Ok(Done::default())
}

fn log_stop(port: &Port) -> Result<(), Status> {
    port.log.stop();
    Ok(())
}
