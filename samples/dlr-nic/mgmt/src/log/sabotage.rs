// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Broken rules that take more than a line.

use std::{sync::Arc, thread, time::Duration};

use dlr_core::SabotageKind;

use super::{engine::LogEngine, ranges::Ranges};

impl LogEngine {
    /// What SUSPEND posts (R7). With [`SabotageKind::EntryAfterSuspend`] it is taken out of the log
    /// and posted later, so that neither POSTED nor SYNC heals it.
    pub(crate) fn flush_at_suspend(self: &Arc<Self>) {
        let Some(ms) = self.sabotage.get(SabotageKind::EntryAfterSuspend) else {
            return self.flush();
        };
        let mut inner = self.inner.lock();
        let run = inner.session.as_mut().and_then(|s| s.open_run.take());
        let Some(run) = run else { return };
        let start = inner.starts;
        inner.stats.sabotaged += 1;
        log::warn!("sabotage: an entry comes {ms} ms after the suspension");
        let this = Arc::clone(self);
        let late = move || {
            thread::sleep(Duration::from_millis(ms));
            let mut inner = this.inner.lock();
            if inner.starts != start {
                return;
            }
            this.flush_locked(&mut inner);
            if let Some(session) = inner.session.as_mut() {
                session.open_run = Some(run);
            }
            this.flush_locked(&mut inner);
        };
        let name = "mgmt:late-entry".into();
        if let Err(e) = thread::Builder::new().name(name).spawn(late) {
            log::error!("sabotage: {e}");
        }
    }

    /// The function was reset. A right log takes no notice (R8).
    pub(crate) fn function_reset(&self) {
        if self.sabotage.get(SabotageKind::ResetEndsLog).is_none() {
            return;
        }
        if let Some(session) = self.inner.lock().session.as_mut() {
            session.ranges = Ranges::default();
        }
    }
}
