// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Executes what one client sends through the two queues.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::event::{eventfd, EventfdFlags};
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{VhostUserBackend, VringRwLock, VringT};
use virtio_queue::QueueOwnedT;
use vm_memory::{
    GuestAddressSpace, GuestMemoryAtomic, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion,
    Permissions,
};
use vmm_sys_util::epoll::EventSet;
use zerocopy::{FromZeros, IntoBytes};

use super::{
    message::{self, Header},
    vectors::Vectors,
    window::{self, Region, Window},
};
use crate::function::{PciFunction, Port};

/// The queues, and the first number of an event that is none of them.
const COMMANDS: u16 = 0;
const INTERRUPTS: u16 = 1;
pub(super) const FIRST_VECTOR: u16 = 3;

/// `VIRTIO_F_VERSION_1` and `VHOST_USER_F_PROTOCOL_FEATURES`.
const FEATURES: u64 = 1 << 32 | 1 << 30;
/// What user-mode Linux asks for (`MAX_SUPPORTED_QUEUE_SIZE`).
const QUEUE_SIZE: usize = 256;

/// The memory of a client.
pub(super) type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// A function as one client sees it.
pub(super) struct Backend {
    port: Arc<Port>,
    function: Arc<dyn PciFunction>,
    /// Where the queues are.
    memory: Memory,
    window: Option<Mutex<Window>>,
    vectors: Option<Mutex<Vectors>>,
    /// One for each vector.
    events: Vec<File>,
    /// Interrupts that found no buffer.
    waiting: Mutex<VecDeque<u16>>,
}

impl Backend {
    /// The backend, and the events of its vectors. DMA is limited to a [`Window`] if it has one.
    ///
    /// # Errors
    ///
    /// The events cannot be made or connected.
    pub(super) fn new(
        port: &Arc<Port>,
        function: &Arc<dyn PciFunction>,
        memory: Memory,
        has_window: bool,
    ) -> io::Result<(Self, Vec<OwnedFd>)> {
        let msix = port.interrupt();
        let (mut ours, mut theirs, mut polled) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..msix.count() {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            theirs.push(event.try_clone()?);
            polled.push(event.try_clone()?);
            ours.push(File::from(event));
        }
        if !msix.connect(0, theirs) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let layout = port.config().msix();
        let backend = Self {
            port: port.clone(),
            function: function.clone(),
            memory,
            window: has_window.then(Mutex::default),
            vectors: layout.map(|layout| Mutex::new(Vectors::new(layout))),
            events: ours,
            waiting: Mutex::default(),
        };
        Ok((backend, polled))
    }

    /// Executes one message; returns what was read.
    fn execute(&self, header: &Header, data: &[u8]) -> Vec<u8> {
        let function = self.function.as_ref();
        let size = header.size.min(message::MAX_SIZE) as usize;
        let mut answer = Vec::new();
        match header.op {
            message::CFG_READ => {
                answer.resize(size, 0xff);
                self.port
                    .config_read(function, header.addr as u16, &mut answer);
            }
            message::CFG_WRITE => {
                let data = data.get(..size).unwrap_or(data);
                self.port.config_write(function, header.addr as u16, data);
                self.follow_control();
            }
            message::MMIO_READ => {
                answer.resize(size, 0xff);
                self.read(header.bar, header.addr, &mut answer);
            }
            message::MMIO_WRITE => {
                let data = data.get(..size).unwrap_or(data);
                self.write(header.bar, header.addr, data);
            }
            message::MMIO_MEMSET => {
                let value = data.first().copied().unwrap_or(0);
                self.write(header.bar, header.addr, &vec![value; size]);
            }
            op => log::warn!("{}: unknown message {op}", self.port.name()),
        }
        answer
    }

    fn read(&self, bar: u8, offset: u64, data: &mut [u8]) {
        if let Some(window) = self.window_at(bar) {
            window.lock().read(offset, data);
            return;
        }
        match self.table(bar, offset, data.len()) {
            Some(table) => table.lock().read(offset, data),
            None if self.is_inside(bar, offset, data.len()) => {
                self.port
                    .bar_read(self.function.as_ref(), bar, offset, data);
            }
            None => (),
        }
    }

    fn write(&self, bar: u8, offset: u64, data: &[u8]) {
        if let Some(window) = self.window_at(bar) {
            window.lock().write(offset, data, &self.port.memory());
            return;
        }
        match self.table(bar, offset, data.len()) {
            Some(table) => table.lock().write(offset, data, &self.port.interrupt()),
            None if self.is_inside(bar, offset, data.len()) => {
                self.port
                    .bar_write(self.function.as_ref(), bar, offset, data);
            }
            None => (),
        }
    }

    fn window_at(&self, bar: u8) -> Option<&Mutex<Window>> {
        self.window.as_ref().filter(|_| bar == window::BAR)
    }

    fn table(&self, bar: u8, offset: u64, len: usize) -> Option<&Mutex<Vectors>> {
        let table = self.vectors.as_ref()?;
        let covers = table.lock().covers(bar, offset, len);
        covers.then_some(table)
    }

    fn is_inside(&self, bar: u8, offset: u64, len: usize) -> bool {
        let end = offset.checked_add(len as u64);
        end.is_some_and(|end| end <= self.port.bar_size(bar))
    }

    /// Has the table follow the message control of the capability.
    fn follow_control(&self) {
        let control = self.port.config().msix_control();
        if let (Some(table), Some(control)) = (&self.vectors, control) {
            table.lock().set_control(control, &self.port.interrupt());
        }
    }

    /// Executes what the client has asked for.
    ///
    /// The client gets no interrupt for its used buffers, which it polls for. Linux 7.3.4 would lose
    /// answers to it: `virtio_pcidev_send_cmd()` makes a message available, and only then sets
    /// `VIRTIO_PCIDEV_STAT_WAITING`. If the interrupt of an earlier message comes in between, and the
    /// answer as well, `virtio_pcidev_cmd_vq_cb()` takes the answer, and the read spins until its time is
    /// over. Without an interrupt Linux frees the buffers of posted writes when it polls.
    fn commands(&self, vring: &VringRwLock) -> io::Result<()> {
        let mut state = vring.get_mut();
        let memory = self.memory.memory();
        loop {
            let chain = {
                let mut queue = state.get_queue_mut().iter(memory.clone());
                match queue.as_mut().map(Iterator::next) {
                    Ok(Some(chain)) => chain,
                    _ => break,
                }
            };
            let head = chain.head_index();
            let mut reader = chain.clone().reader(&memory).map_err(failed)?;
            let mut header = Header::new_zeroed();
            reader.read_exact(header.as_mut_bytes())?;
            let mut data = Vec::new();
            reader.read_to_end(&mut data)?;
            let answer = self.execute(&header, &data);
            let mut writer = chain.writer(&memory).map_err(failed)?;
            let len = answer.len().min(writer.available_bytes());
            writer.write_all(answer.get(..len).unwrap_or_default())?;
            state.add_used(head, len as u32).map_err(failed)?;
        }
        Ok(())
    }

    /// Hands on the interrupts that wait, as far as there are buffers.
    fn interrupts(&self, vring: &VringRwLock) -> io::Result<()> {
        let mut waiting = self.waiting.lock();
        let mut state = vring.get_mut();
        let memory = self.memory.memory();
        while let Some(&vector) = waiting.front() {
            let message = self.vectors.as_ref().and_then(|t| t.lock().message(vector));
            let Some(data) = message else {
                waiting.pop_front();
                continue;
            };
            let chain = {
                let mut queue = state.get_queue_mut().iter(memory.clone());
                match queue.as_mut().map(Iterator::next) {
                    Ok(Some(chain)) => chain,
                    _ => break,
                }
            };
            waiting.pop_front();
            let head = chain.head_index();
            let message = message::msi(data);
            let mut writer = chain.writer(&memory).map_err(failed)?;
            writer.write_all(&message)?;
            state.add_used(head, message.len() as u32).map_err(failed)?;
            state.signal_used_queue()?;
        }
        Ok(())
    }
}

impl VhostUserBackend for Backend {
    type Bitmap = ();
    type Vring = VringRwLock;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        QUEUE_SIZE
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::REPLY_ACK | VhostUserProtocolFeatures::MQ
    }

    fn set_event_idx(&self, _enabled: bool) {}

    /// The client shares its memory.
    fn update_memory(&self, memory: Memory) -> io::Result<()> {
        let mut regions = Vec::new();
        for region in memory.memory().iter() {
            let file = region.file_offset().ok_or(io::ErrorKind::InvalidInput)?;
            regions.push(Region {
                start: region.start_addr().0,
                len: region.len(),
                file: file.file().try_clone()?,
                offset: file.start(),
            });
        }
        let space = self.port.memory();
        space.unmap_all();
        if let Some(window) = &self.window {
            window.lock().set_memory(regions);
            return Ok(());
        }
        for Region {
            start,
            len,
            file,
            offset,
        } in regions
        {
            space
                .map(start, len, file.into(), offset, Permissions::ReadWrite)
                .map_err(failed)?;
        }
        Ok(())
    }

    fn handle_event(
        &self,
        event: u16,
        _set: EventSet,
        vrings: &[VringRwLock],
        _thread: usize,
    ) -> io::Result<()> {
        let vring = |number: u16| vrings.get(usize::from(number));
        if event == COMMANDS {
            return vring(COMMANDS).map_or(Ok(()), |vring| self.commands(vring));
        }
        if let Some(vector) = event.checked_sub(FIRST_VECTOR) {
            if let Some(mut event) = self.events.get(usize::from(vector)) {
                // An error says that the event has been read already.
                let _ = event.read(&mut [0; 8]);
                self.waiting.lock().push_back(vector);
            }
        }
        vring(INTERRUPTS).map_or(Ok(()), |vring| self.interrupts(vring))
    }
}

/// An error of the crates, not all of which are errors for the standard library.
pub(super) fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}
