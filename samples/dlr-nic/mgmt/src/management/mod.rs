// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function: what it is made of, and what the rest of the NIC plugs into.

mod registers;
mod shared;
mod worker;

use std::{
    io,
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering},
        Arc,
    },
    thread,
};

use dlr_abi::abi;
use dlr_core::{
    AttestWords, DataFunction, DirtySink, DmaMemory, FlowSink, FunctionEvents, Interrupt, Sabotage,
};
use serde_json::json;

use self::shared::{Current, Shared};
use crate::{
    config::Config,
    fault::{Fault, Faults, RegisterBit},
    kick::Kick,
    log::TestEntry,
    pending::{Pending, RegisterFault},
    port::Port,
    queue::AdminQueue,
    rows::Rows,
};

/// See the module. Dropping it ends its threads.
pub struct ManagementFunction(Arc<Shared>);

impl ManagementFunction {
    /// Starts the management function: two threads per data function, one for the NIC's own
    /// commands and one for the status pages. `memory` and `interrupt` are its own.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub fn new(
        config: Config,
        memory: Arc<dyn DmaMemory>,
        interrupt: Arc<dyn Interrupt>,
        sabotage: &Arc<Sabotage>,
    ) -> io::Result<Self> {
        let kick = Arc::new(Kick::default());
        let ports: Vec<_> = (config
            .functions
            .iter()
            .take(abi::DLR_MAX_FUNCTIONS as usize))
        .map(|f| {
            Arc::new(Port::new(
                f,
                memory.clone(),
                interrupt.clone(),
                sabotage.clone(),
                kick.clone(),
            ))
        })
        .collect();
        let (rows, receivers) = Rows::new(ports.iter().map(|port| port.log.clone()).collect());
        let shared = Arc::new(Shared {
            queue: AdminQueue::new(memory.clone(), interrupt, config.vectors, rows),
            config,
            current: receivers.iter().map(|_| Current::default()).collect(),
            reset: Pending::default(),
            aborts: ports.iter().map(|_| Pending::default()).collect(),
            resets: AtomicU64::new(0),
            flrs: AtomicU64::new(0),
            ports,
            memory,
            faults: Faults::default(),
            gone: AtomicBool::new(false),
            kick,
        });
        // Made first: dropping it ends the threads that were started.
        let management = Self(shared.clone());
        for (row, receiver) in receivers.into_iter().enumerate() {
            let shared = shared.clone();
            let name = match (row / 2, row % 2) {
                (k, _) if k == shared.ports.len() => "mgmt:nic".into(),
                (k, 0) => format!("mgmt:{k}"),
                (k, _) => format!("mgmt:{k}:log"),
            };
            let work = move || shared.work(row, &receiver);
            thread::Builder::new().name(name).spawn(work)?;
        }
        thread::Builder::new()
            .name("mgmt:pages".into())
            .spawn(move || shared.keep_pages())?;
        Ok(management)
    }

    /// Makes data function `k` known to the commands.
    pub fn attach(&self, k: usize, function: &Arc<dyn DataFunction>) {
        match self.0.ports.get(k) {
            Some(port) => port.attach(function),
            None => ::log::error!("there is no data function {k}"),
        }
    }

    /// Where ATTEST shows the nonce of data function `k`.
    pub fn attach_words(&self, k: usize, words: Arc<dyn AttestWords>) {
        match self.0.ports.get(k) {
            Some(port) => port.attach_words(words),
            None => ::log::error!("there is no data function {k}"),
        }
    }

    /// Where data function `k` announces its DMA writes; `None` when there is no such function.
    pub fn dirty_sink(&self, k: usize) -> Option<Arc<dyn DirtySink>> {
        Some(self.0.ports.get(k)?.log.clone())
    }

    /// Where data function `k` shows its frames.
    pub fn flow_sink(&self, k: usize) -> Option<Arc<dyn FlowSink>> {
        Some(self.0.ports.get(k)?.flow.clone())
    }

    /// Where data function `k` tells what the PCI side did to it.
    pub fn events(&self, k: usize) -> Option<Arc<dyn FunctionEvents>> {
        Some(self.0.ports.get(k)?.clone())
    }

    /// Reads a register of BAR 0; 0 where there is none. May wait for DMA in flight.
    pub fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset)
    }

    /// Writes a register of BAR 0; nothing happens where there is none.
    pub fn write32(&self, offset: u32, value: u32) {
        self.0.write32(offset, value);
    }

    /// Counts a function-level reset, for the control socket.
    pub fn count_flr(&self) {
        self.0.flrs.fetch_add(1, Ordering::Relaxed);
    }

    /// Function-level reset, device reset, or loss of the client: no more DMA, no logs, no
    /// sessions, no nonces. Data functions stay in their state.
    pub fn reset(&self) {
        self.0.reset.end();
        self.0.reset_now();
    }

    /// Sets what the next commands with `opcode` suffer.
    pub fn inject(&self, opcode: u16, fault: Fault) {
        self.0.faults.inject(None, opcode, fault);
    }

    /// The same for those of function `k` only.
    pub fn inject_for(&self, k: usize, opcode: u16, fault: Fault) {
        self.0.faults.inject(Some(k), opcode, fault);
    }

    /// Sets what the next `count` writes of this register bit suffer.
    pub fn inject_register(&self, bit: RegisterBit, fault: RegisterFault, count: u64) {
        self.0.faults.inject_bit(bit, fault, count);
    }

    /// The next `count` events "more to read" of function `k` are not raised. False when there is
    /// no such function.
    pub fn lose_events(&self, k: usize, count: u64) -> bool {
        let port = self.0.ports.get(k);
        port.map(|port| port.lose_events(count)).is_some()
    }

    /// Takes back all faults of commands, registers, events and status pages. A register bit that
    /// was held up is carried out now. A queue that is stuck stays so.
    pub fn mend(&self) {
        self.0.faults.clear();
        self.0.reset.release();
        self.0.aborts.iter().for_each(Pending::release);
        for port in &self.0.ports {
            port.tear_page(false);
            port.lose_events(0);
        }
    }

    /// As if the management function were torn out (`true`): registers read as all ones,
    /// nothing reaches it, and it touches no memory; or were plugged in again.
    pub fn tear_out(&self, gone: bool) {
        if gone {
            self.0.reset.end();
            self.0.reset_now();
        }
        self.0.gone.store(gone, Ordering::Release);
    }

    /// Posts an entry that no write and no SYNC has caused into the log of function `k`. False
    /// when there is no such function or its log is not active.
    pub fn post_entry(&self, k: usize, entry: TestEntry) -> bool {
        let port = self.0.ports.get(k);
        port.is_some_and(|port| port.log.post_test_entry(entry))
    }

    /// The flow table of function `k` counts a packet, as traffic would make it do: `false` when
    /// there is no such function.
    pub fn see_packet(&self, k: usize) -> bool {
        let port = self.0.ports.get(k);
        port.is_some_and(|port| {
            port.flow.packet(false, &[0; 60]);
            true
        })
    }

    /// The status page of function `k` looks, for ever, as if it were being written (`true`).
    pub fn tear_page(&self, k: usize, torn: bool) {
        if let Some(port) = self.0.ports.get(k) {
            port.tear_page(torn);
        }
    }

    /// From now on function `k` does without these abilities (`DLR_FN_CAP_*`), as after an update of
    /// its firmware; sessions and logs go on. False when there is no such function.
    pub fn set_without(&self, k: usize, without: u32) -> bool {
        let port = self.0.ports.get(k);
        port.map(|port| port.set_without(without)).is_some()
    }

    /// Counters, for the control socket.
    pub fn stats(&self) -> serde_json::Value {
        let functions: Vec<_> = (self.0.ports.iter())
            .map(|port| {
                let shown = port.snapshot();
                let (packets, flows) = port.flow.stats();
                json!({
                    "state": port.state(),
                    "session": port.session_name(),
                    "status_page": port.has_page(),
                    "log": port.log.stats(),
                    "flow": { "packets": packets, "entries": flows, "blocks": port.flow.blocks() },
                    "pending": {
                        "initial": shown.pending.initial,
                        "dirty": shown.pending.dirty,
                        "total": shown.pending.total,
                    },
                    "reinit_count": shown.reinit_count,
                    "aborts": port.aborts(),
                    "events": port.events(),
                    "saved_bytes": port.saved(),
                    "loaded_bytes": port.loaded(),
                    "health": shown.health,
                })
            })
            .collect();
        json!({
            "queue": self.0.queue.stats(),
            "faults": self.0.faults.suffered(),
            "resets": self.0.resets.load(Ordering::Relaxed),
            "flrs": self.0.flrs.load(Ordering::Relaxed),
            "functions": functions,
        })
    }
}

impl Drop for ManagementFunction {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.kick.close();
    }
}

impl Shared {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }
}
