// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::os::unix::fs::symlink;

use super::*;

fn tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let add = |name: &str, driver: Option<&str>, vfio: Option<&str>, over: &str| {
        let path = dir.path().join("sys/bus/pci/devices").join(name);
        fs::create_dir_all(&path).expect("folder");
        fs::write(path.join("vendor"), "0x1af4\n").expect("file");
        fs::write(path.join("device"), "0x1041\n").expect("file");
        fs::write(path.join("driver_override"), over).expect("file");
        symlink(
            "../../../../kernel/iommu_groups/7",
            path.join("iommu_group"),
        )
        .expect("link");
        if let Some(driver) = driver {
            symlink(format!("../drivers/{driver}"), path.join("driver")).expect("link");
        }
        if let Some(vfio) = vfio {
            fs::create_dir_all(path.join("vfio-dev").join(vfio)).expect("folder");
            let class = dir.path().join("sys/class/vfio-dev").join(vfio);
            fs::create_dir_all(&class).expect("folder");
            symlink(&path, class.join("device")).expect("link");
        }
    };
    add(
        "0000:00:05.0",
        Some("dlr_vfio_pci"),
        Some("vfio0"),
        "dlr_vfio_pci\n",
    );
    add("0000:00:06.0", Some("e1000e"), None, "(null)\n");
    add("0000:00:07.0", None, None, "vfio-pci\n");
    dir
}

#[test]
fn found_by_any_name() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    for name in [
        "0000:00:05.0",
        "00:05.0",
        "vfio0",
        "/dev/vfio/devices/vfio0",
    ] {
        let node = sysfs.find(name).expect(name);
        assert_eq!(node.name, "0000:00:05.0");
        assert_eq!(node.driver.as_deref(), Some("dlr_vfio_pci"));
        assert_eq!(node.pci_id.as_deref(), Some("1af4:1041"));
        assert_eq!((node.group, node.cdev.as_deref()), (Some(7), Some("vfio0")));
    }
}

#[test]
fn errors_say_what_to_do() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    let error = |name| sysfs.find(name).expect_err(name).to_string();
    assert!(error("00:06.0").contains("bound to e1000e"));
    assert!(error("00:07.0").contains("driver_override says vfio-pci"));
    assert!(error("00:08.0").contains("vfio-mig list --all"));
}

#[test]
fn listed_in_order() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    let names = |all| -> Vec<String> { sysfs.nodes(all).into_iter().map(|n| n.name).collect() };
    assert_eq!(names(false), ["0000:00:05.0", "0000:00:07.0"]);
    assert_eq!(
        names(true),
        ["0000:00:05.0", "0000:00:06.0", "0000:00:07.0"]
    );
}

fn debugfs(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("sys/kernel/debug/vfio/0000:00:05.0")
}

#[test]
fn debugfs_is_optional() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    let node = sysfs.find("vfio0").expect("device");
    let why = |sysfs: &Sysfs| match sysfs.debug(&node) {
        Debug::Unknown(why) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(&sysfs).contains("not mounted"));
    fs::create_dir_all(debugfs(&dir).parent().expect("parent")).expect("folder");
    assert!(why(&sysfs).contains("does not know 0000:00:05.0"));
    fs::create_dir(debugfs(&dir)).expect("folder");
    assert_eq!(sysfs.debug(&node), Debug::NotMigratable);
}

#[test]
fn debugfs_of_every_kernel_is_understood() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    let node = sysfs.find("vfio0").expect("device");
    let info = || match sysfs.debug(&node) {
        Debug::Migratable(info) => info,
        other => panic!("{other:?}"),
    };
    let folder = debugfs(&dir).join("migration");
    fs::create_dir_all(&folder).expect("folder");
    assert_eq!((info().state, info().features), (Ok(None), Ok(None)));
    // Linux 6.8 to 6.17.
    fs::write(folder.join("state"), "RUNNING\n").expect("file");
    assert_eq!(info().state, Ok(Some("RUNNING".to_owned())));
    assert_eq!(info().features, Ok(None));
    // Linux 6.18.
    fs::write(folder.join("features"), "stop-copy\np2p\n").expect("file");
    let features = vec!["stop-copy".to_owned(), "p2p".to_owned()];
    assert_eq!(info().features, Ok(Some(features)));
}

#[test]
fn kernels_before_vfio_dev_are_understood() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    fs::remove_dir_all(dir.path().join("sys/class/vfio-dev")).expect("folder");
    let device = dir.path().join("sys/bus/pci/devices/0000:00:05.0");
    fs::remove_dir_all(device.join("vfio-dev")).expect("folder");
    // Bound, but the driver did not register it.
    let error = sysfs.find("0000:00:05.0").expect_err("not registered");
    assert!(error.to_string().contains("did not register"), "{error}");
    fs::create_dir_all(dir.path().join("dev/vfio")).expect("folder");
    fs::write(dir.path().join("dev/vfio/7"), "").expect("file");
    let node = sysfs.find("0000:00:05.0").expect("device");
    assert_eq!((node.vfio, node.cdev), (true, None));
    assert!(sysfs.find("00:06.0").is_err(), "a host driver");
    // In the no-IOMMU mode.
    fs::remove_file(dir.path().join("dev/vfio/7")).expect("file");
    fs::write(dir.path().join("dev/vfio/noiommu-7"), "").expect("file");
    let node = sysfs.find("0000:00:05.0").expect("device");
    assert!(node.vfio && sysfs.without_iommu(&node));
}

#[test]
fn iommufd_needs_both_nodes() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    let node = sysfs.find("vfio0").expect("device");
    fs::create_dir_all(dir.path().join("dev/vfio/devices")).expect("folder");
    fs::write(dir.path().join("dev/iommu"), "").expect("file");
    // CONFIG_IOMMUFD without CONFIG_VFIO_DEVICE_CDEV.
    assert!(!sysfs.has_iommufd(&node));
    fs::write(dir.path().join("dev/vfio/devices/vfio0"), "").expect("file");
    assert!(sysfs.has_iommufd(&node));
    fs::remove_file(dir.path().join("dev/iommu")).expect("file");
    assert!(!sysfs.has_iommufd(&node));
}

/// A group of functions and the modules of their drivers.
fn group_of(dir: &tempfile::TempDir) {
    let sys = dir.path().join("sys");
    let group = sys.join("kernel/iommu_groups/7/devices");
    fs::create_dir_all(&group).expect("folder");
    for (name, driver, module) in [
        ("0000:00:05.0", "dlr_vfio_pci", "dlr_vfio_pci"),
        ("0000:00:06.0", "e1000e", "e1000e"),
        ("0000:00:08.0", "dlr-mgmt", "dlr_vfio_pci"),
        ("0000:00:09.0", "pcieport", "pcieport"),
        ("0000:00:0a.0", "vfio-pci", "vfio_pci"),
    ] {
        let device = sys.join("bus/pci/devices").join(name);
        fs::create_dir_all(&device).expect("folder");
        let folder = sys.join("bus/pci/drivers").join(driver);
        fs::create_dir_all(&folder).expect("folder");
        symlink(sys.join("module").join(module), folder.join("module")).expect("link");
        let _ = fs::remove_file(device.join("driver"));
        symlink(&folder, device.join("driver")).expect("link");
        symlink(&device, group.join(name)).expect("link");
    }
    // The module of the management function has a VFIO driver, too.
    let drivers = sys.join("module/dlr_vfio_pci/drivers");
    fs::create_dir_all(&drivers).expect("folder");
    fs::write(drivers.join("pci:dlr_vfio_pci"), "").expect("file");
}

#[test]
fn neighbours_of_a_group_are_told() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    group_of(&dir);
    let node = sysfs.find("vfio0").expect("device");
    let found = |node: &Node| -> Vec<(String, bool)> {
        let neighbours = sysfs.host_neighbours(node).into_iter();
        neighbours.map(|n| (n.driver, n.manages)).collect()
    };
    assert_eq!(
        found(&node),
        [("e1000e".to_owned(), false), ("dlr-mgmt".to_owned(), true)]
    );
    symlink("../0000:00:06.0", node.path.join("physfn")).expect("link");
    assert_eq!(found(&node)[0], ("e1000e".to_owned(), true));
    // Bound to a driver of another module.
    let plain = dir.path().join("sys/bus/pci/devices/0000:00:0a.0");
    symlink(
        "../../../../kernel/iommu_groups/7",
        plain.join("iommu_group"),
    )
    .expect("link");
    let plain = sysfs.node(&plain).expect("device");
    assert_eq!(found(&plain)[1], ("dlr-mgmt".to_owned(), true));
}

/// The driver of a function that needs its management function refuses such a group, so the user is
/// left with a function without a driver.
#[test]
fn a_refused_group_is_named_for_an_unbound_function() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    group_of(&dir);
    let error = |over: &str| {
        let device = dir.path().join("sys/bus/pci/devices/0000:00:07.0");
        fs::write(device.join("driver_override"), over).expect("file");
        let error = sysfs.find("0000:00:07.0").expect_err("no driver");
        error.to_string()
    };
    for over in ["vfio-pci\n", "(null)\n"] {
        let line = error(over);
        assert!(line.contains("0000:00:08.0 (dlr-mgmt)"), "{line}");
        assert!(line.contains("a group of its own"), "{line}");
        assert!(
            !line.contains("loaded") && !line.contains("unbind"),
            "{line}"
        );
    }
    // What any other driver of the host does to the group is told when the function is opened.
    let group = dir.path().join("sys/kernel/iommu_groups/7/devices");
    fs::remove_file(group.join("0000:00:08.0")).expect("link");
    assert!(error("vfio-pci\n").contains("is that module loaded"));
}

#[test]
fn one_device_by_two_names_is_not_two() {
    let dir = tree();
    let sysfs = Sysfs::at(dir.path());
    for second in ["0000:00:05.0", "vfio0"] {
        let error = two_devices(&sysfs, "00:05.0", second).expect_err(second);
        assert!(error.to_string().contains("are one device"), "{error}");
    }
}
