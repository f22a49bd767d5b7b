// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig` on the kernel's `mtty` sample: a migratable device without any hardware, and
//! none of ours.

use anyhow::{ensure, Result};
use dlr_testing::{BoxConfig, HostBox};

const UUID: &str = "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";

#[test]
fn mtty_is_listed_saved_and_loaded() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test())?;
    host.run(&format!(
        "for m in mdev mtty; do [ ! -e /dlr/modules/$m.ko ] || insmod /dlr/modules/$m.ko; done; \
         echo {UUID} > /sys/class/mdev_bus/mtty/mdev_supported_types/mtty-2/create"
    ))?;
    let list = host.run("vfio-mig list")?;
    ensure!(list.contains(UUID) && list.contains("stop-copy"), "{list}");
    for backend in ["legacy", "iommufd"] {
        let tool = format!("vfio-mig --backend {backend}");
        let info = host.run(&format!("{tool} info {UUID}"))?;
        ensure!(info.contains("STOP_COPY, P2P, PRE_COPY"), "{info}");
        host.run(&format!("{tool} save {UUID} /tmp/{backend}"))?;
        host.run(&format!("{tool} save --rounds 0 {UUID} /tmp/stopped"))?;
        for image in [backend, "stopped"] {
            host.run(&format!("{tool} load {UUID} /tmp/{image}"))?;
            host.run(&format!("{tool} load --buffer 1 {UUID} /tmp/{image}"))?;
        }
        host.run(&format!("{tool} log {UUID} --count 2 --interval 50"))?;
        let info = host.run(&format!("{tool} info {UUID}"))?;
        ensure!(info.contains("RUNNING"), "{info}");
    }
    let refused =
        host.run("head -c 100 /tmp/legacy > /tmp/short; ! vfio-mig load vfio0 /tmp/short 2>&1")?;
    ensure!(refused.contains("truncated"), "{refused}");
    host.finish()
}
