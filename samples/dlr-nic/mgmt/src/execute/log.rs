// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Commands of the log row.

use std::time::Duration;

use dlr_abi::abi;
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    command::{zero, Request},
    log::{check_range, LogParams, SyncRange, MAX_RANGES, PAGE_SHIFTS},
    port::Port,
    status::{Done, Status},
};

/// A range of a command lies within the address bits of the function's log.
fn within(port: &Port, iova: u64, length: u64) -> Result<(), Status> {
    let end = iova.checked_add(length).ok_or(Status::InvalidField)?;
    zero(end <= 1 << port.iova_bits)
}

pub(super) fn log_start(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    let params: abi::dlr_log_start_params = request.params()?;
    zero(params.reserved == [0; 4] && params.hold_us <= abi::DLR_LOG_MAX_HOLD_US)?;
    zero(params.hold_us == 0 || port.caps() & abi::DLR_FN_CAP_HOLD != 0)?;
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
        within(port, range.iova, range.length)?;
    }
    let params = LogParams {
        ring: params.ring,
        order,
        vector: params.vector,
        threshold: params.irq_threshold,
        page_shift: shift,
        hold: Duration::from_micros(params.hold_us.into()),
        ranges: ranges.iter().map(|r| (r.iova, r.length)).collect(),
    };
    let function = port.function();
    request.in_epoch(|| port.log.start(function.as_deref(), &params))
}

pub(super) fn log_add(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_params()?;
    let mut raw = [0; size_of::<abi::dlr_range>()];
    zero(request.sqe().len as usize == raw.len())?;
    request.read(0, &mut raw)?;
    let range = abi::dlr_range::read_from_bytes(&raw).map_err(|_| Status::Internal)?;
    within(port, range.iova, range.length)?;
    port.log.add(range.iova, range.length)?;
    Ok(Done::default())
}

pub(super) fn log_sync(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_buffer()?;
    let params: abi::dlr_log_sync_params = request.params()?;
    zero(params.reserved == [0; 3] && params.flags & !abi::DLR_LOG_SYNC_F_ALL == 0)?;
    zero(params.cookie >> abi::DLR_LOG_COOKIE_BITS == 0)?;
    let range = if params.flags & abi::DLR_LOG_SYNC_F_ALL != 0 {
        zero(params.iova == 0 && params.length == 0)?;
        SyncRange::All
    } else {
        check_range(params.iova, params.length, *PAGE_SHIFTS.start())?;
        within(port, params.iova, params.length)?;
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

pub(super) fn log_stop(port: &Port) -> Result<(), Status> {
    port.log.stop();
    port.room();
    Ok(())
}
