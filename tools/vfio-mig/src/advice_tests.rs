// SPDX-License-Identifier: Apache-2.0 OR MIT

use vmm_sys_util::errno::Error as SysError;

use super::*;

fn node() -> Node {
    Node {
        name: "0000:00:04.1".into(),
        path: "/sys/bus/pci/devices/0000:00:04.1".into(),
        pci_id: Some("1af4:1041".into()),
        driver: Some("dlr_vfio_pci".into()),
        group: Some(7),
        cdev: Some("vfio0".into()),
        vfio: true,
        ..Node::default()
    }
}

fn neighbour(name: &str, driver: &str, manages: bool) -> Neighbour {
    Neighbour {
        name: name.into(),
        driver: driver.into(),
        manages,
    }
}

fn told(error: VfioError, neighbours: &[Neighbour]) -> String {
    let facts = Facts {
        node: &node(),
        neighbours,
        without_iommu: false,
    };
    one_line(&no_device(error, &facts))
}

fn denied() -> io::Error {
    io::Error::from_raw_os_error(13)
}

#[test]
fn a_user_without_permission_is_told_once() {
    let lines = [
        (
            one_line(&no_iommufd(&IommufdError::OpenIommufd(denied()))),
            "/dev/iommu",
        ),
        (
            one_line(&no_container(VfioError::OpenContainer(denied()))),
            "/dev/vfio/vfio",
        ),
        (
            told(VfioError::OpenGroup(denied(), "7".into()), &[]),
            "/dev/vfio/7",
        ),
        (
            told(VfioError::OpenDeviceCdev(denied()), &[]),
            "/dev/vfio/devices/vfio0",
        ),
    ];
    for (line, path) in lines {
        assert_eq!(line.matches("Permission denied").count(), 1, "{line}");
        assert_eq!(line.matches("os error").count(), 1, "{line}");
        assert!(line.contains(&format!("cannot open {path}:")), "{line}");
        assert!(line.contains("only root may"), "{line}");
        // It is there: nothing has to be built.
        assert!(!line.contains("CONFIG_"), "{line}");
        assert!(!line.contains("/dev/iommufd"), "{line}");
    }
}

#[test]
fn missing_nodes_name_what_makes_them() {
    let missing = || io::Error::from_raw_os_error(2);
    let iommufd = one_line(&no_iommufd(&IommufdError::OpenIommufd(missing())));
    assert!(
        iommufd.contains("CONFIG_IOMMUFD") && iommufd.contains("legacy"),
        "{iommufd}"
    );
    let cdev = told(VfioError::OpenDeviceCdev(missing()), &[]);
    assert!(cdev.contains("CONFIG_VFIO_DEVICE_CDEV"), "{cdev}");
    let container = one_line(&no_container(VfioError::OpenContainer(missing())));
    assert!(container.contains("CONFIG_VFIO_GROUP"), "{container}");
    let facts = Facts {
        node: &node(),
        neighbours: &[],
        without_iommu: true,
    };
    let error = VfioError::OpenGroup(missing(), "7".into());
    let noiommu = one_line(&no_device(error, &facts));
    assert!(noiommu.contains("no-IOMMU mode"), "{noiommu}");
}

#[test]
fn a_managing_function_is_never_to_be_unbound() {
    let managing = [neighbour("0000:00:04.0", "dlr-mgmt", true)];
    for error in [
        VfioError::GroupViable,
        VfioError::GroupSetContainer,
        VfioError::VfioDeviceBindIommufd(SysError::new(16)),
        // What Linux 7.3 says.
        VfioError::VfioDeviceBindIommufd(SysError::new(1)),
    ] {
        let line = told(error, &managing);
        assert!(line.contains("0000:00:04.0 (dlr-mgmt)"), "{line}");
        assert!(line.contains("a group of its own"), "{line}");
        assert!(!line.contains("unbind"), "{line}");
        assert!(!line.contains("bind all"), "{line}");
        assert!(!line.contains("another program"), "{line}");
    }
}

#[test]
fn other_neighbours_can_be_unbound() {
    let other = [neighbour("0000:00:04.2", "e1000e", false)];
    let line = told(VfioError::GroupViable, &other);
    assert!(line.contains("0000:00:04.2 (e1000e)"), "{line}");
    assert!(line.contains("driver/unbind"), "{line}");
    // Both: the first one decides.
    let both = [
        other[0].clone(),
        neighbour("0000:00:04.0", "dlr-mgmt", true),
    ];
    let line = told(VfioError::GroupViable, &both);
    assert!(
        line.contains("dlr-mgmt") && !line.contains("unbind"),
        "{line}"
    );
}

#[test]
fn without_neighbours_it_is_another_program_or_the_driver() {
    let bind = |errno| told(VfioError::VfioDeviceBindIommufd(SysError::new(errno)), &[]);
    for errno in [1, 16, 22] {
        assert!(bind(errno).contains("another program uses it"), "{errno}");
    }
    // Linux 7.3 has more than one reason for these.
    assert!(bind(22).contains("cache-coherent"), "{}", bind(22));
    let iommufd = bind(1);
    let legacy = told(VfioError::ContainerSetIOMMU(SysError::new(1)), &[]);
    for (line, module) in [(iommufd, "iommufd"), (legacy, "vfio_iommu_type1")] {
        assert!(line.contains("no interrupt remapping"), "{line}");
        let parameter = format!("/sys/module/{module}/parameters/allow_unsafe_interrupts");
        assert!(line.contains(&parameter), "{line}");
    }
    assert!(!bind(16).contains("remapping"), "{}", bind(16));
    for line in [
        bind(107),
        told(VfioError::GroupGetDeviceFD(SysError::new(107)), &[]),
    ] {
        assert!(line.contains("its driver refuses"), "{line}");
        assert!(!line.contains("another program"), "{line}");
    }
}

#[test]
fn unbound_functions_are_advised() {
    let mut node = node();
    node.driver = Some("e1000e".into());
    assert!(unbound_reason(&node, &[]).contains("driver/unbind"));
    node.driver = Some("dlr-mgmt".into());
    node.manages_others = true;
    let line = unbound_reason(&node, &[]);
    assert!(
        line.contains("leave it bound") && !line.contains("unbind"),
        "{line}"
    );
}

#[test]
fn mdevs_have_no_driver_override() {
    let mut node = Node {
        pci_id: None,
        driver: None,
        ..node()
    };
    let line = unbound_reason(&node, &[]);
    assert!(line.contains("/sys/bus/mdev/drivers"), "{line}");
    assert!(!line.contains("drivers_probe"), "{line}");
    node.driver = Some("mtty".into());
    let line = unbound_reason(&node, &[]);
    assert!(line.contains("did not register it"), "{line}");
    assert!(!line.contains("override"), "{line}");
}

#[test]
fn the_hint_is_that_of_the_errno() {
    let device = |errno| one_line(&refused("it cannot", &io::Error::from_raw_os_error(errno)));
    let log = |errno| one_line(&log_refused(2, &io::Error::from_raw_os_error(errno)));
    for line in [device(107), log(107)] {
        assert!(
            line.contains("is the function that manages it bound?"),
            "{line}"
        );
    }
    for line in [device(19), log(19)] {
        assert!(line.contains("bind it again"), "{line}");
        assert!(!line.contains("manages"), "{line}");
    }
    for line in [device(12), log(12)] {
        assert!(line.contains("has no memory for it"), "{line}");
    }
    for errno in [22, 28, 95] {
        assert!(
            log(errno).contains("too many, beyond its"),
            "{}",
            log(errno)
        );
        assert!(device(errno).contains("see the kernel log"));
    }
    for errno in [5, 12, 19, 107] {
        assert!(!log(errno).contains("too many"), "{}", log(errno));
        assert!(log(errno).starts_with("the device refuses to log 2 ranges: "));
    }
}

#[test]
fn only_a_memory_limit_is_called_one() {
    let legacy = |errno| VfioError::IommuDmaMap(SysError::new(errno));
    let iommufd =
        |errno| VfioError::IommufdIoctlError(IommufdError::IommuIoasMap(SysError::new(errno)));
    let limit = Some(64 << 10);
    for error in [legacy(12), iommufd(12)] {
        let line = one_line(&unmapped(error, limit));
        assert!(line.contains("may lock 64.00 KiB"), "{line}");
        assert!(line.contains("`ulimit -l unlimited`"), "{line}");
        assert_eq!(line.matches("os error 12").count(), 1, "{line}");
    }
    for (error, limit) in [
        (legacy(22), limit),
        (iommufd(17), limit),
        // Not the limit's fault.
        (legacy(12), None),
        (iommufd(12), None),
    ] {
        let line = one_line(&unmapped(error, limit));
        assert!(!line.contains("ulimit"), "{line}");
        assert_eq!(line.matches("os error").count(), 1, "{line}");
    }
}

#[test]
fn a_machine_without_an_iommu_is_told_so() {
    let node = |driver: Option<&str>, group| Node {
        driver: driver.map(str::to_owned),
        driver_override: Some("dlr_vfio_pci".into()),
        group,
        vfio: false,
        ..node()
    };
    for driver in [None, Some("virtio-pci")] {
        let line = unbound_reason(&node(driver, None), &[]);
        assert!(line.contains("intel_iommu=on"), "{line}");
        assert!(
            !line.contains("loaded") && !line.contains("unbind"),
            "{line}"
        );
        let line = unbound_reason(&node(driver, Some(7)), &[]);
        assert!(!line.contains("IOMMU"), "{line}");
    }
}

#[test]
fn a_container_without_type1_names_its_module() {
    let line = one_line(&no_container(VfioError::VfioExtension));
    assert!(line.contains("modprobe vfio_iommu_type1"), "{line}");
    assert!(line.contains("`--backend iommufd`"), "{line}");
}

#[test]
fn causes_are_said_once() {
    let error = anyhow::Error::new(IommufdError::OpenIommufd(denied())).context("no way in");
    let line = one_line(&error);
    assert_eq!(
        line,
        "no way in: failed to open /dev/iommufd: Permission denied (os error 13)"
    );
}
