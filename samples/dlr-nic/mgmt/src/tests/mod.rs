// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function as a driver sees it: registers, rings, commands.

mod abort;
mod attest;
mod commands;
mod event;
mod full;
mod garbage;
mod queue;
mod reset;
mod rows;
mod state;
mod told;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dlr_abi::abi;
use dlr_core::{DataFunction, DmaMemory, Sabotage, SabotageKind};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    testing::{TestFunction, TestInterrupt, TestMemory, TestWords},
    Config, Fault, FaultAction, FunctionConfig, ManagementFunction,
};

const OK: u32 = abi::DLR_STATUS_SUCCESS;
const FIELD: u32 = abi::DLR_STATUS_INVALID_FIELD;
const STATE: u32 = abi::DLR_STATUS_INVALID_STATE;
const BUSY: u32 = abi::DLR_STATUS_BUSY;

const SQ: u64 = 0x1000;
const CQ: u64 = 0x3000;
const BUFFER: u64 = 0x10_000;
const RING: u64 = 0x8000;
const PAGE: u64 = 0x5000;
const MEMORY: usize = 0x80_000;

fn once(action: FaultAction) -> Fault {
    Fault {
        action,
        after: 0,
        count: 1,
    }
}

/// A function that does without these abilities.
fn function(without: u32) -> FunctionConfig {
    FunctionConfig {
        flow_table: 8192,
        compat: *b"dlr-nic/a test\0\0",
        without,
        iova_bits: None,
    }
}

/// A driver with an enabled queue.
struct Driver {
    mf: ManagementFunction,
    memory: Arc<TestMemory>,
    interrupt: Arc<TestInterrupt>,
    sabotage: Arc<Sabotage>,
    functions: Vec<Arc<TestFunction>>,
    words: Vec<Arc<TestWords>>,
    order: u32,
    tail: u32,
    head: u32,
    next_id: u16,
}

impl Driver {
    fn new() -> Self {
        let mut driver = Self::disabled();
        driver.enable(2, 2);
        driver
    }

    fn disabled() -> Self {
        Self::with([0; 3])
    }

    /// A NIC whose functions do without these abilities.
    fn with(without: [u32; 3]) -> Self {
        Self::of(without.map(function))
    }

    /// A NIC of these functions.
    fn of(functions: [FunctionConfig; 3]) -> Self {
        Self::timed(functions, Duration::from_millis(400))
    }

    /// The same, whose commands may take so long.
    fn timed(functions: [FunctionConfig; 3], cmd_timeout: Duration) -> Self {
        let memory = TestMemory::new(MEMORY);
        let interrupt = Arc::new(TestInterrupt::default());
        let config = Config {
            serial: 0x1122_3344_5566_7788,
            cmd_timeout,
            vectors: 4,
            model: "test".into(),
            firmware: "a firmware version that is too long".into(),
            functions: functions.to_vec(),
        };
        let sabotage = Arc::new(Sabotage::default());
        let mf =
            ManagementFunction::new(config, memory.clone(), interrupt.clone(), &sabotage).unwrap();
        let functions: Vec<_> = (0..3).map(|n| TestFunction::new(&[n, 1, 2, 3])).collect();
        for (k, function) in functions.iter().enumerate() {
            let function: Arc<dyn DataFunction> = function.clone();
            mf.attach(k, &function);
        }
        let words: Vec<Arc<TestWords>> = functions.iter().map(|_| Arc::default()).collect();
        for (k, words) in words.iter().enumerate() {
            mf.attach_words(k, words.clone());
        }
        Self {
            mf,
            memory,
            interrupt,
            sabotage,
            functions,
            words,
            order: 0,
            tail: 0,
            head: 0,
            next_id: 0x100,
        }
    }

    fn status(&self) -> u32 {
        self.mf.read32(abi::DLR_REG_STATUS)
    }

    fn enable(&mut self, sq_order: u32, cq_order: u32) {
        self.memory.write(SQ, &[0; 0x1000]).unwrap();
        self.memory.write(CQ, &[0; 0x1000]).unwrap();
        self.mf.write32(abi::DLR_REG_SQ_BASE_LO, SQ as u32);
        self.mf.write32(abi::DLR_REG_CQ_BASE_LO, CQ as u32);
        self.mf
            .write32(abi::DLR_REG_AQ_ATTR, sq_order | cq_order << 8);
        self.mf.write32(abi::DLR_REG_AQ_VECTOR, 2);
        self.mf
            .write32(abi::DLR_REG_CONTROL, abi::DLR_CONTROL_ENABLE);
        (self.order, self.tail, self.head) = (sq_order, 0, 0);
    }

    /// Submits a command without waiting; returns its id.
    fn submit(&mut self, fill: impl FnOnce(&mut abi::dlr_sqe)) -> u16 {
        self.next_id += 1;
        let mut sqe = abi::dlr_sqe::new_zeroed();
        sqe.id = self.next_id;
        fill(&mut sqe);
        let slot = u64::from(self.tail & ((1 << self.order) - 1));
        self.memory.write(SQ + slot * 64, sqe.as_bytes()).unwrap();
        self.tail = self.tail.wrapping_add(1);
        self.mf.write32(abi::DLR_REG_SQ_TAIL, self.tail);
        self.next_id
    }

    /// The next completion, if it comes within `ms`.
    fn completion(&mut self, ms: u64) -> Option<abi::dlr_cqe> {
        let order = self.mf.read32(abi::DLR_REG_AQ_ATTR) >> 8;
        let slot = u64::from(self.head & ((1 << order) - 1));
        let phase = u16::from((self.head >> order) & 1 == 0);
        let end = Instant::now() + Duration::from_millis(ms);
        loop {
            let raw = self.memory.bytes(CQ + slot * 16, 16);
            let cqe = abi::dlr_cqe::read_from_bytes(&raw).unwrap();
            if cqe.phase & 1 == phase {
                self.head = self.head.wrapping_add(1);
                self.mf.write32(abi::DLR_REG_CQ_HEAD, self.head);
                return Some(cqe);
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Runs one command; `(status, result, flags)`.
    fn run(&mut self, fill: impl FnOnce(&mut abi::dlr_sqe)) -> (u32, u32, u32) {
        let id = self.submit(fill);
        let cqe = self.completion(5000).expect("a completion");
        assert_eq!(cqe.id, id);
        assert_eq!(cqe.sq_head, self.tail as u16);
        (cqe.status.into(), cqe.result, cqe.flags)
    }

    /// Submits a command without arguments.
    fn send(&mut self, opcode: u32, function: u16) -> u16 {
        self.submit(|sqe| {
            sqe.opcode = opcode as u16;
            sqe.function = function;
        })
    }

    /// Ids and statuses of the next `n` completions, in their order.
    fn completions(&mut self, n: usize) -> Vec<(u16, u32)> {
        let one = |_| {
            let cqe = self.completion(2000).expect("a completion");
            (cqe.id, cqe.status.into())
        };
        (0..n).map(one).collect()
    }

    /// Writes a register of a function's block.
    fn write_fn(&self, function: u32, register: u32, value: u32) {
        let block = abi::DLR_REG_FN_BASE + function * abi::DLR_REG_FN_STRIDE;
        self.mf.write32(block + register, value);
    }

    /// Waits until `what` holds; panics after five seconds.
    fn wait(&self, what: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(5);
        while !what(self) {
            assert!(Instant::now() < end, "it did not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// A log of function `k` in which only the reserved slot is free.
    fn full_log(&mut self, k: u16) {
        assert_eq!(self.log_start(k, |_| ()), OK);
        let sink = self.mf.dirty_sink(k.into()).unwrap();
        for n in 0..15 {
            sink.dirty(n * 8192, 1);
        }
        assert_eq!(self.log_register(k.into(), abi::DLR_REG_LOG_POSTED), 15);
    }

    /// Status of a command without arguments.
    fn plain(&mut self, opcode: u32, function: u16) -> u32 {
        let (status, ..) = self.run(|sqe| {
            sqe.opcode = opcode as u16;
            sqe.function = function;
        });
        status
    }

    fn level(&mut self, opcode: u32, function: u16, state: u32) -> u32 {
        let (status, ..) = self.run(|sqe| {
            sqe.opcode = opcode as u16;
            sqe.function = function;
            sqe.params[..4].copy_from_slice(&state.to_le_bytes());
        });
        status
    }

    fn stop(&mut self, function: u16) {
        for state in [abi::DLR_FN_RUNNING_P2P, abi::DLR_FN_STOPPED] {
            let status = self.level(abi::DLR_CMD_SUSPEND, function, state);
            assert_eq!(status, abi::DLR_STATUS_SUCCESS);
        }
    }

    /// A command with a buffer at [`BUFFER`].
    fn buffered(&mut self, opcode: u32, function: u16, len: u32, flags: u32) -> (u32, u32, u32) {
        self.run(|sqe| {
            sqe.opcode = opcode as u16;
            sqe.function = function;
            sqe.addr = BUFFER;
            sqe.len = len;
            sqe.flags = flags;
        })
    }

    fn log_start(
        &mut self,
        function: u16,
        fill: impl FnOnce(&mut abi::dlr_log_start_params),
    ) -> u32 {
        let range = abi::dlr_range {
            iova: 0,
            length: 1 << 30,
        };
        self.memory.write(BUFFER, range.as_bytes()).unwrap();
        let mut params = abi::dlr_log_start_params::new_zeroed();
        params.ring = RING;
        params.ring_order = 4;
        params.vector = 1;
        params.irq_threshold = 8;
        params.num_ranges = 1;
        params.page_shift = 12;
        fill(&mut params);
        let (status, ..) = self.run(|sqe| {
            sqe.opcode = abi::DLR_CMD_LOG_START as u16;
            sqe.function = function;
            sqe.addr = BUFFER;
            sqe.len = 16 * u32::from(params.num_ranges);
            sqe.params.copy_from_slice(params.as_bytes());
        });
        status
    }

    fn sync_all(&mut self, function: u16, cookie: u64) -> u16 {
        self.submit(|sqe| {
            let mut params = abi::dlr_log_sync_params::new_zeroed();
            params.flags = abi::DLR_LOG_SYNC_F_ALL;
            params.cookie = cookie;
            sqe.opcode = abi::DLR_CMD_LOG_SYNC as u16;
            sqe.function = function;
            sqe.params.copy_from_slice(params.as_bytes());
        })
    }

    fn log_register(&self, function: u32, register: u32) -> u32 {
        let block = abi::DLR_REG_FN_BASE + function * abi::DLR_REG_FN_STRIDE;
        self.mf.read32(block + register)
    }

    fn page(&self) -> abi::dlr_status_page {
        abi::dlr_status_page::read_from_bytes(&self.memory.bytes(PAGE, 64)).unwrap()
    }

    fn set_page(&mut self, function: u16, addr: u64) -> u32 {
        let (status, ..) = self.run(|sqe| {
            sqe.opcode = abi::DLR_CMD_STATUS_PAGE as u16;
            sqe.function = function;
            sqe.addr = addr;
        });
        status
    }
}
