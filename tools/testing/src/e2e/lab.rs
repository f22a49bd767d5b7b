// SPDX-License-Identifier: Apache-2.0 OR MIT

//! A host box with a NIC, the driver bound to it, and VMs.

mod exits;
mod last_words;

use std::{
    collections::BTreeMap,
    sync::{
        atomic::{AtomicU32, Ordering},
        Mutex, PoisonError,
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{json, Value};

use super::{
    census::{self, Event},
    config::{Backend, Unusual, VmConfig},
    unix_ms,
    vm::Vm,
};
use crate::{artefacts::Artefacts, BoxConfig, HostBox, NicConfig};

/// Memory of a guest in MiB.
pub const GUEST_MIB: u32 = 256;

/// On a busy machine the box may calibrate its TSC at boot wrongly by some thousandths. KVM would
/// then try to scale the guests' TSC, which the emulated processor cannot, and leave them without
/// timers ("user requested TSC rate below hardware speed"). The default is 250.
const TSC_TOLERANCE: &str = "kvm.tsc_tolerance_ppm=20000";

/// Starts a VM that never runs, for the life of the box. Its vCPU holds KVM's static branches
/// (`apic_sw_disabled`, `preempt_notifier_key`) in one position. Otherwise the first and the last
/// vCPU of the others have them patched while code there runs on another processor, and under
/// TCG that processor now and then meets the breakpoint of a patch that is complete: "Oops: int3".
/// The kernel of the boxes has no jump labels, that of Debian has.
const KEEPER: &str = "qemu-system-x86_64 -name keeper -machine q35 -accel kvm -cpu host -m 16M -S \
                      -nodefaults -display none -daemonize";

/// Virtual machines that were started: their names differ also if they are in different boxes.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A box that is ready for guests.
pub struct Lab {
    host: HostBox,
    functions: Vec<String>,
    backend: Backend,
    /// [`Lab::clock_ms`] at the start.
    clock_ms: i64,
    /// Length of the consoles when [`Lab::mark_consoles`] was called last.
    consoles: Mutex<BTreeMap<String, u64>>,
}

impl Lab {
    /// Starts a box with one NIC of `functions` data functions, all bound to the
    /// driver, and memory for two guests at a time. `nic_args` go to `dlr-nic`.
    ///
    /// # Errors
    ///
    /// What does not start or bind.
    pub fn start(name: &str, functions: u16, backend: Backend, nic_args: &[&str]) -> Result<Self> {
        Self::start_with(name, functions, backend, nic_args, |config| config)
    }

    /// [`Lab::start`] in a box that `adapt` has changed.
    ///
    /// # Errors
    ///
    /// See there.
    pub fn start_with(
        name: &str,
        functions: u16,
        backend: Backend,
        nic_args: &[&str],
        adapt: impl FnOnce(BoxConfig) -> BoxConfig,
    ) -> Result<Self> {
        let nic = NicConfig::new(functions).args(nic_args.iter().copied());
        let pages = 2 * GUEST_MIB / 2 + 8;
        let config = BoxConfig::new(name).nic(nic).huge_pages(pages);
        Self::in_box(adapt(config), Artefacts::find()?, "", backend)
    }

    /// A lab in a box of its own kind: the driver is loaded with `parameters`, and gets all functions of
    /// the first NIC. Guests need huge pages. The box gets one processor more than `config` says, the first
    /// one, on which nothing runs that the agent starts, and so no guest.
    ///
    /// With QEMU's TCG each FXRSTOR and XRSTOR, on any processor, reads the SVM state of the first one
    /// (`env->hflags2`), changes it and writes it back (`cpu_clear_ignne()` in
    /// `target/i386/tcg/system/fpu_helper.c`). If the first processor executes VMRUN or a VMEXIT meanwhile, it
    /// loses what that has changed: whether nested paging is on, and whether the global interrupt flag is set.
    ///
    /// # Errors
    ///
    /// See [`Lab::start`].
    pub fn in_box(
        config: BoxConfig,
        artefacts: Artefacts,
        parameters: &str,
        backend: Backend,
    ) -> Result<Self> {
        // The tests of the driver's parts would run at each insmod.
        let mut config = config
            .kernel_arg("kunit.enable=0")
            .kernel_arg(TSC_TOLERANCE);
        let processors = config.cpus;
        config.cpus += 1;
        let host = HostBox::start_with(config, artefacts)?;
        // A thread of the agent that ends between taskset's list and its call fails the call.
        host.run(&format!(
            "for try in 1 2 3 4 5; do taskset -acp 1-{processors} $PPID > /dev/null && break; done && \
             taskset -acp 1-{processors} $$ && [ $(nproc) = {processors} ]"
        ))
        .context("programs off the first processor")?;
        host.load_driver(parameters)?;
        let functions = host.bind_dlr(0)?;
        host.run(KEEPER)
            .context("a VM that holds KVM's static branches")?;
        host.run(exits::NOTE_EXITS).context("KVM's trace events")?;
        let clock_ms = clock(&host)?;
        Ok(Self {
            host,
            functions,
            backend,
            clock_ms,
            consoles: Mutex::default(),
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

    /// Binds the functions of another NIC of the box too. They follow those that are there.
    ///
    /// # Errors
    ///
    /// See [`HostBox::bind_dlr`].
    pub fn adopt(&mut self, nic: usize) -> Result<()> {
        self.functions.extend(self.host.bind_dlr(nic)?);
        Ok(())
    }

    /// PCI addresses of the data functions.
    pub fn functions(&self) -> &[String] {
        &self.functions
    }

    /// This machine's clock minus the box's, in milliseconds, as it is now: they drift. Of a box that is gone
    /// it is what it was at its start.
    pub fn clock_ms(&self) -> i64 {
        clock(&self.host).unwrap_or(self.clock_ms)
    }

    /// Starts a VM with these data functions, by number.
    ///
    /// # Errors
    ///
    /// No such function, or QEMU does not start.
    pub fn vm(&mut self, functions: &[usize], incoming: bool) -> Result<Vm> {
        self.unusual_vm(functions, incoming, &Unusual::default())
    }

    /// [`Lab::vm`] with something unusual about it.
    ///
    /// # Errors
    ///
    /// No such function, or QEMU does not start.
    pub fn unusual_vm(
        &mut self,
        functions: &[usize],
        incoming: bool,
        unusual: &Unusual,
    ) -> Result<Vm> {
        let addresses = functions.iter().map(|&n| {
            self.functions
                .get(n)
                .cloned()
                .with_context(|| format!("the NIC has no data function {n}"))
        });
        let config = VmConfig {
            name: format!("vm{}", STARTED.fetch_add(1, Ordering::Relaxed)),
            functions: addresses.collect::<Result<_>>()?,
            backend: self.backend,
            memory_mib: unusual.memory_mib.unwrap_or(GUEST_MIB),
            incoming,
            unusual: unusual.clone(),
        };
        // What never runs, and what another guest moves into, is no guest.
        if !incoming && !unusual.paused {
            census::enter(Event::Begins, &config.name)?;
        }
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
        self.host.nic(0)?.control(request)
    }

    /// [`Nic::sabotage`](crate::hostbox::Nic::sabotage) of the first NIC.
    ///
    /// # Errors
    ///
    /// The NIC does not know the rule.
    pub fn sabotage(&self, kind: &str, n: u64) -> Result<()> {
        self.host.nic(0)?.sabotage(kind, n)
    }

    /// Lets the next commands `opcode` of the NIC end with `status`: `count` of them, when
    /// `after` more have passed.
    ///
    /// # Errors
    ///
    /// The NIC does not know the command.
    pub fn fault(&self, opcode: &str, status: u16, after: u64, count: u64) -> Result<()> {
        self.nic(
            &json!({"cmd": "fault", "opcode": opcode, "action": {"status": status},
            "after": after, "count": count}),
        )
        .map(drop)
    }

    /// What the NIC says about a data function.
    ///
    /// # Errors
    ///
    /// It has no such function.
    pub fn function_stats(&self, function: usize) -> Result<Value> {
        let mut stats = self.nic(&json!({"cmd": "stats"}))?;
        let found = stats["functions"].get_mut(function).map(Value::take);
        found.with_context(|| format!("no data function {function} in {stats}"))
    }

    /// All guests have been well until now: what their consoles say already excuses none of them.
    ///
    /// # Errors
    ///
    /// The box is gone.
    pub fn mark_consoles(&self) -> Result<()> {
        let sizes = self.host.run(
            "cd /run/vm 2>/dev/null && for vm in *; do [ ! -e $vm/serial ] || stat -c '%n %s' $vm/serial; done; \
             true",
        )?;
        *self.consoles.lock().unwrap_or_else(PoisonError::into_inner) = lengths(&sizes)?;
        Ok(())
    }

    /// What the console of a guest has said since [`Lab::mark_consoles`].
    pub(super) fn console_since_mark(&self, vm: &str) -> Result<String> {
        let marks = self.consoles.lock().unwrap_or_else(PoisonError::into_inner);
        let from = marks.get(vm).copied().unwrap_or(0) + 1;
        self.host
            .run(&format!("tail -c +{from} /run/vm/{vm}/serial"))
    }

    /// Fails if the kernel of the box complained, or the NIC died.
    ///
    /// # Errors
    ///
    /// See there.
    pub fn check(&mut self) -> Result<()> {
        self.host.check()
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

/// Lengths of consoles by the names of their virtual machines.
fn lengths(text: &str) -> Result<BTreeMap<String, u64>> {
    text.lines()
        .map(|line| {
            let (path, length) = line.split_once(' ').context("length of a console")?;
            Ok((path.trim_end_matches("/serial").to_owned(), length.parse()?))
        })
        .collect()
}

/// Compares the clocks: this machine's minus the box's in milliseconds. The error is at most half of the time
/// of the shortest question, some milliseconds, as the time between a bitmap and the suspension may be
/// less than twenty.
fn clock(host: &HostBox) -> Result<i64> {
    let mut best: Option<(Duration, i64)> = None;
    for _ in 0..10 {
        let start = Instant::now();
        let before = i64::try_from(unix_ms())?;
        let there = host.agent().clock()? / 1000;
        let took = start.elapsed();
        let middle = before + i64::try_from(took.as_millis() / 2)?;
        if best.is_none_or(|(t, _)| took < t) {
            best = Some((took, middle - there));
        }
    }
    Ok(best.map_or(0, |(_, offset)| offset))
}
