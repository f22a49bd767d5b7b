// SPDX-License-Identifier: Apache-2.0 OR MIT

//! What `vfio-mig` advises: each hint is provoked, followed to the letter, and has to have helped.

use std::time::Duration;

use anyhow::{bail, ensure, Context, Result};
use dlr_testing::HostBox;

/// A hint. In the shell commands `$D` and `$E` are data functions, `$F` is one without device state, `$M` is the management function, `$P`
/// the folder of `$D` in sysfs and `$USER` what makes an ordinary user run a command.
struct Hint {
    /// What it is about.
    name: &'static str,
    /// Brings the trouble about.
    provoke: &'static str,
    /// The command that has to say so.
    command: &'static str,
    /// Words that it has to use.
    says: &'static str,
    /// What they advise.
    follow: &'static str,
    /// The command that works then, without these words; the same one if empty.
    then: &'static str,
    /// Back to the beginning: `$D` and `$E` bound to their driver.
    restore: &'static str,
}

/// Unbinds `$D` and has another driver of this name take it, the empty one none.
const TAKE: &str = "take() { echo $D > $P/driver/unbind; echo \"$1\" > $P/driver_override; \
                    [ -z \"$1\" ] || echo $D > /sys/bus/pci/drivers_probe; }";

const INFO: &str = "vfio-mig info $D";

const HINTS: &[Hint] = &[
    Hint {
        name: "no driver",
        provoke: "take ''",
        command: INFO,
        says: "has no driver: write the vfio driver's name into",
        follow: "echo dlr_vfio_pci > $P/driver_override && echo $D > /sys/bus/pci/drivers_probe",
        then: "",
        restore: "",
    },
    Hint {
        name: "a driver of the host",
        provoke: "take virtio-pci",
        command: INFO,
        says: "is bound to virtio-pci, not to a vfio driver: unbind it",
        follow: "echo $D > $P/driver/unbind && echo dlr_vfio_pci > $P/driver_override && \
                 echo $D > /sys/bus/pci/drivers_probe",
        then: "",
        restore: "",
    },
    Hint {
        name: "a module that is not loaded",
        provoke: "rmmod dlr_vfio_pci",
        command: INFO,
        says: "has no driver though driver_override says dlr_vfio_pci: is that module loaded",
        follow: "insmod /dlr/modules/dlr_vfio_pci.ko",
        then: "",
        restore: "",
    },
    Hint {
        name: "a probe that is put off",
        provoke: "echo $D > $P/driver/unbind; echo $M > /sys/bus/pci/devices/$M/driver/unbind; \
                  echo $D > /sys/bus/pci/drivers_probe || true",
        command: INFO,
        says: "(EPROBE_DEFER, 517) until the function that manages it is bound",
        follow: "echo $M > /sys/bus/pci/drivers_probe; \
                 [ -e $P/driver ] || echo $D > /sys/bus/pci/drivers_probe",
        then: "",
        restore: "",
    },
    Hint {
        name: "a management function that has gone",
        provoke: "echo $M > /sys/bus/pci/devices/$M/driver/unbind",
        command: INFO,
        says: "is the function that manages it bound?",
        follow: "echo $M > /sys/bus/pci/drivers_probe",
        then: "",
        restore: "",
    },
    Hint {
        name: "a management function that has gone, and a log",
        provoke: "echo $M > /sys/bus/pci/devices/$M/driver/unbind",
        command: "vfio-mig log $D --count 1 --interval 10",
        says: "is the function that manages it bound?",
        follow: "echo $M > /sys/bus/pci/drivers_probe",
        then: "",
        restore: "",
    },
    Hint {
        name: "a management function that has gone, and an image",
        provoke: "echo $M > /sys/bus/pci/devices/$M/driver/unbind",
        command: "vfio-mig save $D /tmp/image",
        says: "is the function that manages it bound?",
        follow: "echo $M > /sys/bus/pci/drivers_probe",
        then: "",
        restore: "",
    },
    Hint {
        name: "a function without device state",
        provoke: "",
        command: "vfio-mig info $F",
        says: "has no migration support for it (feature MIGRATION: ENOTTY); see the kernel log",
        follow: "",
        then: "dmesg | grep 'no device state: not migratable'",
        restore: "",
    },
    Hint {
        name: "plain vfio-pci",
        provoke: "take vfio-pci",
        command: INFO,
        says: "a variant driver is needed: `grep vfio_pci: /lib/modules/$(uname -r)/modules.alias`",
        // depmod is what an installation of the module does.
        follow: "mkdir -p /lib/modules/$(uname -r) && \
                 cp /dlr/modules/dlr_vfio_pci.ko /lib/modules/$(uname -r) && depmod && \
                 driver=$(grep vfio_pci: /lib/modules/$(uname -r)/modules.alias | \
                 grep -io 'v00001af4d00001041.* dlr_vfio_pci' | cut -d' ' -f2) && take $driver",
        then: "",
        restore: "",
    },
    Hint {
        name: "no iommufd",
        provoke: "mv /dev/iommu /dev/away",
        command: "vfio-mig --backend iommufd info $D",
        says: "`--backend legacy` does without",
        follow: "",
        then: "vfio-mig --backend legacy info $D",
        restore: "mv /dev/away /dev/iommu",
    },
    Hint {
        name: "no device nodes",
        provoke: "mv /dev/vfio/devices /dev/away",
        command: "vfio-mig --backend iommufd info $D",
        says: "`--backend legacy` does without",
        follow: "",
        then: "vfio-mig --backend legacy info $D",
        restore: "mv /dev/away /dev/vfio/devices",
    },
    Hint {
        name: "no group nodes",
        provoke: "mv /dev/vfio/$G /dev/away",
        command: "vfio-mig --backend legacy info $D",
        says: "`--backend iommufd` does without",
        follow: "",
        then: "vfio-mig --backend iommufd info $D",
        restore: "mv /dev/away /dev/vfio/$G",
    },
    Hint {
        name: "no container",
        provoke: "mv /dev/vfio/vfio /dev/away",
        command: "vfio-mig --backend legacy info $D",
        says: "`--backend iommufd` does without",
        follow: "",
        then: "vfio-mig --backend iommufd info $D",
        restore: "mv /dev/away /dev/vfio/vfio",
    },
    // The box's kernel has no such mode; the node that it makes is all that the tool looks at.
    Hint {
        name: "the no-IOMMU mode",
        provoke: "mv /dev/vfio/$G /dev/vfio/noiommu-$G",
        command: "vfio-mig --backend legacy info $D",
        says: "the device is in no-IOMMU mode, where nothing can be migrated: switch the IOMMU on",
        follow: "mv /dev/vfio/noiommu-$G /dev/vfio/$G",
        then: "",
        restore: "",
    },
    Hint {
        name: "an ordinary user",
        provoke: "",
        command: "$USER vfio-mig --backend iommufd info $D",
        says: "only root may, and users that were given the device node",
        follow: "chown 65534 /dev/iommu /dev/vfio/devices/*",
        then: "",
        restore: "",
    },
    Hint {
        name: "an ordinary user of groups",
        provoke: "",
        command: "$USER vfio-mig --backend legacy info $D",
        says: "only root may, and users that were given the device node",
        follow: "chown 65534 /dev/vfio/*",
        then: "",
        restore: "",
    },
    Hint {
        name: "little memory that may be locked",
        provoke: "",
        command:
            "ulimit -l 64; $USER vfio-mig --backend iommufd mirror $D $E --rounds 1 --replies 1",
        says: "run `ulimit -l unlimited` as root in the shell that starts it",
        follow: "",
        then: "ulimit -l unlimited; \
               $USER vfio-mig --backend iommufd mirror $D $E --rounds 1 --replies 1",
        restore: "",
    },
    Hint {
        name: "little memory that may be locked, and containers",
        provoke: "",
        command:
            "ulimit -l 64; $USER vfio-mig --backend legacy mirror $D $E --rounds 1 --replies 1",
        says:
            "this process may lock 64.00 KiB of memory, and DMA needs locked memory: run `ulimit -l",
        follow: "",
        then: "ulimit -l unlimited; \
               $USER vfio-mig --backend legacy mirror $D $E --rounds 1 --replies 1",
        restore: "",
    },
    Hint {
        name: "a device in use",
        provoke: "(echo '{\"cmd\":\"open\"}'; sleep 600) | vfio-mig drive $D > /tmp/opened & \
                  while [ ! -s /tmp/opened ]; do sleep 0.1; done",
        command: INFO,
        says: "another program uses it",
        follow: "pkill -x vfio-mig; while pgrep -x vfio-mig; do sleep 0.1; done",
        then: "",
        restore: "",
    },
    Hint {
        name: "a group in use",
        provoke: "(echo '{\"cmd\":\"open\"}'; sleep 600) | \
                  vfio-mig --backend legacy drive $D > /tmp/grouped & \
                  while [ ! -s /tmp/grouped ]; do sleep 0.1; done",
        command: "vfio-mig --backend legacy info $D",
        says: "another program uses it, or its group",
        follow: "pkill -x vfio-mig; while pgrep -x vfio-mig; do sleep 0.1; done",
        then: "",
        restore: "",
    },
    Hint {
        name: "no huge pages",
        provoke: "",
        command: "vfio-mig mirror $D $E --rounds 1 --replies 1 --huge-pages always",
        says: "reserve some: echo 128 > /proc/sys/vm/nr_hugepages, or use --huge-pages never",
        follow: "echo 128 > /proc/sys/vm/nr_hugepages",
        then: "",
        restore: "echo 0 > /proc/sys/vm/nr_hugepages",
    },
    Hint {
        name: "no huge pages, and none wanted",
        provoke: "",
        command: "vfio-mig mirror $D $E --rounds 1 --replies 1 --huge-pages always",
        says: "or use --huge-pages never",
        follow: "",
        then: "vfio-mig mirror $D $E --rounds 1 --replies 1 --huge-pages never",
        restore: "",
    },
];

/// Provokes and follows all of them.
pub(crate) fn follow(host: &HostBox, management: &str, functions: &[String]) -> Result<()> {
    let [d, e, f] = functions else {
        bail!("three functions, and not {functions:?}");
    };
    let prelude = format!(
        "D={d} E={e} F={f} M={management} P=/sys/bus/pci/devices/{d} \
         G=$(basename $(readlink /sys/bus/pci/devices/{d}/iommu_group)) \
         USER='setpriv --reuid 65534 --regid 65534 --clear-groups'; {TAKE}"
    );
    let run = |command: &str| host.run(&format!("{prelude}\n{command}"));
    for hint in HINTS {
        let name = hint.name;
        if !hint.provoke.is_empty() {
            run(hint.provoke).with_context(|| format!("{name}: provoke"))?;
        }
        let said = |command: &str| -> Result<(Option<i32>, String)> {
            let limit = Duration::from_secs(120);
            let done = host.try_run(&format!("{prelude}\n{command}"), limit)?;
            let text = done.text() + &String::from_utf8_lossy(&done.stderr);
            Ok((done.code, text))
        };
        let (_, before) = said(hint.command)?;
        ensure!(before.contains(hint.says), "{name}: {before}");
        if !hint.follow.is_empty() {
            run(hint.follow).with_context(|| format!("{name}: follow"))?;
        }
        let then = if hint.then.is_empty() {
            hint.command
        } else {
            hint.then
        };
        let (code, after) = said(then)?;
        ensure!(
            code == Some(0) && !after.contains(hint.says),
            "{name}: it did not help ({code:?}): {after}"
        );
        if !hint.restore.is_empty() {
            run(hint.restore).with_context(|| format!("{name}: restore"))?;
        }
    }
    Ok(())
}
