// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Each allocation of loading the module, binding, opening, closing and unbinding fails once (review M5),
//! as in `starved.rs`.

use anyhow::{ensure, Context, Result};
use dlr_testing::{drive::outcome, BoxConfig, NicConfig};
use serde_json::json;

use super::{
    bench::{Bench, PATIENCE},
    starved::{allow_failures, finish_round, MANY},
};

/// Opening fails or succeeds as a whole, and closing always succeeds: in the end the function is closed,
/// nothing of it is left, and it can be opened.
#[test]
fn m5_each_allocation_of_opening_and_closing_fails() -> Result<()> {
    let nic = NicConfig::new(2).args(["--sriov-like"]);
    // Linux 7.3 itself warns when a group gets no memory on its way back to its default domain
    // (`__iommu_release_dma_ownership()`).
    let config = BoxConfig::for_test()
        .nic(nic)
        .expect_complaint("at __iommu_release_dma_ownership+")
        .expect_complaint("[ cut here ]");
    let mut bench = Bench::in_box(config)?;
    allow_failures(&bench, 1)?;
    for (call, with_session) in [("open", false), ("close", false), ("close", true)] {
        let mut nth = 1;
        loop {
            let context = || format!("allocation {nth} of {call}");
            if call == "close" {
                bench.drives[0].open().with_context(context)?;
            }
            if with_session {
                bench.start_log(0)?;
                bench.drives[0].go("PRE_COPY")?;
            }
            let request = json!({"cmd": call, "fail_nth": nth});
            let answer = bench.drives[0].ask(&request).with_context(context)?;
            let starved = answer["starved"] == true;
            if answer["ok"] != true {
                // What fails may be the tool's look at sysfs, which has an error of its own.
                let errno = outcome(&answer).unwrap_or_default();
                let wanted = call == "open" && ["ENOMEM", ""].contains(&errno.as_str());
                ensure!(starved && wanted, "{}: {answer}", context());
            }
            finish_round(&mut bench).with_context(context)?;
            if !starved {
                break;
            }
            nth += 1;
            ensure!(nth < MANY, "{call} does not end");
        }
        eprintln!("{} of {call}, session: {with_session}", nth - 1);
        // A close makes at least one, on the group's way back to its default domain.
        let least = if call == "open" { 5 } else { 1 };
        ensure!(nth > least, "{} allocations of {call}", nth - 1);
    }
    bench.check_works()?;
    bench.finish()
}

/// Binding a function: each allocation of its probe fails, and it leaves nothing behind, such as a claim,
/// that would keep it from binding next (S8, registration that fails).
#[test]
fn m5_each_allocation_of_a_bind_fails() -> Result<()> {
    let nic = NicConfig::new(2).args(["--sriov-like"]);
    // Linux 7.3 itself warns of two failures that it does not expect: of the IOMMU group of a group of VFIO
    // that cannot be made (`vfio_create_group()`, `err_put`), and, when a vector is freed, of the files in
    // /proc/irq that it could not make (`register_irq_proc()`).
    let config = BoxConfig::for_test()
        .nic(nic)
        .expect_complaint("at vfio_group_release+")
        .expect_complaint("at remove_proc_entry+")
        .expect_complaint("[ cut here ]");
    let mut bench = Bench::in_box(config)?;
    allow_failures(&bench, 1)?;
    let drives = std::mem::take(&mut bench.drives);
    for drive in drives {
        drive.quit()?;
    }
    for (address, driver) in [
        (bench.data[0].clone(), "dlr_vfio_pci"),
        (bench.management.clone(), "dlr-mgmt"),
    ] {
        for nth in 1.. {
            ensure!(nth < 4 * MANY, "does not end");
            let context = || format!("allocation {nth} of binding {address}");
            let starved = Starved::run(
                &bench,
                nth,
                &format!("echo {address} > /sys/bus/pci/drivers/{driver}/unbind || exit 1"),
                &format!("echo {address} > /sys/bus/pci/drivers/{driver}/bind"),
                &bound(&address, driver),
            )
            .with_context(context)?;
            if starved.then != "bound" {
                bench.host.bind(&address, driver).with_context(context)?;
            }
            if !starved.reached {
                ensure!(nth > 5, "{} allocations of a bind", nth - 1);
                break;
            }
        }
    }
    bench.check_clean()?;
    bench.finish()
}

/// Loads a module again and again with one allocation failing, until none is left that could: by
/// finit_module(2) and delete_module(2), so that what fails are allocations of these calls. The module
/// is loaded or it is not, as the call says. The errno is ENOMEM, or EINVAL, by which
/// `module_add_driver()` of Linux 7.3 says that it has made no directory. Prints the number of rounds.
const LOAD: &str = r#"
for (my $nth = 1;; $nth++) {
    open(my $module, "<", $ARGV[0]) or die;
    open(my $fail, "+<", "/proc/self/fail-nth") or die;
    my ($none, $left) = ("", "");
    syswrite($fail, $nth);
    my $failed = syscall(313, fileno($module), $none, 0) != 0;
    my $errno = $failed ? $! + 0 : 0;
    sysseek($fail, 0, 0);
    sysread($fail, $left, 16);
    sysseek($fail, 0, 0);
    syswrite($fail, "0");
    my $loaded = -d "/sys/module/dlr_vfio_pci" ? 1 : 0;
    die "allocation $nth of loading: errno $errno, loaded: $loaded\n"
        if $loaded == $failed || !grep { $_ == $errno } 0, 12, 22;
    if ($loaded) {
        my $name = "dlr_vfio_pci";
        die "allocation $nth: cannot unload: $!\n" if syscall(176, $name, 2048) != 0;
    }
    if ($left > 0) {
        print "$nth\n";
        exit 0;
    }
    die "loading does not end\n" if $nth > 2000;
}
"#;

/// Unbinding always succeeds, and what was unbound can be bound again. Loading the module fails or
/// succeeds as a whole.
#[test]
fn m5_each_allocation_of_unbinding_and_loading_fails() -> Result<()> {
    let nic = NicConfig::new(2).args(["--sriov-like"]);
    // Linux 7.3 itself warns when it has no memory for the names of a device link's files, on their
    // way out (`devlink_remove_symlinks()`), or for the fields of a trace event.
    let config = BoxConfig::for_test()
        .nic(nic)
        .expect_complaint("at devlink_remove_symlinks+")
        .expect_complaint("at event_define_fields+")
        .expect_complaint("[ cut here ]");
    let mut bench = Bench::in_box(config)?;
    allow_failures(&bench, 1)?;
    for drive in std::mem::take(&mut bench.drives) {
        drive.quit()?;
    }
    for (address, driver) in [
        (bench.data[0].clone(), "dlr_vfio_pci"),
        (bench.management.clone(), "dlr-mgmt"),
    ] {
        let folder = format!("/sys/bus/pci/drivers/{driver}");
        let (mut nth, mut begun) = (1, false);
        loop {
            let starved = Starved::run(
                &bench,
                nth,
                "",
                &format!("echo {address} > {folder}/unbind"),
                &format!(
                    "{}; echo {address} 2>/dev/null > {folder}/unbind; echo {address} > {folder}/bind",
                    bound(&address, driver)
                ),
            )?;
            if !starved.reached {
                break;
            }
            // The first allocations are those of opening and writing the file of sysfs: then the
            // driver was not called. From the first one on that is later, all are.
            let still = starved.then == "bound";
            ensure!(
                !still || !begun,
                "{address} is still bound after allocation {nth}"
            );
            begun |= !still;
            nth += 1;
            ensure!(nth < MANY, "unbinding {address} does not end");
        }
        ensure!(begun, "no allocation of unbinding {address} failed");
        eprintln!("{} of unbinding {address}", nth - 1);
        let now = bench.host.driver(&address)?;
        ensure!(now.as_deref() == Some(driver), "{address} has {now:?}");
    }
    bench.check_clean()?;
    for address in bench.data.iter().chain([&bench.management]) {
        bench.unbind(address)?;
    }
    bench.host.run("rmmod dlr_vfio_pci")?;
    // The probes, which binding walks, would be part of each round.
    bench.sysfs("/sys/bus/pci/drivers_autoprobe", "0")?;
    bench.host.write_file("/tmp/load", LOAD)?;
    let module = "/dlr/modules/dlr_vfio_pci.ko";
    let output = bench
        .host
        .try_run(&format!("perl /tmp/load {module} 2>&1"), 5 * PATIENCE)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.success(), "{said}");
    let rounds: u32 = said.trim().parse().context("no number of rounds")?;
    eprintln!("{} of loading the module", rounds - 1);
    ensure!(rounds > 100, "{rounds} rounds");
    bench.sysfs("/sys/bus/pci/drivers_autoprobe", "1")?;
    bench.host.run(&format!("insmod {module}"))?;
    let data = bench.host.bind_dlr(0)?;
    ensure!(data == bench.data, "{data:?}");
    bench.finish()
}

/// How commands ended whose `nth` allocation failed.
struct Starved {
    /// They made as many allocations.
    reached: bool,
    /// What the commands after them printed.
    then: String,
}

impl Starved {
    /// Runs commands of a shell: `before`, `commands` with their `nth` allocation failing, and `then`.
    /// All are builtins of the shell, so that what fails are allocations of the shell's own calls. That of
    /// the last line here may be the one, and then they made fewer.
    fn run(bench: &Bench, nth: u32, before: &str, commands: &str, then: &str) -> Result<Self> {
        let said = bench.host.run(&format!(
            "{before}\necho {nth} > /proc/self/fail-nth; {commands}; \
             left=; read left < /proc/self/fail-nth; echo 0 > /proc/self/fail-nth\n\
             echo \"left=$left\"\n{then}"
        ))?;
        let mut lines = said.lines();
        let left = lines.next().and_then(|line| line.strip_prefix("left="));
        Ok(Self {
            reached: left.context("no word of the shell")? == "0",
            then: lines.collect(),
        })
    }
}

/// Prints `bound` if `driver` has the function.
fn bound(address: &str, driver: &str) -> String {
    format!("[ ! -e /sys/bus/pci/drivers/{driver}/{address} ] || echo bound")
}
