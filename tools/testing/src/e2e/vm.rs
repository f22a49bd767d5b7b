// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A QEMU in the host box with functions of the NIC passed through.

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result};
use dlr_guest::protocol::PORT_NAME;
use serde_json::{json, Value};

use super::guest::Guest;
use crate::{agent::Program, qmp::Qmp, HostBox};

/// How long a QEMU may take to offer QMP: its start reads much over 9p.
const START: Duration = Duration::from_secs(120);
/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(180);

/// Without paravirtual EOI, for the sake of the emulated host processor: QEMU's TCG keeps the
/// vector of an interrupt that VMRUN injected in `exception_index` until the next VMEXIT, and
/// any exit request in between (another VM opens a function, a BAR moves: every vCPU is asked to
/// take the new memory map) delivers it again, whatever the guest's IF says. A guest whose timer
/// interrupt comes twice deadlocks on its own lock. Writing the EOI register is a VMEXIT, and
/// Linux does it before its handlers take a lock.
const CPU: &str = "host,kvm-pv-eoi=off";

/// Trace events that the reports are made from.
const EVENTS: &str = "\
vfio_migration_init
vfio_migration_realize
vfio_migration_set_state
vfio_migration_set_device_state
vfio_vmstate_change
vfio_vmstate_change_prepare
vfio_save_setup
vfio_save_block
vfio_send_init_data_flag
vfio_save_complete_precopy_start
vfio_save_complete_precopy
vfio_save_cleanup
vfio_load_state
vfio_load_device_config_state_start
vfio_load_device_config_state_end
vfio_load_cleanup
vfio_device_dirty_tracking_start
vfio_container_query_dirty_bitmap
migration_bitmap_sync_start
migration_bitmap_sync_end
migrate_set_state
vmstate_downtime_checkpoint
loadvm_approve_switchover
source_return_path_thread_switchover_acked
";

/// How QEMU reaches VFIO devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Device nodes and `/dev/iommu`.
    Iommufd,
    /// Groups and containers.
    Legacy,
}

/// What a VM consists of.
#[derive(Clone, Debug)]
pub struct VmConfig {
    /// Name; its files are in `/run/vm/NAME`.
    pub name: String,
    /// PCI addresses of the functions it gets.
    pub functions: Vec<String>,
    /// How it reaches them.
    pub backend: Backend,
    /// Memory in MiB, on huge pages of 2 MiB.
    pub memory_mib: u32,
    /// Whether it waits for a migration.
    pub incoming: bool,
}

/// A running VM. Dropping it lets the QEMU run on, as part of the box.
pub struct Vm {
    name: String,
    program: Program,
    qmp: Qmp,
    guest: Option<Guest>,
}

impl Vm {
    /// Starts the QEMU and waits for its QMP.
    ///
    /// # Errors
    ///
    /// QEMU does not start; the error holds what it said.
    pub fn start(host: &HostBox, config: &VmConfig) -> Result<Self> {
        let folder = folder(&config.name);
        host.run(&format!("rm -rf {folder}; mkdir -p {folder}"))?;
        host.write_file(&format!("{folder}/events"), EVENTS)?;
        let program = host.spawn(&command_line(config))?;
        let qmp = host.qmp(&format!("{folder}/qmp"), START).with_context(|| {
            let said = host
                .run(&format!("cat {folder}/qemu.log"))
                .unwrap_or_default();
            format!("QEMU `{}` does not start: {}", config.name, said.trim())
        });
        Ok(Self {
            name: config.name.clone(),
            program,
            qmp: qmp?,
            guest: None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its QMP.
    pub fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// The guest in it, once it runs here.
    ///
    /// # Errors
    ///
    /// The guest does not answer.
    pub fn guest(&mut self, host: &HostBox) -> Result<&mut Guest> {
        let guest = match self.guest.take() {
            Some(guest) => guest,
            None => {
                let socket = format!("{}/guest", folder(&self.name));
                let connected = Guest::connect(host, &socket, BOOT).with_context(|| {
                    let serial = self.serial(host);
                    let tail: Vec<&str> = serial.lines().rev().take(5).collect();
                    format!(
                        "guest in `{}`; last lines of its console: {tail:?}",
                        self.name
                    )
                });
                connected?.0
            }
        };
        Ok(self.guest.insert(guest))
    }

    /// The guest's console so far.
    pub fn serial(&self, host: &HostBox) -> String {
        let path = format!("{}/serial", folder(&self.name));
        host.read_file(&path).map_or_else(
            |e| e.to_string(),
            |b| String::from_utf8_lossy(&b).into_owned(),
        )
    }

    /// QEMU's trace so far.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn trace(&self, host: &HostBox) -> Result<String> {
        let bytes = host.read_file(&format!("{}/trace", folder(&self.name)))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `query-status`: `running`, `paused`, `inmigrate`, `postmigrate` …
    ///
    /// # Errors
    ///
    /// QEMU is gone.
    pub fn status(&mut self) -> Result<String> {
        let status = self.qmp.execute("query-status", Value::Null)?;
        Ok(status["status"].as_str().unwrap_or_default().to_owned())
    }

    /// Sets migration capabilities and parameters that both sides share.
    ///
    /// # Errors
    ///
    /// QEMU refuses.
    pub fn prepare_migration(&mut self, downtime_ms: u64, switchover_bandwidth: u64) -> Result<()> {
        let on = |name: &str| json!({"capability": name, "state": true});
        let list = [on("events"), on("return-path"), on("switchover-ack")];
        self.qmp
            .execute("migrate-set-capabilities", json!({"capabilities": list}))?;
        self.qmp.execute(
            "migrate-set-parameters",
            json!({"downtime-limit": downtime_ms, "max-bandwidth": 1_u64 << 30,
                "avail-switchover-bandwidth": switchover_bandwidth}),
        )?;
        Ok(())
    }

    /// Copies its logs to the folder of results.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn keep_logs(&self, host: &HostBox) -> Result<()> {
        let (from, name) = (folder(&self.name), &self.name);
        host.run(&format!(
            "for f in serial trace qemu.log; do cp {from}/$f /results/{name}.$f || true; done"
        ))
        .map(drop)
    }

    /// Ends the QEMU, keeping its logs.
    ///
    /// # Errors
    ///
    /// It does not end within a minute.
    pub fn quit(mut self, host: &HostBox) -> Result<()> {
        // The answer may be cut off by QEMU's end.
        let _ = self.qmp.execute("quit", Value::Null);
        let ended = self.program.wait(Duration::from_secs(60));
        self.keep_logs(host)?;
        ended
            .with_context(|| format!("QEMU `{}` does not end", self.name))
            .map(drop)
    }

    /// Ends the QEMU hard, as a crash.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn kill(mut self, host: &HostBox) -> Result<()> {
        self.program.signal(9)?;
        self.program.wait(Duration::from_secs(60))?;
        self.keep_logs(host)
    }
}

fn folder(name: &str) -> String {
    format!("/run/vm/{name}")
}

/// The command line, for a shell. Source and destination differ in nothing but
/// the functions, the files and `-incoming`.
fn command_line(config: &VmConfig) -> String {
    let folder = folder(&config.name);
    let memory = config.memory_mib;
    let mut line = format!(
        "exec qemu-system-x86_64 -name {} -machine q35,memory-backend=ram -accel kvm -cpu {CPU} \
         -smp 1 -m {memory}M \
         -object memory-backend-memfd,id=ram,size={memory}M,share=on,hugetlb=on,hugetlbsize=2M \
         -nodefaults -nographic -no-reboot -serial file:{folder}/serial \
         -kernel /dlr/bzImage -initrd /dlr/guest.cpio \
         -append 'console=ttyS0 quiet panic=-1 oops=panic no_timer_check' \
         -device virtio-serial-pci,disable-legacy=on,bus=pcie.0,addr=0x10 \
         -chardev socket,id=guest,path={folder}/guest,server=on,wait=off \
         -device virtserialport,chardev=guest,name={PORT_NAME} \
         -qmp unix:{folder}/qmp,server=on,wait=off \
         -msg timestamp=on -D {folder}/trace -trace events={folder}/events",
        config.name,
    );
    if config.backend == Backend::Iommufd {
        line += " -object iommufd,id=iommufd0";
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
    }
    if config.incoming {
        line += " -incoming defer";
    }
    format!("{line} > {folder}/qemu.log 2>&1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(backend: Backend, incoming: bool) -> VmConfig {
        VmConfig {
            name: "a".into(),
            functions: vec!["0000:00:05.0".into(), "0000:00:06.0".into()],
            backend,
            memory_mib: 256,
            incoming,
        }
    }

    #[test]
    fn source_and_destination_differ_in_incoming_only() {
        let source = command_line(&config(Backend::Iommufd, false));
        let destination = command_line(&config(Backend::Iommufd, true));
        assert_eq!(destination.replace(" -incoming defer", ""), source);
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
