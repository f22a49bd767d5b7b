// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A host box with a NIC, the driver bound to it, and VMs.

use std::time::Instant;

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

use super::{
    unix_ms,
    vm::{Backend, Vm, VmConfig},
};
use crate::{BoxConfig, HostBox, NicConfig};

/// Memory of a guest in MiB.
pub const GUEST_MIB: u32 = 256;

/// A box that is ready for guests.
pub struct Lab {
    host: HostBox,
    functions: Vec<String>,
    backend: Backend,
    /// This machine's clock minus the box's, in milliseconds.
    clock_ms: i64,
    started: u32,
}

impl Lab {
    /// Starts a box with one NIC of `functions` data functions, all bound to the
    /// driver, and memory for two guests at a time. `nic_args` go to `dlr-nic`.
    ///
    /// # Errors
    ///
    /// What does not start or bind.
    pub fn start(name: &str, functions: u16, backend: Backend, nic_args: &[&str]) -> Result<Self> {
        let nic = NicConfig::new(functions).args(nic_args.iter().copied());
        let pages = 2 * GUEST_MIB / 2 + 8;
        // The tests of the driver's parts would run at each insmod.
        let config = BoxConfig::new(name)
            .nic(nic)
            .huge_pages(pages)
            .kernel_arg("kunit.enable=0");
        let host = HostBox::start(config)?;
        let functions = host.bind_dlr(0)?;
        let clock_ms = clock(&host)?;
        Ok(Self {
            host,
            functions,
            backend,
            clock_ms,
            started: 0,
        })
    }

    /// A box for the running test, named by it.
    ///
    /// # Errors
    ///
    /// See [`Lab::start`].
    pub fn for_test(functions: u16, backend: Backend, nic_args: &[&str]) -> Result<Self> {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("test").replace("::", "-");
        Self::start(&name, functions, backend, nic_args)
    }

    /// The box.
    pub fn host(&self) -> &HostBox {
        &self.host
    }

    /// PCI addresses of the data functions.
    pub fn functions(&self) -> &[String] {
        &self.functions
    }

    /// This machine's clock minus the box's, in milliseconds.
    pub fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Starts a VM with these data functions, by number.
    ///
    /// # Errors
    ///
    /// No such function, or QEMU does not start.
    pub fn vm(&mut self, functions: &[usize], incoming: bool) -> Result<Vm> {
        let addresses = functions.iter().map(|&n| {
            self.functions
                .get(n)
                .cloned()
                .with_context(|| format!("the NIC has no data function {n}"))
        });
        let config = VmConfig {
            name: format!("vm{}", self.started),
            functions: addresses.collect::<Result<_>>()?,
            backend: self.backend,
            memory_mib: GUEST_MIB,
            incoming,
        };
        self.started += 1;
        Vm::start(&self.host, &config)
    }

    /// A request to the wire of the NIC.
    ///
    /// # Errors
    ///
    /// The NIC refuses.
    pub fn wire(&self, request: Value) -> Result<Value> {
        self.nic(&json!({ "wire": request }))
    }

    /// A request to the NIC.
    ///
    /// # Errors
    ///
    /// The NIC refuses.
    pub fn nic(&self, request: &Value) -> Result<Value> {
        let answer = self.host.nic(0)?.control(request)?;
        if answer["ok"] != true {
            bail!("the NIC, asked for {request}: {}", answer["error"]);
        }
        Ok(answer)
    }

    /// Breaks a rule of the NIC, or mends it with `n` 0.
    ///
    /// # Errors
    ///
    /// The NIC does not know the rule.
    pub fn sabotage(&self, kind: &str, n: u64) -> Result<()> {
        self.nic(&json!({"cmd": "sabotage", "kind": kind, "n": n}))
            .map(drop)
    }

    /// Keeps the folder of results even if all goes well.
    pub fn keep_results(&mut self) {
        self.host.keep_results();
    }

    /// Ends a test that went well.
    ///
    /// # Errors
    ///
    /// The kernel of the box complained, or the NIC died.
    pub fn finish(mut self) -> Result<()> {
        self.host.check()?;
        self.host.finish()
    }
}

/// Compares the clocks, to a few ten milliseconds.
fn clock(host: &HostBox) -> Result<i64> {
    let mut best: Option<(u128, i64)> = None;
    for _ in 0..3 {
        let start = Instant::now();
        let before = unix_ms();
        let text = host.run("date +%s%3N")?;
        let took = start.elapsed().as_millis();
        let there: i64 = text.trim().parse().context("clock of the box")?;
        let middle =
            i64::try_from(before + u64::try_from(took / 2).unwrap_or(0)).unwrap_or(i64::MAX);
        if best.is_none_or(|(t, _)| took < t) {
            best = Some((took, middle - there));
        }
    }
    Ok(best.map_or(0, |(_, offset)| offset))
}
