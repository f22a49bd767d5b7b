// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Puts the parts of the NIC together.

use std::sync::Arc;

use anyhow::Context;
use dlr_core::{DataFunction, DirtySink, Sabotage, WireRx};
use dlr_mgmt::{Config, FunctionConfig, ManagementFunction};
use dlr_net::{NetConfig, NetFunction};
use dlr_pci::{ConfigSpace, FileCache, PciFunction, Port, Server};
use dlr_wire::Wire;

use crate::{
    cli::Args,
    management::{ManagementPci, MasterGate},
};

/// A running NIC.
pub(crate) struct Nic {
    /// The management function.
    pub(crate) management: Arc<ManagementFunction>,
    /// The data functions.
    pub(crate) functions: Vec<Arc<NetFunction>>,
    /// What they are plugged into.
    pub(crate) wire: Wire,
    /// Its switches.
    pub(crate) sabotage: Arc<Sabotage>,
    /// The sockets: the management function's, then one for each data function.
    pub(crate) servers: Vec<Server>,
}

impl Nic {
    /// Builds all functions and serves them.
    pub(crate) fn start(args: &Args) -> anyhow::Result<Self> {
        let count = args.functions;
        if let Some(k) = args.stray_function() {
            anyhow::bail!(
                "--without: there is no data function {k}, only 0 to {}",
                count - 1
            );
        }
        let serial = args.serial();
        let sabotage = Arc::new(Sabotage::default());
        for &(kind, n) in &args.sabotage {
            sabotage.set(kind, n);
        }
        let files = Arc::new(FileCache::default());
        let wire = Wire::new(&args.wire, count.into()).context("the wire")?;

        // One vector for the admin queue and one for each log.
        let vectors = u16::from(count) + 1;
        let config = ConfigSpace::management(serial, vectors);
        let port = Port::new("mf", config, files.clone(), None);
        let gate = MasterGate::new(port.memory());
        let management = Arc::new(ManagementFunction::new(
            Config {
                serial,
                cmd_timeout: args.cmd_timeout(),
                vectors,
                model: "dlr-nic".into(),
                firmware: env!("CARGO_PKG_VERSION").into(),
                functions: (0..count)
                    .map(|k| FunctionConfig {
                        flow_table: args.flow_table,
                        without: args.without(k),
                    })
                    .collect(),
            },
            gate.clone(),
            port.interrupt(),
            &sabotage,
        )?);
        let pci = Arc::new(ManagementPci {
            function: management.clone(),
            gate,
        });
        let path = args.dir.join("mf.sock");
        let server = dlr_pci::serve(&path, port, pci)
            .with_context(|| format!("socket {}", path.display()))?;

        let mut nic = Self {
            management,
            functions: Vec::new(),
            wire,
            sabotage,
            servers: vec![server],
        };
        for k in 0..count {
            nic.add_function(args, k, &files)
                .with_context(|| format!("data function {k}"))?;
        }
        log::info!("serial {serial:#018x}, {count} data functions");
        Ok(nic)
    }

    fn add_function(&mut self, args: &Args, k: u8, files: &Arc<FileCache>) -> anyhow::Result<()> {
        let index = usize::from(k);
        let missing = || anyhow::anyhow!("the management function does not know it");
        let sink: Arc<dyn DirtySink> = self.management.dirty_sink(index).ok_or_else(missing)?;
        let config = dlr_net::pci_config(args.serial(), k.into());
        let port = Port::new(format!("df{k}"), config, files.clone(), Some(sink));
        let function = NetFunction::new(
            NetConfig {
                mac: args.mac(k),
                index: k.into(),
            },
            port.memory(),
            port.interrupt(),
            self.wire.tx(index),
            self.management.flow_sink(index).ok_or_else(missing)?,
            self.management.events(index).ok_or_else(missing)?,
            self.sabotage.clone(),
        )?;
        let data: Arc<dyn DataFunction> = function.clone();
        self.management.attach(index, &data);
        self.wire.attach(index, function.clone() as Arc<dyn WireRx>);
        let path = args.dir.join(format!("df{k}.sock"));
        let server = dlr_pci::serve(&path, port, function.clone() as Arc<dyn PciFunction>)
            .with_context(|| format!("socket {}", path.display()))?;
        self.functions.push(function);
        self.servers.push(server);
        Ok(())
    }
}
