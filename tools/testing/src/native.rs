// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Runs of a kernel that is a program of this machine: it boots from a folder, loads a module
//! and is gone within a second. What it has to say is its log. The functions of a NIC can be plugged
//! in: the NIC serves them over vhost-user to the kernel's driver of virtual PCI devices.

use std::{
    fs,
    os::unix::fs::{symlink, PermissionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};

use crate::{
    artefacts::{
        native::{Flavour, Machine, Native, IMAGE, NATIVE_AT},
        sandbox::{Sandbox, TREE_AT},
        Workshop,
    },
    hostbox::{Nic, NicConfig},
    progress, splat,
};

/// What the shell of `/init` calls.
const APPLETS: &[&str] = &[
    "sh", "mount", "insmod", "rmmod", "cat", "echo", "sleep", "poweroff", "awk", "mkfifo",
];

/// Where the kernel finds the sockets of the NIC.
const SOCKETS_AT: &str = "/mnt";

/// The folder that a script shares with its companion: for the machine, for the script, and in the
/// folder of the run.
const SHARED_AT: &str = "/media";
pub(crate) const SHARED: &str = "/shared";
const SHARED_IN: &str = "shared";

/// The virtio device id of `CONFIG_UML_PCI_OVER_VIRTIO_DEVICE_ID` in `configs/um.config`.
const PCI_OVER_VIRTIO: u32 = 1234;

/// A busy machine keeps the NIC's process from running. The kernel gives an access up after 40 ms, and
/// the read is all ones then.
const PATIENT: &str = "virtio_pcidev.max_delay_us=60000000 vfio.enable_unsafe_noiommu_mode=1";

/// Begins the lines that `/init` writes about failures.
const FAILED: &str = "bed: failed: ";

/// The last line that `/init` writes.
const END: &str = "bed: end";

/// Mounts what the scripts need, runs `/script`, and switches off.
const INIT: &str = r#"#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t debugfs debugfs /sys/kernel/debug
fail() { echo "bed: failed: $*"; }
. /script
echo "bed: end"
poweroff -f
"#;

/// What runs with a NIC have in common. It is built once, before the first of them.
pub struct Bed {
    /// The kernel, and the driver for it.
    pub native: Native,
    /// The folder of the programs.
    pub programs: PathBuf,
    /// The folder that holds the folders of all runs.
    pub results: PathBuf,
}

impl Bed {
    /// Finds or builds all of it.
    ///
    /// # Errors
    ///
    /// The compiler's words.
    pub fn open(workshop: &Workshop, flavour: Flavour) -> Result<Self> {
        Ok(Self {
            native: workshop.native(flavour)?,
            programs: workshop.programs()?,
            results: workshop.products().join("native"),
        })
    }

    /// A run called `name` of `script` with the driver, `config` plugged in, that is killed after
    /// `limit`.
    pub fn run<'a>(
        &'a self,
        name: &'a str,
        config: NicConfig,
        script: &'a str,
        limit: Duration,
    ) -> Run<'a> {
        Run {
            machine: &self.native.machine,
            results: self.results.clone(),
            name,
            module: &self.native.module,
            script,
            nic: Some(Plugged {
                programs: self.programs.clone(),
                config,
            }),
            arguments: "",
            limit,
        }
    }
}

/// One run.
pub struct Run<'a> {
    /// What to run.
    pub machine: &'a Machine,
    /// The folder that holds the folders of all runs.
    pub results: PathBuf,
    /// Name of the run: its folder, which an earlier run of this name loses.
    pub name: &'a str,
    /// The module, `/module.ko` in there.
    pub module: &'a Path,
    /// Shell commands: what to do with it. `fail WORDS` marks the run as failed.
    pub script: &'a str,
    /// What is plugged in.
    pub nic: Option<Plugged>,
    /// Further words of the kernel's command line.
    pub arguments: &'a str,
    /// After this the kernel is killed.
    pub limit: Duration,
}

/// A NIC for a run. The function in slot 0 is its management function, the data functions follow.
pub struct Plugged {
    /// The folder of the programs: the NIC, and `vfio-mig` for the script.
    pub programs: PathBuf,
    /// The NIC.
    pub config: NicConfig,
}

/// What works together with the script, in a thread: it gets the NIC, the folder that the script mounts by
/// [`mount_shared`], and whether the kernel has ended.
pub type Companion<'a> = dyn FnMut(&mut Nic, &Path, &AtomicBool) + Send + 'a;

/// Before a command: the process is killed when its parent, the thread of it, has ended.
const LIFELINE: &str = "setpriv --pdeathsig KILL --";

/// The line of a script that mounts the folder of its companion at [`SHARED`].
pub(crate) fn mount_shared() -> String {
    format!("mount -t hostfs -o {SHARED_AT} none {SHARED} || fail shared folder\n")
}

impl Run<'_> {
    /// Where a run called `name` keeps the folder that it shares.
    pub(crate) fn shared(&self) -> PathBuf {
        self.results.join(self.name).join(SHARED_IN)
    }

    /// Runs it; returns all that the kernel and the script wrote.
    ///
    /// # Errors
    ///
    /// The run could not be prepared or started. A kernel that dies is no error here:
    /// [`complaints`] tells.
    pub fn run(&self) -> Result<String> {
        self.run_with(None)
    }

    /// The same; `companion` has to return when the kernel has ended.
    ///
    /// # Errors
    ///
    /// As [`Run::run`].
    pub fn run_with(&self, companion: Option<&mut Companion<'_>>) -> Result<String> {
        let folder = self.results.join(self.name);
        let root = folder.join("root");
        crate::artefacts::cache::remove_tree(&folder)?;
        self.fill(&root)
            .with_context(|| format!("{}", root.display()))?;
        // The kernel needs HOME and puts its memory into TMPDIR, a tmpfs of the sandbox. `timeout`
        // ends it for good; the processes that it traces die with it. If this process is killed,
        // `timeout` is, and then the kernel.
        let mut command = format!(
            "TMPDIR=/tmp exec {LIFELINE} timeout --signal=KILL {} {LIFELINE} {NATIVE_AT}/{IMAGE} \
             mem=768M uml_dir=/tmp root=/dev/root rootfstype=hostfs rootflags={TREE_AT} ro init=/init con=null \
             con0=fd:0,fd:1 panic=-1 kunit.enable={} {} ",
            self.limit.as_secs(),
            u8::from(self.nic.is_none()),
            self.arguments,
        );
        let mut sandbox = Sandbox::new(&self.machine.rootfs)
            .mount(&self.machine.kernel, NATIVE_AT, false)
            .mount(&root, TREE_AT, false);
        let shared = self.shared();
        if companion.is_some() {
            fs::create_dir_all(&shared)?;
            sandbox = sandbox.mount(&shared, SHARED_AT, true);
        }
        // Not in the folder of the run: the path of a socket has to be short.
        let sockets = tempfile::tempdir()?;
        let mut nic = match &self.nic {
            Some(plugged) => {
                command += &plugged.arguments();
                sandbox = sandbox.mount(sockets.path(), SOCKETS_AT, true);
                Some(plugged.start(sockets.path(), folder.join("nic.log"))?)
            }
            None => None,
        };
        let log = folder.join("console.log");
        let ended = AtomicBool::new(false);
        let ran = thread::scope(|scope| {
            if let (Some(companion), Some(nic)) = (companion, &mut nic) {
                let (shared, ended) = (&shared, &ended);
                scope.spawn(move || companion(nic, shared, ended));
            }
            let ran = progress::quietly(&mut sandbox.command(&command), &log);
            ended.store(true, Ordering::Release);
            ran
        });
        // Its exit status says less than its log.
        let _ = ran?;
        if let Some(mut nic) = nic {
            at_end(&mut nic)?;
        }
        Ok(String::from_utf8_lossy(&fs::read(&log)?).into_owned())
    }

    fn fill(&self, root: &Path) -> Result<()> {
        for name in ["bin", "dev", "proc", "sys", "shared", "tmp"] {
            fs::create_dir_all(root.join(name))?;
        }
        let busybox = self.machine.rootfs.join("usr/bin/busybox");
        fs::copy(busybox, root.join("bin/busybox"))?;
        for name in APPLETS {
            symlink("busybox", root.join("bin").join(name))?;
        }
        if let Some(plugged) = &self.nic {
            let tool = plugged.programs.join("vfio-mig");
            fs::copy(tool, root.join("bin/vfio-mig"))?;
        }
        fs::copy(self.module, root.join("module.ko"))?;
        fs::write(root.join("script"), self.script)?;
        let init = root.join("init");
        fs::write(&init, INIT)?;
        Ok(fs::set_permissions(
            init,
            fs::Permissions::from_mode(0o755),
        )?)
    }
}

impl Plugged {
    /// Those of the kernel's command line.
    fn arguments(&self) -> String {
        let data = (0..self.config.functions).map(|n| format!("df{n}"));
        let devices = std::iter::once("mf".into())
            .chain(data)
            .map(|name| format!("virtio_uml.device={SOCKETS_AT}/{name}.sock:{PCI_OVER_VIRTIO} "));
        devices.collect::<String>() + PATIENT
    }

    fn start(&self, sockets: &Path, log: PathBuf) -> Result<Nic> {
        // The kernel's memory is a file that it does not seal.
        let ours = ["--transport=vhost-user", "--unsealed-memory"];
        let config = self.config.clone().args(ours);
        Nic::start(&self.programs.join("dlr-nic"), &config, sockets.into(), log)
    }
}

/// The NIC has outlived the run, no thread of it panicked, and nothing is left in it.
fn at_end(nic: &mut Nic) -> Result<()> {
    nic.check()?;
    nic.check_idle()
}

/// What went wrong in a run: complaints of the kernel and of the script, and an early end.
pub fn complaints(log: &str) -> Vec<String> {
    let mut list: Vec<_> = splat::complaints(log, &[])
        .into_iter()
        .map(|(number, line)| format!("line {number}: {line}"))
        .collect();
    list.extend(
        log.lines()
            .filter_map(|line| line.trim().strip_prefix(FAILED))
            .map(|words| format!("the script: {words}")),
    );
    if !log.lines().any(|line| line.trim() == END) {
        list.push("the kernel did not come to the end of the script".into());
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostbox::idle_nic;

    #[test]
    fn a_thread_of_the_nic_that_panicked_is_seen_at_the_end() -> Result<()> {
        let folder = tempfile::tempdir()?;
        at_end(&mut idle_nic(folder.path(), "listens"))?;
        let folder = tempfile::tempdir()?;
        let words = "thread 'queue' panicked at src/x.rs:1:1";
        assert!(at_end(&mut idle_nic(folder.path(), words)).is_err());
        Ok(())
    }

    #[test]
    fn only_a_run_that_reached_its_end_without_a_word_is_good() {
        assert!(complaints("[ 0.1] Linux version 7\r\nbed: end\r\n").is_empty());
        assert_eq!(complaints("Linux version 7\n").len(), 1);
        assert_eq!(complaints("bed: failed: insmod\nbed: end\n").len(), 1);
        assert_eq!(
            complaints("unreferenced object 0x6\nbed: end\n"),
            ["line 1: unreferenced object 0x6"]
        );
    }
}
