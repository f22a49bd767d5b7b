// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The command line of a QEMU in the host box. Pure.

use std::fmt::Write as _;

use dlr_guest::protocol::{LINE, PORT_NAME};

use crate::artefacts::distro_kernel::FIRST_PROGRAM;

use super::config::{folder, Backend, VmConfig, NMI};

/// Without paravirtual EOI, for the sake of the emulated host processor: QEMU's TCG keeps the
/// vector of an interrupt that VMRUN injected in `exception_index` until the next VMEXIT, and
/// any exit request in between (another VM opens a function, a BAR moves: every vCPU is asked to
/// take the new memory map) delivers it again, whatever the guest's IF says. A guest that writes the EOI
/// register leaves to KVM, and that VMEXIT clears the vector; Linux's handlers of the local APIC write it
/// before they take a lock.
const CPU: &str = "host,kvm-pv-eoi=off";

/// Words for the guest's kernel: it restarts if it panics, and it panics if it gets an NMI, which a guest
/// that spins does. It does not stop its tick: it would advance its clock at the entry of an interrupt,
/// before the EOI, and a second delivery there deadlocks.
const KERNEL: &str =
    "console=ttyS0 quiet panic=-1 oops=panic unknown_nmi_panic nohz=off no_timer_check";

/// The command line, for a shell. Source and destination differ in nothing but
/// the functions, the files and `-incoming`.
pub(super) fn command_line(config: &VmConfig) -> String {
    let folder = folder(&config.name);
    let memory = config.memory_mib;
    let unusual = &config.unusual;
    let emulator = unusual.emulator.as_deref().unwrap_or("qemu-system-x86_64");
    let machine = unusual.machine.as_deref().unwrap_or("q35");
    let (kernel, initrd, first) = match &unusual.boot {
        Some(boot) => (
            format!("{boot}/vmlinuz"),
            format!("{boot}/initrd"),
            format!(" rdinit={FIRST_PROGRAM}"),
        ),
        None => (
            "/dlr/bzImage".into(),
            "/dlr/guest.cpio".into(),
            String::new(),
        ),
    };
    let (port, line) = if unusual.serial_line {
        // The first one is the console's.
        (
            "-device isa-serial,chardev=guest,index=1".to_owned(),
            format!(" {LINE}=/dev/ttyS1"),
        )
    } else {
        (
            format!(
                "-device virtio-serial-pci,disable-legacy=on,bus=pcie.0,addr=0x10 \
                 -device virtserialport,chardev=guest,name={PORT_NAME}"
            ),
            String::new(),
        )
    };
    let mut line = format!(
        "exec {emulator} -name {} -machine {machine},memory-backend=ram -accel kvm -cpu {CPU} \
         -smp 1 -m {memory}M \
         -object memory-backend-memfd,id=ram,size={memory}M,share=on,hugetlb=on,hugetlbsize=2M \
         -nodefaults -nographic -no-reboot -serial file:{folder}/serial \
         -kernel {kernel} -initrd {initrd} \
         -append '{KERNEL}{first}{line}' \
         -chardev socket,id=guest,path={folder}/guest,server=on,wait=off {port} \
         -qmp unix:{folder}/qmp,server=on,wait=off -qmp unix:{folder}/{NMI},server=on,wait=off \
         -msg timestamp=on -D {folder}/trace -trace events={folder}/events",
        config.name,
    );
    if config.backend == Backend::Iommufd {
        line += " -object iommufd,id=iommufd0";
    }
    // A vIOMMU has to come before the devices behind it.
    if !unusual.words.is_empty() {
        line += &format!(" {}", unusual.words);
    }
    for (n, address) in config.functions.iter().enumerate() {
        let iommufd = match config.backend {
            Backend::Iommufd => ",iommufd=iommufd0",
            Backend::Legacy => "",
        };
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            " -device pcie-root-port,id=rp{n},chassis={},slot={} \
             -device vfio-pci,id=vf{n},bus=rp{n},host={address}{iommufd},enable-migration=on,\
             migration-events=on,rombar=0",
            n + 1,
            n + 1
        );
        if let Some(options) = &unusual.device {
            line += &format!(",{options}");
        }
    }
    if config.incoming {
        line += " -incoming defer";
    }
    if unusual.paused {
        line += " -S";
    }
    format!("{line} > {folder}/qemu.log 2>&1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::e2e::config::Unusual;

    fn config(backend: Backend, incoming: bool) -> VmConfig {
        VmConfig {
            name: "a".into(),
            functions: vec!["0000:00:05.0".into(), "0000:00:06.0".into()],
            backend,
            memory_mib: 256,
            incoming,
            unusual: Unusual::default(),
        }
    }

    #[test]
    fn source_and_destination_differ_in_incoming_only() {
        let source = command_line(&config(Backend::Iommufd, false));
        let destination = command_line(&config(Backend::Iommufd, true));
        assert_eq!(destination.replace(" -incoming defer", ""), source);
        // Without these the emulated processor kills guests.
        assert!(source.contains("-cpu host,kvm-pv-eoi=off ") && source.contains(" nohz=off "));
    }

    #[test]
    fn what_is_unusual_is_added() {
        let mut config = config(Backend::Iommufd, true);
        config.unusual = Unusual {
            device: Some("x-a=off".into()),
            paused: true,
            machine: Some("pc-q35-10.0".into()),
            ..Unusual::default()
        };
        let line = command_line(&config);
        assert_eq!(line.matches("rombar=0,x-a=off").count(), 2);
        assert!(line.contains("-machine pc-q35-10.0,") && line.contains("-incoming defer -S"));
    }

    #[test]
    fn the_guest_is_reached_one_way_or_the_other() {
        let mut config = config(Backend::Iommufd, false);
        let usual = command_line(&config);
        config.unusual.serial_line = true;
        let line = command_line(&config);
        assert!(usual.contains("virtserialport") && !usual.contains("isa-serial"));
        assert!(line.contains("isa-serial") && !line.contains("virtio-serial"));
        assert!(line.contains("dlr_line=/dev/ttyS1'"));
    }

    #[test]
    fn back_ends() {
        let legacy = command_line(&config(Backend::Legacy, false));
        assert!(!legacy.contains("iommufd"));
        let iommufd = command_line(&config(Backend::Iommufd, false));
        assert_eq!(iommufd.matches("iommufd=iommufd0").count(), 2);
        assert_eq!(iommufd.matches("enable-migration=on").count(), 2);
    }
}
