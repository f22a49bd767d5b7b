// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `vfio-mig` in its user's hands: outputs that are no regular files, kernels that tell less, users
//! without permission, functions that cannot be given away. See "Field cases" in
//! Documentation/scenarios.rst.

mod hints;

use std::time::Duration;

use anyhow::{ensure, Context, Result};
use dlr_testing::{BoxConfig, HostBox, NicConfig, Placement};

/// What a command that has to fail said on standard error.
fn refused(host: &HostBox, command: &str) -> Result<String> {
    let done = host.try_run(command, Duration::from_secs(120))?;
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    ensure!(
        done.code == Some(2),
        "{command}: exit code {:?}, not 2\n{}\n{said}",
        done.code,
        done.text()
    );
    Ok(said)
}

#[test]
fn outputs_words_and_older_kernels() -> Result<()> {
    let host = HostBox::start(BoxConfig::for_test().functions(1))?;
    let function = host.bind_dlr(0)?.remove(0);
    outputs(&host, &function)?;
    words(&host, &function)?;
    permissions(&host, &function)?;
    older_kernels(&host, &function)?;
    host.finish()
}

#[test]
fn each_hint_can_be_followed() -> Result<()> {
    // The last one cannot be migrated.
    let nic = NicConfig::new(3).args(["--without=state@2"]);
    let host = HostBox::start(BoxConfig::for_test().nic(nic))?;
    let functions = host.bind_dlr(0)?;
    hints::follow(&host, &host.addresses(0)?[0], &functions)?;
    host.finish()
}

/// What the tables of `hints` cannot provoke in a running box: the kernel has to be booted otherwise.
#[test]
fn hints_to_boot_otherwise_can_be_followed() -> Result<()> {
    let host = HostBox::start(
        BoxConfig::for_test()
            .functions(1)
            .kernel_arg("intel_iommu=off"),
    )?;
    host.load_driver("")?;
    let mut addresses = host.addresses(0)?;
    let function = addresses.remove(1);
    host.bind(&addresses[0], "dlr-mgmt")?;
    let list = host.run("vfio-mig list --all")?;
    ensure!(list.contains("no device has an IOMMU group"), "{list}");
    // VFIO refuses it.
    ensure!(host.bind(&function, "dlr_vfio_pci").is_err());
    let said = refused(&host, &format!("vfio-mig info {function}"))?;
    ensure!(said.contains("has no IOMMU group"), "{said}");
    let list = host.run("vfio-mig list")?;
    ensure!(list.contains("has no IOMMU group"), "{list}");
    let advised = "boot the kernel with intel_iommu=on";
    ensure!(said.contains(advised), "{said}");
    host.finish()?;

    // As advised; and without what is a module elsewhere.
    let config = BoxConfig::for_test()
        .functions(1)
        .kernel_arg("intel_iommu=on")
        .kernel_arg("initcall_blacklist=vfio_iommu_type1_init");
    let host = HostBox::start(config)?;
    let function = host.bind_dlr(0)?.remove(0);
    let said = refused(&host, &format!("vfio-mig --backend legacy info {function}"))?;
    ensure!(
        said.contains("modprobe vfio_iommu_type1") && said.contains("`--backend iommufd`"),
        "{said}"
    );
    host.run(&format!("vfio-mig --backend iommufd info {function}"))?;
    host.finish()?;

    // A machine without interrupt remapping, at one's own risk.
    let config = BoxConfig::for_test()
        .functions(1)
        .kernel_arg("intremap=off");
    let host = HostBox::start(config)?;
    let function = host.bind_dlr(0)?.remove(0);
    for (backend, module) in [("iommufd", "iommufd"), ("legacy", "vfio_iommu_type1")] {
        let info = format!("vfio-mig --backend {backend} info {function}");
        let said = refused(&host, &info)?;
        let follow = format!("echo 1 > /sys/module/{module}/parameters/allow_unsafe_interrupts");
        ensure!(
            said.contains("no interrupt remapping") && said.contains(&follow),
            "{backend}: {said}"
        );
        host.run("dmesg | grep -i remap")?;
        host.run(&follow)?;
        host.run(&info)?;
    }
    host.finish()
}

/// Field case 1.
fn outputs(host: &HostBox, function: &str) -> Result<()> {
    let save = format!("vfio-mig save {function}");
    host.run(&format!("{save} /dev/null && test -c /dev/null"))?;
    host.run(&format!(
        "cd /tmp && touch real && ln -sf real link && {save} link && test -L link && test -s real"
    ))?;
    host.run(&format!(
        "cd /tmp && mkfifo pipe && (cat < pipe > piped &) && {save} pipe && test -p pipe && \
         while [ ! -s piped ]; do sleep 0.1; done"
    ))?;
    // Out of one, into another, and the report is not in between. These links are udev's, which the
    // box does without.
    host.run("ln -sf /proc/self/fd/0 /dev/stdin && ln -sf /proc/self/fd/1 /dev/stdout")?;
    host.run(&format!("{save} /dev/stdout > /tmp/image 2> /tmp/said"))?;
    host.run("grep -q '^saved' /tmp/said && ! grep -aq '^saved' /tmp/image")?;
    host.run(&format!(
        "cat /tmp/image | vfio-mig load {function} /dev/stdin && vfio-mig load {function} /tmp/real"
    ))?;
    // An error is not in between either.
    host.nic(0)?.sabotage("state-truncated", 1)?;
    let command = format!("vfio-mig --json save {function} /dev/stdout > /tmp/image");
    let said = refused(host, &command)?;
    host.nic(0)?.sabotage("state-truncated", 0)?;
    ensure!(said.contains("{\"causes\":"), "{said}");
    host.run("test -s /tmp/image && ! grep -aq '\"error\"' /tmp/image")?;
    // What cannot be written is told before the device is opened.
    let said = refused(host, &format!("{save} /tmp"))?;
    ensure!(said.contains("Is a directory"), "{said}");
    Ok(())
}

fn words(host: &HostBox, function: &str) -> Result<()> {
    let pair = format!("vfio-mig mirror {function} vfio0");
    let said = refused(host, &pair)?;
    ensure!(said.contains("are one device"), "{said}");
    let said = refused(host, &format!("vfio-mig log {function} --page-size 3K"))?;
    ensure!(said.contains("no power of two"), "{said}");
    let said = refused(host, &format!("vfio-mig log {function} --ranges 6K+8K"))?;
    ensure!(said.contains("multiples of the page size"), "{said}");
    // One device twice at the same time.
    let twice = format!(
        "(echo '{{\"cmd\":\"open\"}}'; sleep 5) | vfio-mig drive {function} & sleep 2; \
         vfio-mig info {function}; code=$?; wait; exit $code"
    );
    let said = refused(host, &twice)?;
    ensure!(said.contains("another program uses it"), "{said}");
    Ok(())
}

/// An ordinary user is told once, and not to build another kernel.
fn permissions(host: &HostBox, function: &str) -> Result<()> {
    let user = "setpriv --reuid 65534 --regid 65534 --clear-groups vfio-mig";
    for (backend, node) in [("iommufd", "/dev/iommu"), ("legacy", "/dev/vfio/")] {
        let said = refused(host, &format!("{user} --backend {backend} info {function}"))?;
        ensure!(
            said.contains(node) && said.contains("only root may"),
            "{said}"
        );
        ensure!(said.matches("Permission denied").count() == 1, "{said}");
    }
    let list = host.run(&format!("{user} list"))?;
    ensure!(
        list.contains("unknown") && list.contains("Permission denied"),
        "{list}"
    );
    Ok(())
}

/// Field case 3: debugfs as kernels before 6.18 have it, and none.
fn older_kernels(host: &HostBox, function: &str) -> Result<()> {
    let folder = format!("/sys/kernel/debug/vfio/{function}/migration");
    host.run("mount -t tmpfs none /sys/kernel/debug/vfio")?;
    let list = host.run("vfio-mig list")?;
    ensure!(
        list.contains("unknown") && list.contains("--open"),
        "{list}"
    );
    let opened = host.run("vfio-mig list --open")?;
    ensure!(
        opened.contains("yes") && opened.contains("STOP_COPY"),
        "{opened}"
    );
    host.run(&format!(
        "mkdir -p {folder} && echo RUNNING > {folder}/state"
    ))?;
    let list = host.run("vfio-mig list")?;
    host.run("umount /sys/kernel/debug/vfio")?;
    ensure!(list.contains("yes") && list.contains("RUNNING"), "{list}");
    let list = host.run("vfio-mig list")?;
    ensure!(list.contains("dirty-tracking"), "{list}");
    Ok(())
}

/// Field case 17: the function that manages a device is in its IOMMU group.
#[test]
fn a_group_with_the_management_function() -> Result<()> {
    let nic = NicConfig::new(2).placed(Placement::OneSlot);
    let host = HostBox::start(BoxConfig::for_test().nic(nic))?;
    host.load_driver("")?;
    let mut addresses = host.addresses(0)?;
    let (management, function) = (addresses.remove(0), addresses.remove(0));
    if host.driver(&management)?.is_some() {
        host.run(&format!(
            "echo {management} > /sys/bus/pci/devices/{management}/driver/unbind"
        ))?;
    }
    a_neighbour_that_may_go(&host, &function, &addresses[0])?;
    host.bind(&management, "dlr-mgmt")?;
    // Its own driver refuses a function in this group, and leaves it without a driver.
    ensure!(host.bind(&function, "dlr_vfio_pci").is_err());
    let said = refused(&host, &format!("vfio-mig info {function}"))?;
    let list = host.run("vfio-mig list")?;
    for words in [said, list] {
        ensure!(
            words.contains(&format!(
                "{management} (dlr-mgmt), which manages {function}"
            )) && words.contains("a group of its own"),
            "{words}"
        );
        ensure!(
            !words.contains("unbind") && !words.contains("is that module loaded"),
            "{words}"
        );
    }
    // With another driver it is VFIO that refuses, in the same words.
    host.bind(&function, "vfio-pci")?;
    for backend in ["iommufd", "legacy"] {
        let said = refused(
            &host,
            &format!("vfio-mig --backend {backend} info {function}"),
        )?;
        ensure!(
            said.contains(&format!(
                "{management} (dlr-mgmt), which manages {function}"
            )) && said.contains("a group of its own"),
            "{backend}: {said}"
        );
        ensure!(
            !said.contains("another program") && !said.contains("unbind"),
            "{backend}: {said}"
        );
    }
    let list = host.run("vfio-mig list --all")?;
    let line = |name: &str| list.lines().find(|line| line.starts_with(name));
    let of_management = line(&management).context("not listed")?;
    ensure!(of_management.contains("leave it bound"), "{list}");
    host.finish()
}

/// A function of the group that the host uses and that manages nothing: the advice is to unbind it.
fn a_neighbour_that_may_go(host: &HostBox, function: &str, neighbour: &str) -> Result<()> {
    host.bind(function, "vfio-pci")?;
    let unbind = format!("echo {neighbour} > /sys/bus/pci/devices/{neighbour}/driver/unbind");
    for backend in ["iommufd", "legacy"] {
        host.bind(neighbour, "virtio-pci")?;
        let info = format!("vfio-mig --backend {backend} info {function}");
        let said = refused(host, &info)?;
        ensure!(
            said.contains(&format!("the host uses {neighbour} (virtio-pci)"))
                && said.contains("driver/unbind"),
            "{backend}: {said}"
        );
        host.run(&unbind)?;
        host.run(&info)?;
    }
    Ok(())
}
