// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Programs of others on the driver and the NIC: the VFIO selftests of the kernel, and `lspci`.

use std::{env, fs, path::Path, time::Duration};

use anyhow::{ensure, Context, Result};
use dlr_testing::{artefacts::Workshop, BoxConfig, HostBox, NicConfig};

/// Selftests that run on a data function: the program, how many of its tests pass, and how many
/// are skipped. Skipped are an interrupt by MSI (the function has MSI-X only), and pages of 1 GiB
/// with each of five back ends.
const SELFTESTS: &[(&str, u32, u32)] = &[
    ("vfio_pci_device_test", 4, 1),
    ("vfio_dma_mapping_test", 25, 5),
    ("vfio_dma_mapping_mmio_test", 15, 0),
    ("vfio_iommufd_setup_test", 6, 0),
    ("vfio_pci_device_init_perf_test", 5, 0),
];

/// Selftests for other devices, and why they say that they do not run.
const NOT_HERE: &[(&str, &str)] = &[
    // It takes a driver of the device in the selftests.
    ("vfio_pci_driver_test", "No driver found for device"),
    // It takes a PF.
    ("vfio_pci_sriov_uapi_test", "SR-IOV may not be supported"),
];

/// Exit status of a skipped selftest (`KSFT_SKIP`).
const SKIPPED: i32 = 4;

const LIMIT: Duration = Duration::from_secs(300);

/// A variable that has `lspci.txt` written instead of compared.
const REWRITE: &str = "DLR_REWRITE_LSPCI";

#[test]
fn the_vfio_selftests_of_the_kernel_pass() -> Result<()> {
    let programs = Workshop::open()?.selftests()?;
    // Pages of 2 MiB: some of the tests map one.
    let mut config = BoxConfig::for_test().functions(1).huge_pages(16);
    let names = SELFTESTS.iter().map(|(name, ..)| name);
    for name in names.chain(NOT_HERE.iter().map(|(name, _)| name)) {
        config = config.file(format!("selftests/{name}"), programs.join(name));
    }
    let host = HostBox::start(config)?;
    let functions = host.bind_dlr(0)?;
    let function = functions.first().context("no function")?;
    let run = |name: &str| -> Result<_> {
        let output = host.try_run(&format!("/dlr/selftests/{name} {function} 2>&1"), LIMIT)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((output.code, text))
    };
    for (name, passed, skipped) in SELFTESTS {
        let (code, text) = run(name)?;
        let totals =
            format!("# Totals: pass:{passed} fail:0 xfail:0 xpass:0 skip:{skipped} error:0");
        ensure!(
            code == Some(0) && text.contains(&totals),
            "{name}: exit status {code:?}, not {totals:?}:\n{text}"
        );
    }
    for (name, reason) in NOT_HERE {
        let (code, text) = run(name)?;
        ensure!(
            code == Some(SKIPPED) && text.contains(reason),
            "{name}: exit status {code:?}, not {reason:?}:\n{text}"
        );
    }
    host.finish()
}

#[test]
fn lspci_shows_both_functions_as_expected() -> Result<()> {
    let nic = NicConfig::new(1).args(["--serial=0x1"]);
    let host = HostBox::start(BoxConfig::for_test().nic(nic))?;
    host.bind_dlr(0)?;
    let mut shown = String::new();
    for address in host.addresses(0)? {
        let text = host.run(&format!("lspci -vvvnn -s {address}"))?;
        for line in text.lines() {
            shown += &without_places(line);
            shown += "\n";
        }
    }
    host.finish()?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/others/lspci.txt");
    if env::var_os(REWRITE).is_some() {
        return fs::write(&path, shown).context("lspci.txt");
    }
    let expected = fs::read_to_string(&path)?;
    let line = expected
        .lines()
        .zip(shown.lines())
        .position(|(e, s)| e != s);
    ensure!(
        expected == shown,
        "differs from {} at line {:?} ({REWRITE}=1 rewrites it):\n{shown}",
        path.display(),
        line.map(|n| n + 1)
    );
    Ok(())
}

/// A line of `lspci` without what the machine chooses: addresses and the number of a group.
fn without_places(line: &str) -> String {
    for (before, after) in [("Memory at ", " "), ("IOMMU group: ", "")] {
        if let Some(at) = line.find(before) {
            let (head, tail) = line.split_at(at + before.len());
            let end = match after {
                "" => tail.len(),
                mark => tail.find(mark).unwrap_or(tail.len()),
            };
            return format!("{head}*{}", &tail[end..]);
        }
    }
    line.to_owned()
}
