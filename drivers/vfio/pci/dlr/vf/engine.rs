// SPDX-License-Identifier: GPL-2.0

//! The layer's [`Engine`] for a data function: it submits commands to the management function.
//!
//! C header: [`include/uapi/linux/vfio.h`](srctree/include/uapi/linux/vfio.h)

use super::{
    load::Sink,
    pair::Pair,
    save::{
        pending,
        Source, //
    },
};
use crate::{
    ext::{
        budget::Budget,
        lookup::Lookup, //
    },
    mgmt::Function,
    proto::FnState,
    trace,
    vfio::{
        migration::{
            accounting::Pending,
            engine::{
                Engine,
                WaitLimit, //
            },
            load::LoadStart,
            save::SaveStart,
            state::{
                RunLevel,
                State, //
            },
        },
        pairing::Pairing,
        PciFunction, //
    },
};
use kernel::{
    fmt,
    new_spinlock,
    prelude::*,
    sync::SpinLock, //
};

/// Arguments of the engine's calls during one transition of the migration state.
pub(crate) struct Context<'a> {
    pub(super) pdev: PciFunction<'a>,
    pub(super) pairing: &'a Pairing<Pair>,
    /// The function's handle. May search for the management function.
    pub(super) function: Lookup<'a, Function>,
}

/// The migration engine of a data function.
#[pin_data]
pub(crate) struct DlrEngine {
    /// Handle of the function from the last transition, for a recovery. No other lock is taken with
    /// this one held.
    #[pin]
    last: SpinLock<Option<Function>>,
}

impl DlrEngine {
    /// Creates an engine without a handle.
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            last <- new_spinlock!(None, "dlr_engine_last"),
        })
    }
}

impl Engine for DlrEngine {
    type Context<'a> = Context<'a>;
    type Save = Source;
    type Load = Sink;

    fn attach(&self, cx: &Context<'_>) -> Result {
        let function = cx.function.get()?.clone();
        let old = self.last.lock().replace(function);
        // Drop the old handle outside the lock, because this may be the last reference to the
        // service.
        drop(old);
        Ok(())
    }

    fn set_level(
        &self,
        cx: &Context<'_>,
        from: RunLevel,
        to: RunLevel,
        limit: WaitLimit<'_>,
    ) -> Result {
        let function = cx.function.get()?;
        let state = fn_state(to);
        match (is_suspend(from, to), limit) {
            (true, WaitLimit::Killable) => function.suspend(state),
            (false, WaitLimit::Killable) => function.resume(state),
            (true, WaitLimit::Within(budget)) => function.suspend_within(state, budget),
            (false, WaitLimit::Within(budget)) => function.resume_within(state, budget),
        }
    }

    fn begin_save(&self, cx: &Context<'_>, _stopped: bool) -> Result<SaveStart<Source>> {
        Source::begin(cx.function.get()?)
    }

    fn begin_load(&self, cx: &Context<'_>) -> Result<LoadStart<Sink>> {
        Sink::begin(cx.function.get()?)
    }

    /// Ends a save and a load session, because the driver does not know which of them exists. Both
    /// commands succeed without one.
    fn end_sessions(&self, cx: &Context<'_>) -> Result {
        let function = cx.function.get()?;
        let budget = Budget::new();
        function.save_end_within(&budget)?;
        function.load_abort_within(&budget)
    }

    /// Reads the status page from memory. Does not search for the management function.
    fn pending(&self, cx: &Context<'_>) -> Result<Pending> {
        Ok(pending(&cx.pairing.paired()?.status()?))
    }

    fn recover(&self) -> Result {
        let last = self.last.lock().clone();
        last.map_or(Ok(()), |function| function.recover())
    }

    fn arc_ended(&self, cx: &Context<'_>, from: State, to: State, errno: i32) {
        trace::migration_step(cx.pdev.name(), from.to_raw(), to.to_raw(), errno);
    }

    fn warn(&self, cx: &Context<'_>, message: fmt::Arguments<'_>) {
        dev_err!(cx.pdev, "{}\n", message);
    }
}

/// Converts a run level of the layer to a state of the contract.
fn fn_state(level: RunLevel) -> FnState {
    match level {
        RunLevel::Running => FnState::Running,
        RunLevel::RunningP2p => FnState::RunningP2p,
        RunLevel::Stopped => FnState::Stopped,
    }
}

/// Returns whether SUSPEND leads from one run level to the other. Otherwise RESUME does.
fn is_suspend(from: RunLevel, to: RunLevel) -> bool {
    to > from
}

#[kunit_tests(dlr_vf_engine)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_its_command() {
        use RunLevel::{
            Running,
            RunningP2p,
            Stopped, //
        };

        for (less, more) in [
            (Running, RunningP2p),
            (RunningP2p, Stopped),
            (Running, Stopped),
        ] {
            assert!(is_suspend(less, more));
            assert!(!is_suspend(more, less));
        }
        for (level, state) in [
            (Running, FnState::Running),
            (RunningP2p, FnState::RunningP2p),
            (Stopped, FnState::Stopped),
        ] {
            assert_eq!(fn_state(level), state);
        }
    }
}
