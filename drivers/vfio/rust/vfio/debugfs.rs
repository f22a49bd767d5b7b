// SPDX-License-Identifier: GPL-2.0

//! Debugfs files of a function with a log ring: `state`, `session` and `log` in a directory of the
//! function below that of the module. Each has one `name value` pair per line.

use super::{
    dirty::{
        log::Log,
        ring::{
            device::LogDevice,
            tracker::{
                RingShared,
                RingTracker, //
            },
        },
    },
    migration::{
        engine::Engine,
        view::View, //
    },
};
use crate::ext;
use kernel::{
    debugfs::Scope,
    fmt, new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// Log and migration of a function, for readers that do not hold their locks.
pub(crate) struct Shared<E: Engine, D: LogDevice + Send + Sync + 'static> {
    /// Log of the function.
    pub(crate) logging: Arc<Log<RingTracker<D>>>,
    /// State that all log rings of the function share.
    pub(crate) rings: Arc<RingShared>,
    /// Migration state and session.
    pub(crate) migration: Arc<View<E>>,
}

/// The directory and the data that it shows. Dropping it removes the files.
type Directory<E, D> = Pin<KBox<Scope<Arc<Shared<E, D>>>>>;

/// The directory of a function, from bind to unbind.
#[pin_data]
pub(crate) struct Files<E: Engine, D: LogDevice + Send + Sync + 'static> {
    #[pin]
    scope: Mutex<Option<Directory<E, D>>>,
}

impl<E: Engine, D: LogDevice + Send + Sync + 'static> Files<E, D> {
    /// Creates the directory. Without debugfs there is none, which is no error.
    pub(crate) fn new(name: &CStr, shared: &Arc<Shared<E, D>>) -> impl PinInit<Self> {
        let scope = make(name, shared.clone());
        pin_init!(Self {
            scope <- new_mutex!(scope, "vfio_debugfs"),
        })
    }

    /// Removes the directory. Waits for threads that read its files.
    pub(crate) fn remove(&self) {
        let scope = self.scope.lock().take();
        drop(scope);
    }
}

fn make<E: Engine, D: LogDevice + Send + Sync + 'static>(
    name: &CStr,
    shared: Arc<Shared<E, D>>,
) -> Option<Directory<E, D>> {
    let root = ext::debugfs::root()?;
    let scope = root.scope(shared, name, |shared, dir| {
        dir.read_callback_file(c"state", shared, &show_state::<E, D>);
        dir.read_callback_file(c"session", shared, &show_session::<E, D>);
        dir.read_callback_file(c"log", shared, &show_log::<E, D>);
    });
    KBox::pin_init(scope, GFP_KERNEL).ok()
}

fn show_state<E: Engine, D: LogDevice + Send + Sync + 'static>(
    shared: &Arc<Shared<E, D>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    writeln!(f, "{}", shared.migration.state().name())
}

fn show_session<E: Engine, D: LogDevice + Send + Sync + 'static>(
    shared: &Arc<Shared<E, D>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let current = shared.migration.current();
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

fn show_log<E: Engine, D: LogDevice + Send + Sync + 'static>(
    shared: &Arc<Shared<E, D>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let snapshot = shared.logging.snapshot();
    writeln!(f, "active {}", u32::from(snapshot.is_some()))?;
    if let Some(log) = snapshot {
        writeln!(f, "page_size {}", 1u64.checked_shl(log.shift).unwrap_or(0))?;
        writeln!(f, "ring_entries {}", log.tracker.entries)?;
        writeln!(f, "tracked_ranges {}", log.ranges)?;
        writeln!(f, "bitmap_bytes {}", log.memory)?;
        writeln!(f, "lost {}", u32::from(log.tracker.lost))?;
        writeln!(f, "error {}", log.error)?;
    }
    let reports = shared.logging.stats().counts();
    writeln!(f, "reports {}", reports.reports)?;
    writeln!(f, "clean_reports {}", reports.clean)?;
    writeln!(f, "reported_pages {}", reports.pages)?;
    writeln!(f, "dirty_pages_per_second {}", reports.pages_per_second)?;
    let rings = shared.rings.stats.counts();
    writeln!(f, "entries {}", rings.entries)?;
    writeln!(f, "entry_granules {}", rings.granules)?;
    writeln!(f, "lost_count {}", rings.lost)?;
    writeln!(f, "syncs {}", rings.syncs)?;
    writeln!(f, "sync_last_ns {}", rings.sync_last_ns)?;
    writeln!(f, "sync_mean_ns {}", rings.sync_mean_ns)?;
    writeln!(f, "sync_max_ns {}", rings.sync_max_ns)
}
