// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The management function and its driver: an admin queue, and the consumer of a log.

use std::{
    fs::File,
    sync::Arc,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use dlr_abi::abi;
use dlr_core::{DataFunction, DirtySink, DmaMemory, FlowSink, FunctionEvents, Sabotage};
use dlr_mgmt::{Config, FunctionConfig, ManagementFunction};
use dlr_net::QueueSize;
use dlr_pci::DmaSpace;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    irq::NoInterrupt,
    memory::{map, memory},
};

/// How long a command may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where things lie for the management function.
const SQ: u64 = 0x1000;
const CQ: u64 = 0x2000;
const BUFFER: u64 = 0x3000;
const RING: u64 = 0x10_0000;
const BYTES: u64 = 0x20_0000;
/// Log2 of the entries of the queues, and of the log.
const ORDER: u32 = 2;
const RING_ORDER: u16 = 16;
/// Unconsumed entries at which the driver is interrupted.
const THRESHOLD: u32 = 1 << (RING_ORDER - 1);

/// A management function with a driver.
pub(crate) struct Host {
    management: ManagementFunction,
    memory: Arc<DmaSpace>,
    tail: u32,
    head: u32,
    /// Entries of the log that were consumed.
    consumed: u32,
    _file: File,
}

impl Host {
    pub(crate) fn new() -> Result<Self> {
        let file = memory(BYTES)?;
        let memory = Arc::new(DmaSpace::new(Arc::default(), None));
        map(&memory, 0, BYTES, &file)?;
        let config = Config {
            serial: 1,
            cmd_timeout: PATIENCE,
            vectors: 2,
            model: "bench".into(),
            firmware: String::new(),
            functions: vec![FunctionConfig {
                flow_table: 4 << 20,
                compat: QueueSize::default().compat(),
                without: 0,
                iova_bits: None,
            }],
        };
        let sabotage = Arc::<Sabotage>::default();
        let management =
            ManagementFunction::new(config, memory.clone(), Arc::new(NoInterrupt), &sabotage)?;
        management.write32(abi::DLR_REG_SQ_BASE_LO, SQ as u32);
        management.write32(abi::DLR_REG_CQ_BASE_LO, CQ as u32);
        management.write32(abi::DLR_REG_AQ_ATTR, ORDER | ORDER << 8);
        management.write32(abi::DLR_REG_CONTROL, abi::DLR_CONTROL_ENABLE);
        Ok(Self {
            management,
            memory,
            tail: 0,
            head: 0,
            consumed: 0,
            _file: file,
        })
    }

    /// Where the writes of the data function are announced.
    pub(crate) fn sink(&self) -> Result<Arc<dyn DirtySink>> {
        self.management.dirty_sink(0).context("no function 0")
    }

    pub(crate) fn flow(&self) -> Result<Arc<dyn FlowSink>> {
        self.management.flow_sink(0).context("no function 0")
    }

    pub(crate) fn events(&self) -> Result<Arc<dyn FunctionEvents>> {
        self.management.events(0).context("no function 0")
    }

    pub(crate) fn attach(&self, function: &Arc<dyn DataFunction>) {
        self.management.attach(0, function);
    }

    /// Runs a command to its end.
    fn run(&mut self, sqe: &abi::dlr_sqe) -> Result<()> {
        let slot = u64::from(self.tail & ((1 << ORDER) - 1));
        self.memory.write(SQ + slot * 64, sqe.as_bytes())?;
        self.tail = self.tail.wrapping_add(1);
        self.management.write32(abi::DLR_REG_SQ_TAIL, self.tail);
        let slot = u64::from(self.head & ((1 << ORDER) - 1));
        let phase = u16::from((self.head >> ORDER) & 1 == 0);
        let end = Instant::now() + PATIENCE;
        loop {
            let mut raw = [0; 16];
            self.memory.read(CQ + slot * 16, &mut raw)?;
            let cqe = abi::dlr_cqe::read_from_bytes(&raw).ok().context("cqe")?;
            if cqe.phase & 1 == phase {
                self.head = self.head.wrapping_add(1);
                self.management.write32(abi::DLR_REG_CQ_HEAD, self.head);
                let status = u32::from(cqe.status);
                ensure!(
                    status == abi::DLR_STATUS_SUCCESS,
                    "command {:#x} ended with status {status}",
                    sqe.opcode
                );
                return Ok(());
            }
            ensure!(Instant::now() < end, "no answer of the function");
            sleep(Duration::from_millis(1));
        }
    }

    /// Tracks this range of the data function's addresses.
    pub(crate) fn log_start(&mut self, (iova, length): (u64, u64)) -> Result<()> {
        let range = abi::dlr_range { iova, length };
        self.memory.write(BUFFER, range.as_bytes())?;
        self.memory.write(RING, &vec![0; 8 << RING_ORDER])?;
        self.consumed = 0;
        let mut params = abi::dlr_log_start_params::new_zeroed();
        params.ring = RING;
        params.ring_order = RING_ORDER;
        params.vector = 1;
        params.irq_threshold = THRESHOLD;
        params.num_ranges = 1;
        params.page_shift = 12;
        let mut sqe = abi::dlr_sqe::new_zeroed();
        sqe.opcode = abi::DLR_CMD_LOG_START as u16;
        sqe.addr = BUFFER;
        sqe.len = size_of::<abi::dlr_range>() as u32;
        sqe.params.copy_from_slice(params.as_bytes());
        self.run(&sqe)
    }

    /// Consumes everything once half of the ring is full, as a driver does when it is interrupted.
    pub(crate) fn drain(&mut self) -> Result<()> {
        let posted = self.posted()?;
        let waiting = posted.wrapping_sub(self.consumed) & abi::DLR_LOG_POSTED_COUNT_MASK;
        if waiting >= THRESHOLD {
            self.consumed = self.consumed.wrapping_add(waiting);
            self.management
                .write32(log_register(abi::DLR_REG_LOG_HEAD), self.consumed);
        }
        Ok(())
    }

    /// Ends the log; returns the number of its entries.
    pub(crate) fn log_stop(&mut self) -> Result<u64> {
        let posted = self.posted()?;
        let state = self.management.read32(log_register(abi::DLR_REG_LOG_STATE));
        ensure!(
            state & abi::DLR_LOG_STATE_LOST == 0,
            "the ring overflowed: the rest was not logged"
        );
        let mut sqe = abi::dlr_sqe::new_zeroed();
        sqe.opcode = abi::DLR_CMD_LOG_STOP as u16;
        self.run(&sqe)?;
        Ok(posted.into())
    }

    fn posted(&self) -> Result<u32> {
        let posted = self
            .management
            .read32(log_register(abi::DLR_REG_LOG_POSTED));
        ensure!(posted & abi::DLR_LOG_POSTED_ERROR == 0, "the log failed");
        Ok(posted)
    }
}

/// A register of the log of function 0.
fn log_register(register: u32) -> u32 {
    abi::DLR_REG_FN_BASE + register
}
