// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function: register block, workers, and what the rest of the NIC plugs into.

use std::{
    io,
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{channel, Receiver},
        Arc,
    },
    thread,
    time::{Duration, Instant},
};

use dlr_abi::abi;
use dlr_core::{DataFunction, DirtySink, DmaMemory, FlowSink, FunctionEvents, Interrupt, Sabotage};
use serde_json::json;

use crate::{
    command::{zero, Request},
    execute::execute,
    fault::{Fault, FaultAction, Faults},
    kick::Kick,
    log::TestEntry,
    port::Port,
    queue::{AdminQueue, Command},
    status::{Done, Status},
};

/// Least time between two updates of the status pages that traffic causes.
const PAGE_PERIOD: Duration = Duration::from_millis(10);

/// What a data function is given.
#[derive(Clone, Debug, Default)]
pub struct FunctionConfig {
    /// Bytes of the flow table, at most 64 MiB.
    pub flow_table: u64,
    /// Abilities that it does without (`DLR_FN_CAP_*`).
    pub without: u32,
}

/// What a NIC is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Serial number, in the registers and in every DVSEC.
    pub serial: u64,
    /// Longest time of any admin command.
    pub cmd_timeout: Duration,
    /// MSI-X vectors of the management function.
    pub vectors: u16,
    /// At most 31 bytes of UTF-8.
    pub model: String,
    /// At most 15 bytes of UTF-8.
    pub firmware: String,
    /// The data functions, 1..=`DLR_MAX_FUNCTIONS`.
    pub functions: Vec<FunctionConfig>,
}

struct Shared {
    config: Config,
    queue: AdminQueue,
    ports: Vec<Arc<Port>>,
    memory: Arc<dyn DmaMemory>,
    faults: Faults,
    /// Torn out, as far as the host can see.
    gone: AtomicBool,
    kick: Arc<Kick>,
}

/// See the module. Dropping it ends its threads.
pub struct ManagementFunction(Arc<Shared>);

impl ManagementFunction {
    /// Starts the management function: one thread per data function, one for the NIC's own
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
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..=ports.len()).map(|_| channel()).unzip();
        let shared = Arc::new(Shared {
            queue: AdminQueue::new(memory.clone(), interrupt, config.vectors, senders),
            config,
            ports,
            memory,
            faults: Faults::default(),
            gone: AtomicBool::new(false),
            kick,
        });
        // Made first: dropping it ends the threads that were started.
        let management = Self(shared.clone());
        for (number, receiver) in receivers.into_iter().enumerate() {
            let shared = shared.clone();
            let name = match shared.ports.get(number) {
                Some(_) => format!("mgmt:{number}"),
                None => "mgmt:nic".into(),
            };
            let work = move || shared.work(number, &receiver);
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
        let config = &self.0.config;
        if self.0.is_gone() {
            return u32::MAX;
        }
        match offset {
            abi::DLR_REG_MAGIC => abi::DLR_MAGIC,
            abi::DLR_REG_VERSION => abi::DLR_CONTRACT_VERSION,
            abi::DLR_REG_NUM_FUNCTIONS => self.0.ports.len() as u32,
            abi::DLR_REG_CMD_TIMEOUT => config.cmd_timeout.as_millis() as u32,
            abi::DLR_REG_SERIAL_LO => config.serial as u32,
            abi::DLR_REG_SERIAL_HI => (config.serial >> 32) as u32,
            abi::DLR_REG_AQ_MAX_ORDER => abi::DLR_AQ_MAX_ORDER | abi::DLR_AQ_MAX_ORDER << 8,
            abi::DLR_REG_FN_BASE.. => {
                let Some((port, register)) = self.port_register(offset) else {
                    return 0;
                };
                match register {
                    abi::DLR_REG_LOG_POSTED => port.log.posted(port.function().as_deref()),
                    abi::DLR_REG_LOG_STATE => port.log.state(),
                    abi::DLR_REG_FN_STATE => port.state(),
                    _ => 0,
                }
            }
            _ => self.0.queue.read(offset),
        }
    }

    /// Writes a register of BAR 0; nothing happens where there is none.
    pub fn write32(&self, offset: u32, value: u32) {
        if self.0.is_gone() {
            return;
        }
        if offset < abi::DLR_REG_FN_BASE {
            return self.0.queue.write(offset, value);
        }
        match self.port_register(offset) {
            Some((port, abi::DLR_REG_LOG_HEAD)) => port.log.set_head(value),
            _ => ::log::warn!("write of read-only register {offset:#x} ignored"),
        }
    }

    /// Function-level reset, device reset, or loss of the client: no more DMA, no logs, no
    /// sessions. Data functions stay in their state.
    pub fn reset(&self) {
        ::log::info!("management function reset");
        self.0.queue.reset();
        for port in &self.0.ports {
            port.management_reset();
        }
    }

    /// Sets what the next commands with `opcode` suffer.
    pub fn inject(&self, opcode: u16, fault: Fault) {
        self.0.faults.inject(opcode, fault);
    }

    /// Takes back all faults of commands and of status pages. A queue that is stuck stays so.
    pub fn mend(&self) {
        self.0.faults.clear();
        for port in &self.0.ports {
            port.tear_page(false);
        }
    }

    /// As if the management function were torn out (`true`): registers read as all ones,
    /// nothing reaches it, and it touches no memory; or were plugged in again.
    pub fn tear_out(&self, gone: bool) {
        if gone {
            self.reset();
        }
        self.0.gone.store(gone, Ordering::Release);
    }

    /// Posts an entry that no write and no SYNC has caused into the log of function `k`. False
    /// when there is no such function or its log is not active.
    pub fn post_entry(&self, k: usize, entry: TestEntry) -> bool {
        let port = self.0.ports.get(k);
        port.is_some_and(|port| port.log.post_test_entry(entry))
    }

    /// The status page of function `k` looks, for ever, as if it were being written (`true`).
    pub fn tear_page(&self, k: usize, torn: bool) {
        if let Some(port) = self.0.ports.get(k) {
            port.tear_page(torn);
        }
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
                    "saved_bytes": port.saved(),
                    "loaded_bytes": port.loaded(),
                    "health": shown.health,
                })
            })
            .collect();
        json!({ "queue": self.0.queue.stats(), "functions": functions })
    }

    fn port_register(&self, offset: u32) -> Option<(&Port, u32)> {
        let offset = offset.checked_sub(abi::DLR_REG_FN_BASE)?;
        let port = self
            .0
            .ports
            .get((offset / abi::DLR_REG_FN_STRIDE) as usize)?;
        Some((port, offset % abi::DLR_REG_FN_STRIDE))
    }
}

impl Drop for ManagementFunction {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.kick.close();
    }
}

impl Shared {
    /// The thread of data function `number`, or of the NIC when there is no such function.
    fn work(&self, number: usize, commands: &Receiver<Command>) {
        for command in commands {
            let mut command = command;
            let fault = self.faults.take(command.sqe.opcode);
            if let Some(FaultAction::Delay(ms)) = fault {
                thread::sleep(Duration::from_millis(ms));
            }
            match fault {
                _ if !command.epoch.alive() || self.is_gone() => continue,
                Some(FaultAction::Stuck) => {
                    self.queue.stick();
                    continue;
                }
                Some(FaultAction::WrongCookie) => {
                    let at = std::mem::offset_of!(abi::dlr_log_sync_params, cookie);
                    if let Some(byte) = command.sqe.params.get_mut(at) {
                        *byte ^= 1;
                    }
                }
                _ => {}
            }
            let (status, done) = match fault {
                Some(FaultAction::Status(status)) => (status, Done::default()),
                Some(FaultAction::Ignore | FaultAction::StrayId) => (0, Done::default()),
                _ => match self.run(number, &command) {
                    Ok(done) => (abi::DLR_STATUS_SUCCESS as u16, done),
                    Err(status) => {
                        ::log::warn!(
                            "function {number}: command {:#06x} failed: {status:?}",
                            command.sqe.opcode
                        );
                        (status as u16, Done::default())
                    }
                },
            };
            let id = command.sqe.id;
            match fault {
                Some(FaultAction::Drop | FaultAction::Ignore) => self.queue.forget(&command),
                Some(FaultAction::WrongId | FaultAction::StrayId) => {
                    self.queue.complete(&command, !id, status, done);
                }
                Some(FaultAction::Result(result)) => {
                    let done = Done { result, ..done };
                    self.queue.complete(&command, id, status, done);
                }
                _ => self.queue.complete(&command, id, status, done),
            }
        }
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    fn run(&self, number: usize, command: &Command) -> Result<Done, Status> {
        let request = Request {
            command,
            memory: &*self.memory,
            vectors: self.config.vectors,
            // A refusal has to arrive before the driver gives up on the queue.
            deadline: Instant::now() + self.config.cmd_timeout * 3 / 4,
        };
        ::log::debug!("function {number}: command {:#06x}", command.sqe.opcode);
        let opcode = u32::from(command.sqe.opcode);
        match self.ports.get(number) {
            Some(port) => execute(port, &request),
            None if opcode == abi::DLR_CMD_IDENTIFY_NIC => self.identify_nic(&request),
            None => Err(Status::InvalidFunction),
        }
    }

    fn identify_nic(&self, request: &Request<'_>) -> Result<Done, Status> {
        zero(request.sqe().reserved0 == 0 && request.sqe().function == 0)?;
        request.flags(0)?;
        request.no_params()?;
        let mut answer = abi::dlr_identify_nic {
            version: abi::DLR_CONTRACT_VERSION,
            num_functions: self.ports.len() as u32,
            serial: self.config.serial,
            model: [0; 32],
            firmware: [0; 16],
        };
        pad(&mut answer.model, &self.config.model);
        pad(&mut answer.firmware, &self.config.firmware);
        let result = request.answer(&answer)?;
        Ok(Done { result, flags: 0 })
    }

    /// The thread that brings the status pages up to date after traffic and events.
    fn keep_pages(&self) {
        while self.kick.wait() {
            for port in &self.ports {
                port.refresh_page();
            }
            thread::sleep(PAGE_PERIOD);
        }
    }
}

/// Copies as much of `text` as fits, leaving a zero at the end.
fn pad(field: &mut [u8], text: &str) {
    let room = field.len().saturating_sub(1);
    for (to, from) in field.iter_mut().zip(text.bytes().take(room)) {
        *to = from;
    }
}
