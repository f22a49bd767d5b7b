// SPDX-License-Identifier: GPL-2.0

//! State of a recovery, which one thread at a time advances under `Queue::desk`.

use super::state::State;
use crate::mgmt::{
    command::Request,
    fate::{
        Dropped,
        Judge, //
    },
    life::Millis,
    throttle::Throttle, //
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

/// State that the steps of a recovery need.
pub(super) struct Desk {
    judge: Judge,
    /// Commands that were dropped, and their description at that time, because a waiter may leave
    /// while the driver decides about them. Empty between steps.
    pub(super) dropped: KVec<(Arc<Request>, Dropped)>,
    /// Time at which the abort of a function is overdue.
    pub(super) abort_until: KVec<Millis>,
    pub(super) throttle: Throttle,
}

impl Desk {
    /// Allocates the state for `slots` slots and `functions` functions.
    pub(super) fn new(slots: usize, functions: usize) -> Result<Self> {
        Ok(Self {
            judge: Judge::new(functions)?,
            // Room for the commands of all slots, or for all that the line submits again.
            dropped: KVec::with_capacity(slots.saturating_add(functions), GFP_KERNEL)?,
            abort_until: KVec::from_elem(0, functions, GFP_KERNEL)?,
            throttle: Throttle::new(),
        })
    }

    /// Takes the commands that `of` chooses from their slots and decides what becomes of them.
    /// Commands that are submitted again go to the line; their number is returned. `lost` means
    /// that the device has lost its sessions and logs, so that no command is submitted again.
    pub(super) fn judge(
        &mut self,
        state: &mut State,
        of: impl Fn(&Request) -> bool,
        lost: bool,
    ) -> usize {
        let Self { judge, dropped, .. } = self;
        let State {
            slots,
            admission,
            line,
            ..
        } = state;
        judge.open();
        slots.remove_if(
            |request| of(request),
            |request| {
                admission.give(request.function(), request.class());
                let mut what = request.dropped();
                what.waited_for &= !lost;
                judge.hear(&what);
                // There is room for as many as there are slots.
                if let Err(error) = dropped.push_within_capacity((request, what)) {
                    error.0 .0.finish(Err(EIO));
                }
            },
        );
        let mut again = 0usize;
        for (request, what) in dropped.iter() {
            let error = match judge.fate(what).error() {
                None if line.again(request.order(), request.clone()).is_ok() => {
                    request.count_again();
                    again = again.saturating_add(1);
                    continue;
                }
                None => EIO,
                Some(error) => error,
            };
            request.give_back();
            request.finish(Err(error));
        }
        again
    }
}
