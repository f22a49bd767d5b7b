// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Commands of save and load sessions.

use dlr_abi::abi;
use dlr_core::FnState;

use crate::{
    command::{zero, Request},
    port::{Port, Session},
    state::{load::LoadSession, save::SaveSession},
    status::{Done, Status},
};

/// Bytes that LOAD_WRITE takes from the buffer at a time.
const LOAD_PIECE: usize = 64 << 10;

pub(super) fn save_begin(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
    request.no_buffer()?;
    let params: abi::dlr_save_begin_params = request.params()?;
    zero(params.reserved0 == 0 && params.reserved == [0; 9])?;
    let vector = (u32::from(params.vector) != abi::DLR_NO_VECTOR).then_some(params.vector);
    zero(vector.is_none_or(|vector| vector < request.vectors))?;
    request.in_epoch(|| {
        let mut slot = port.slot();
        match slot.session {
            Session::None => {
                let save = SaveSession::new(port.compat, port.flow.clone(), vector);
                slot.session = Session::Save(save);
                Ok(())
            }
            _ => Err(Status::Busy),
        }
    })
}

pub(super) fn save_read(port: &Port, request: &Request<'_>, flags: u32) -> Result<Done, Status> {
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
            save.unread(&data);
            return Err(status);
        }
    }
    port.count_state(data.len(), 0);
    Ok(Done {
        result: data.len() as u32,
        ..done
    })
}

pub(super) fn save_end(port: &Port) -> Result<(), Status> {
    let mut slot = port.slot();
    if matches!(slot.session, Session::Save(_)) {
        slot.session = Session::None;
    }
    Ok(())
}

pub(super) fn load_begin(port: &Port) -> Result<(), Status> {
    let function = port.need_function()?;
    let mut slot = port.slot();
    if function.state() != FnState::Stopped {
        return Err(Status::InvalidState);
    }
    match slot.session {
        Session::None => {
            slot.session =
                Session::Load(Box::new(LoadSession::new(port.compat, port.flow.clone())));
            Ok(())
        }
        _ => Err(Status::Busy),
    }
}

pub(super) fn load_write(port: &Port, request: &Request<'_>) -> Result<Done, Status> {
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
            port.reset_after_load(&slot);
            return Err(status);
        }
        port.count_state(0, count);
        at += count;
    }
    Ok(Done::default())
}

pub(super) fn load_commit(port: &Port) -> Result<(), Status> {
    let function = port.need_function()?;
    let mut slot = port.slot();
    if !matches!(slot.session, Session::Load(_)) {
        return Err(Status::InvalidState);
    }
    // Whatever comes out, the session is over.
    let Session::Load(load) = std::mem::replace(&mut slot.session, Session::None) else {
        return Err(Status::Internal);
    };
    let committed = load.commit(&*function);
    if port.reset_since(&slot) {
        // The function runs for its guest, as after power-on: nothing of the image may stay.
        port.flow.clear();
        return Err(Status::InvalidState);
    }
    committed.inspect_err(|status| {
        log::warn!("load commit refused: {status:?}");
        port.reset_after_load(&slot);
    })
}

pub(super) fn load_abort(port: &Port) -> Result<(), Status> {
    let mut slot = port.slot();
    if matches!(slot.session, Session::Load(_)) {
        slot.session = Session::None;
        port.reset_after_load(&slot);
    }
    Ok(())
}
