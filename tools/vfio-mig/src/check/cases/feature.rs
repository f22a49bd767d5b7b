// SPDX-License-Identifier: Apache-2.0 OR MIT

//! F: VFIO_DEVICE_FEATURE of migration and logging.

use rustix::io::Errno;
use vfio_bindings::bindings::vfio as vb;

use crate::check::{
    verdict::{accepted, ensure, refused},
    Case, Group, Needs,
};

/// See the module.
pub(super) fn cases() -> Vec<Case> {
    let case = |id, needs, rationale, run| Case::new(Group::Feature, id, needs, rationale, run);
    vec![case(
        "F5.migration-flags",
        Needs::MIGRATION,
        "STOP_COPY must be set; combinations other than with P2P and PRE_COPY are undefined (uapi:1017)",
        |ctx: &mut crate::check::Ctx| {
            let get = vb::VFIO_DEVICE_FEATURE_GET | vb::VFIO_DEVICE_FEATURE_MIGRATION;
            let flags = accepted("GET MIGRATION", ctx.dut.feature(get, 16, [0; 8]))?[0];
            ensure!(flags & 1 != 0, "the flags are {flags:#x}, without STOP_COPY");
            let short = ctx.dut.feature(get, 8, [0; 8]);
            refused("GET MIGRATION with argsz 8", short, &[Errno::INVAL])?;
            if flags & !7 != 0 {
                ctx.note(format!("flags {flags:#x} are unknown to Linux 7.3"));
            }
            Ok(())
        },
    )]
}
