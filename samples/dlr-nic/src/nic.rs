// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Puts the parts of the NIC together.

use std::sync::Arc;

use anyhow::Context;
use dlr_core::{DataFunction, DirtySink, Sabotage, WireRx};
use dlr_mgmt::{Config, FunctionConfig, ManagementFunction};
use dlr_net::{Addresses, NetConfig, NetFunction};
use dlr_pci::{ConfigSpace, FileCache, PciFunction, Port, Reach, Server};
use dlr_wire::Wire;

use crate::{
    cli::{Args, Transport},
    management::{ManagementPci, MasterGate, Vfs},
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
    /// PCI functions: the management function's, then one for each data function.
    pub(crate) ports: Vec<Arc<Port>>,
    /// The data functions as VFs, with `--sriov-like`.
    pub(crate) vfs: Arc<Vfs>,
    /// The vfio-user sockets: the management function's, then one for each data function.
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
        let files = Arc::new(if args.unsealed_memory {
            FileCache::with_unsealed()
        } else {
            FileCache::default()
        });
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
                        compat: args.queue_size.compat(),
                        without: args.without(k),
                        iova_bits: args.iova_bits,
                    })
                    .collect(),
            },
            gate.clone(),
            port.interrupt(),
            &sabotage,
        )?);
        let vfs = Arc::new(Vfs::default());
        let pci = Arc::new(ManagementPci {
            function: management.clone(),
            gate,
            vfs: vfs.clone(),
        });
        let ports = vec![port.clone()];
        let server = serve(args, "mf.sock", port, pci, Reach::All)?;

        let mut nic = Self {
            management,
            functions: Vec::new(),
            wire,
            sabotage,
            ports,
            vfs,
            servers: server.into_iter().collect(),
        };
        let addresses = Addresses::new((0..count).map(|k| args.mac(k)));
        for k in 0..count {
            nic.add_function(args, k, &files, &addresses)
                .with_context(|| format!("data function {k}"))?;
        }
        log::info!("serial {serial:#018x}, {count} data functions");
        Ok(nic)
    }

    fn add_function(
        &mut self,
        args: &Args,
        k: u8,
        files: &Arc<FileCache>,
        addresses: &Arc<Addresses>,
    ) -> anyhow::Result<()> {
        let index = usize::from(k);
        let missing = || anyhow::anyhow!("the management function does not know it");
        let sink: Arc<dyn DirtySink> = self.management.dirty_sink(index).ok_or_else(missing)?;
        let config = dlr_net::pci_config(args.serial(), k.into());
        let port = Port::new(format!("df{k}"), config, files.clone(), Some(sink));
        let words = port.clone();
        let function = NetFunction::new(
            NetConfig {
                index: k.into(),
                addresses: Arc::clone(addresses),
                queue_size: args.queue_size,
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
        self.management.attach_words(index, words);
        self.wire.attach(index, function.clone() as Arc<dyn WireRx>);
        if args.sriov_like {
            self.vfs.add(port.clone(), function.clone());
        }
        self.ports.push(port.clone());
        let server = serve(
            args,
            &format!("df{k}.sock"),
            port,
            function.clone(),
            Reach::Window,
        )?;
        self.functions.push(function);
        self.servers.extend(server);
        Ok(())
    }
}

/// Serves a function on the socket `name`; `reach` is for a client without an IOMMU.
fn serve(
    args: &Args,
    name: &str,
    port: Arc<Port>,
    function: Arc<dyn PciFunction>,
    reach: Reach,
) -> anyhow::Result<Option<Server>> {
    let path = args.dir.join(name);
    match args.transport {
        Transport::VfioUser => dlr_pci::serve(&path, port, function).map(Some),
        Transport::VhostUser => dlr_pci::serve_vhost(&path, port, function, reach).map(|()| None),
    }
    .with_context(|| format!("socket {}", path.display()))
}
