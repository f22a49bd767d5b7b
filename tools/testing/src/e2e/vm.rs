// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A QEMU in the host box with functions of the NIC passed through.

use std::{
    fmt,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail, Context, Error, Result};
use dlr_guest::protocol::READY;
use serde_json::{json, Value};

use super::{
    command::command_line,
    config::{folder, VmConfig},
    guest::Guest,
    order::Order,
};
use crate::{
    agent::Program,
    qmp::{Qmp, Silent},
    HostBox,
};

/// How long a QEMU may take to offer QMP: its start reads much over 9p.
const START: Duration = Duration::from_secs(120);
/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(180);
/// How long a guest that has booted elsewhere may take to answer here.
const ARRIVED: Duration = Duration::from_secs(60);

/// Whether a status is one that a guest brings about by its end, or KVM by not being able to run
/// it.
pub(super) fn stopped_by_itself(status: &str) -> bool {
    matches!(
        status,
        "internal-error" | "paused" | "shutdown" | "guest-panicked"
    )
}

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
vfio_query_precopy_size_request_switchover_ack
vfio_save_complete_precopy_start
vfio_save_complete_precopy
vfio_save_cleanup
vfio_load_state
vfio_load_state_device_data
vfio_load_device_config_state_start
vfio_load_device_config_state_end
vfio_load_cleanup
vfio_device_dirty_tracking_start
vfio_container_query_dirty_bitmap
migration_bitmap_sync_start
migration_bitmap_sync_end
migrate_set_state
vmstate_downtime_checkpoint
vmstate_downtime_save
vmstate_downtime_load
loadvm_approve_switchover
source_return_path_thread_switchover_acked
";

/// A running VM. Dropping it lets the QEMU run on, as part of the box.
pub struct Vm {
    config: VmConfig,
    program: Program,
    qmp: Qmp,
    guest: Option<Guest>,
    /// Length of the trace at the last [`Vm::mark`].
    mark: usize,
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
            config: config.clone(),
            program,
            qmp: qmp?.of(&config.name),
            guest: None,
            mark: 0,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// What it consists of.
    pub fn config(&self) -> &VmConfig {
        &self.config
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
                if self.config.unusual.serial_line && !self.config.incoming {
                    self.until_ready(host)?;
                }
                let socket = format!("{}/guest", folder(self.name()));
                let limit = if self.config.incoming { ARRIVED } else { BOOT };
                let connected =
                    Guest::connect(host, self.name(), &socket, limit).with_context(|| {
                        let serial = self.serial(host);
                        let tail: Vec<&str> = serial.lines().rev().take(5).collect();
                        format!(
                            "guest in `{}`; last lines of its console: {tail:?}",
                            self.name()
                        )
                    });
                match connected {
                    Ok((guest, _)) => guest,
                    Err(e) => {
                        let status = self.status().unwrap_or_else(|e| format!("nothing: {e:#}"));
                        return Err(e.context(format!("QEMU says `{status}`")));
                    }
                }
            }
        };
        Ok(self.guest.insert(guest))
    }

    /// Waits until the guest says on its console that it listens.
    fn until_ready(&self, host: &HostBox) -> Result<()> {
        let end = Instant::now() + BOOT;
        while !self.serial(host).contains(READY) {
            if Instant::now() > end {
                return Err(self.silent("the guest does not come up"));
            }
            sleep(Duration::from_millis(200));
        }
        Ok(())
    }

    /// The guest's console so far.
    pub fn serial(&self, host: &HostBox) -> String {
        let path = format!("{}/serial", folder(self.name()));
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
        let bytes = host.read_file(&format!("{}/trace", folder(self.name())))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Lets [`Vm::order`] begin here.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn mark(&mut self, host: &HostBox) -> Result<()> {
        let size = host.run(&format!("stat -c %s {}/trace", folder(self.name())))?;
        self.mark = size.trim().parse().context("size of the trace")?;
        Ok(())
    }

    /// What QEMU asked of its devices since the last mark.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn order(&self, host: &HostBox) -> Result<Order> {
        let from = self.mark + 1;
        let text = host.run(&format!("tail -c +{from} {}/trace", folder(self.name())))?;
        Ok(Order::parse(&text))
    }

    /// Forgets the connection to the guest, e.g. because it starts anew.
    pub fn forget_guest(&mut self) {
        self.guest = None;
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

    /// An error that a guest brings about which is dead or spins: see [`Silent`].
    pub(super) fn silent(&self, what: impl fmt::Display) -> Error {
        let vm = self.name().to_owned();
        anyhow!("{what}").context(Silent { vm })
    }

    /// Fails unless QEMU says that its guest runs.
    ///
    /// # Errors
    ///
    /// Says what the guest is; that it has stopped by itself is marked with [`Silent`].
    pub fn expect_running(&mut self) -> Result<()> {
        match self.status()?.as_str() {
            "running" => Ok(()),
            status if stopped_by_itself(status) => {
                Err(self.silent(format_args!("the guest is {status}")))
            }
            status => bail!("the guest is {status}"),
        }
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
        let (from, name) = (folder(self.name()), self.name());
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
            .with_context(|| format!("QEMU `{}` does not end", self.config.name))
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
