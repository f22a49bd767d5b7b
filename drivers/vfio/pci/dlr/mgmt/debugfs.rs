// SPDX-License-Identifier: GPL-2.0

//! Debugfs files of a management function: `<debugfs>/dlr_vfio_pci/<function>/{nic,stats,health}`.
//! Each has one `name value` pair per line.

use super::service::Service;
use crate::{
    ext,
    proto::identify::text, //
};
use kernel::{
    debugfs::Scope,
    fmt,
    prelude::*,
    sync::Arc, //
};

/// The directory and the service whose contents it shows. Dropping it removes the files.
pub(super) type Directory = Pin<KBox<Scope<Arc<Service>>>>;

/// Creates the directory. Returns `None` without debugfs, which is no error.
pub(super) fn make(name: &CStr, service: Arc<Service>) -> Option<Directory> {
    let root = ext::debugfs::root()?;
    let scope = root.scope(service, name, |service, dir| {
        dir.read_callback_file(c"nic", service, &show_nic);
        dir.read_callback_file(c"stats", service, &show_stats);
        dir.read_callback_file(c"health", service, &show_health);
    });
    KBox::pin_init(scope, GFP_KERNEL).ok()
}

fn show_nic(service: &Arc<Service>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let nic = service.nic();
    writeln!(f, "model {}", text(&nic.model))?;
    writeln!(f, "firmware {}", text(&nic.firmware))?;
    writeln!(f, "serial {:#018x}", service.serial())?;
    writeln!(f, "functions {}", service.num_functions())?;
    writeln!(f, "gone {}", u32::from(service.is_gone()))
}

fn show_stats(service: &Arc<Service>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (name, count) in service.in_use() {
        writeln!(f, "{name} {count}")?;
    }
    let queue = &service.queue;
    queue.stats.show(f)?;
    queue.device.stats.show(f)
}

/// Writes the health of each data function from its status page. A page that cannot be read now is
/// left out.
fn show_health(service: &Arc<Service>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for number in 0..service.num_functions() {
        let Some(page) = service.health(number) else {
            continue;
        };
        writeln!(f, "log_failed.{number} {}", u32::from(page.log_failed))?;
        writeln!(f, "state_failed.{number} {}", u32::from(page.state_failed))?;
        writeln!(f, "log_lost_count.{number} {}", page.log_lost_count)?;
    }
    Ok(())
}
