// SPDX-License-Identifier: GPL-2.0

//! Files of a management function in debugfs: `<debugfs>/dlr_vfio_pci/<function>/{nic,stats}`. One
//! `name value` pair a line.

use super::service::Service;
use crate::{
    kext,
    proto::identify::text, //
};
use kernel::{
    debugfs::Scope,
    fmt,
    prelude::*,
    sync::Arc, //
};

/// Files and what they show. Removed when dropped.
pub(super) type Directory = Pin<KBox<Scope<Arc<Service>>>>;

/// Makes the directory. Without debugfs there is none, which is no error.
pub(super) fn make(name: &CStr, service: Arc<Service>) -> Option<Directory> {
    let root = kext::debugfs::root()?;
    let scope = root.scope(service, name, |service, dir| {
        dir.read_callback_file(c"nic", service, &show_nic);
        dir.read_callback_file(c"stats", service, &show_stats);
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
    service.stats().show(f)
}
