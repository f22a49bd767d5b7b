// SPDX-License-Identifier: GPL-2.0

//! Files of one function in debugfs: `<debugfs>/dlr_vfio_pci/<function>/{state,session,log}`.
//! One `name value` pair a line.

use super::shared::Shared;
use crate::kext;
use kernel::{
    debugfs::Scope,
    fmt, new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// Files and what they show. Removed when dropped.
type Directory = Pin<KBox<Scope<Arc<Shared>>>>;

/// The directory of a function, from bind to unbind.
#[pin_data]
pub(super) struct Files {
    #[pin]
    scope: Mutex<Option<Directory>>,
}

impl Files {
    /// Makes the directory. Without debugfs there is none, which is no error.
    pub(super) fn new(name: &CStr, shared: &Arc<Shared>) -> impl PinInit<Self> {
        let scope = make(name, shared.clone());
        pin_init!(Self {
            scope <- new_mutex!(scope, "dlr_vf_debugfs"),
        })
    }

    /// Removes it. Waits for readers.
    pub(super) fn remove(&self) {
        let scope = self.scope.lock().take();
        drop(scope);
    }
}

fn make(name: &CStr, shared: Arc<Shared>) -> Option<Directory> {
    let root = kext::debugfs::root()?;
    let scope = root.scope(shared, name, |shared, dir| {
        dir.read_callback_file(c"state", shared, &show_state);
        dir.read_callback_file(c"session", shared, &show_session);
        dir.read_callback_file(c"log", shared, &show_log);
    });
    KBox::pin_init(scope, GFP_KERNEL).ok()
}

fn show_state(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(f, "{}", shared.state.get().name())
}

fn show_session(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let current = shared.current();
    if let Some(save) = &current.save {
        writeln!(f, "saved_bytes {}", save.taken())?;
        writeln!(f, "unread_bytes {}", save.unread())?;
    }
    if let Some(load) = &current.load {
        writeln!(f, "loaded_bytes {}", load.bytes())?;
        writeln!(f, "committed {}", u32::from(load.is_committed()))?;
    }
    Ok(())
}

fn show_log(shared: &Arc<Shared>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let snapshot = shared.logging.snapshot();
    writeln!(f, "active {}", u32::from(snapshot.is_some()))?;
    if let Some(log) = snapshot {
        writeln!(f, "page_size {}", 1u64.checked_shl(log.shift).unwrap_or(0))?;
        writeln!(f, "ring_entries {}", log.ring_entries)?;
        writeln!(f, "tracked_ranges {}", log.ranges)?;
        writeln!(f, "bitmap_bytes {}", log.memory)?;
        writeln!(f, "waiting_granules {}", log.waiting)?;
        writeln!(f, "lost {}", u32::from(log.lost))?;
        writeln!(f, "error {}", log.error)?;
    }
    let counts = shared.logging.stats.counts();
    writeln!(f, "reports {}", counts.reports)?;
    writeln!(f, "clean_reports {}", counts.clean)?;
    writeln!(f, "reported_pages {}", counts.pages)?;
    writeln!(f, "dirty_pages_per_second {}", counts.pages_per_second)?;
    writeln!(f, "entries {}", counts.entries)?;
    writeln!(f, "entry_granules {}", counts.granules)?;
    writeln!(f, "lost_count {}", counts.lost)?;
    writeln!(f, "syncs {}", counts.syncs)?;
    writeln!(f, "sync_last_ns {}", counts.sync_last_ns)?;
    writeln!(f, "sync_mean_ns {}", counts.sync_mean_ns)?;
    writeln!(f, "sync_max_ns {}", counts.sync_max_ns)
}
