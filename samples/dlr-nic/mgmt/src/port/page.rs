// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The status page of a function, and the event "more to read" that goes with it.

use std::sync::atomic::Ordering;

use dlr_abi::abi;

use super::{Port, Session};
use crate::{state::save::SaveSession, status::Status, status_page::Snapshot};

impl Port {
    /// Moves the status page. Ok when it is valid, or will not be written any more.
    pub(crate) fn set_page(&self, addr: Option<u64>) -> Result<(), Status> {
        self.page.lock().set(addr);
        if self.refresh_page() {
            Ok(())
        } else {
            Err(Status::DmaFault)
        }
    }

    /// An injected fault: updates of the page do not end (`true`).
    pub(crate) fn tear_page(&self, torn: bool) {
        self.page.lock().tear(torn);
        self.refresh_page();
    }

    /// The driver has given the page a place.
    pub(crate) fn has_page(&self) -> bool {
        self.page.lock().wanted()
    }

    /// A SAVE_READ has completed with EMPTY: the event "more to read" is owed.
    pub(crate) fn await_more(&self) {
        if let Session::Save(save) = &mut self.slot().session {
            save.await_more();
        }
        self.refresh_page();
    }

    /// The status page is to be brought up to date soon.
    pub(crate) fn kick(&self) {
        self.kick.kick();
    }

    /// Brings the status page up to date, and raises the event "more to read" if it is owed and
    /// due. False when the page cannot be reached.
    pub(crate) fn refresh_page(&self) -> bool {
        let mut page = self.page.lock();
        let (snapshot, event) = self.look(true);
        let reached = page.update(&snapshot);
        if let Some(vector) = event {
            let lose = |n: u64| n.checked_sub(1);
            let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
            if self.lose_events.fetch_update(set, fetch, lose).is_err() {
                self.events.fetch_add(1, Ordering::Relaxed);
                self.interrupt.trigger(vector);
            }
        }
        reached
    }

    /// What the status page shows.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.look(false).0
    }

    /// What the status page shows, and the vector of an event that is due and, with `take`, owed
    /// no longer.
    fn look(&self, take: bool) -> (Snapshot, Option<u16>) {
        let mut slot = self.slot();
        let mut event = None;
        let pending = match &mut slot.session {
            Session::Save(save) => {
                if take {
                    event = save.take_event();
                }
                save.pending()
            }
            _ => SaveSession::pending_without_session(&self.flow),
        };
        let (log_lost_count, failed) = self.log.health();
        let snapshot = Snapshot {
            health: u32::from(failed) * abi::DLR_HEALTH_LOG_FAILED,
            pending,
            reinit_count: slot.reinits,
            log_lost_count,
        };
        (snapshot, event)
    }
}
