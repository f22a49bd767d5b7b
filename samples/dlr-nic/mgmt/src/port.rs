// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One data function as the management function sees it: log, sessions, status page.
//!
//! Lock order: status page, session, then the function's own locks (gate, log). The events
//! from the function's side take none of the first two, so the function may deliver them
//! while it holds its own: a reset is noted in a counter, and whoever opens the session next
//! draws the conclusion.

use std::sync::{
    atomic::{AtomicU64, Ordering},
    Arc, OnceLock, Weak,
};

use dlr_abi::abi;
use dlr_core::{DataFunction, DmaMemory, FnState, FunctionEvents, Interrupt, Sabotage};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    kick::Kick,
    log::LogEngine,
    management::FunctionConfig,
    state::{flow::FlowTable, load::LoadSession, save::SaveSession},
    status::Status,
    status_page::{Snapshot, StatusPage},
};

/// All that a function can do.
const CAPS: u32 = abi::DLR_FN_CAP_LOG
    | abi::DLR_FN_CAP_STATE
    | abi::DLR_FN_CAP_P2P
    | abi::DLR_FN_CAP_PRECOPY
    | abi::DLR_FN_CAP_STATUS_PAGE;

/// What is left of them without these; some need others.
fn abilities(without: u32) -> u32 {
    let mut caps = CAPS & !without;
    if caps & abi::DLR_FN_CAP_STATE == 0 {
        caps &= !(abi::DLR_FN_CAP_P2P | abi::DLR_FN_CAP_PRECOPY);
    }
    caps
}

/// The session of a function: one at a time.
#[derive(Debug)]
pub(crate) enum Session {
    /// None.
    None,
    /// Between SAVE_BEGIN and SAVE_END.
    Save(SaveSession),
    /// Between LOAD_BEGIN and commit or abort.
    Load(Box<LoadSession>),
}

/// The session and what it has heard of the function so far.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The session.
    pub(crate) session: Session,
    resets: u64,
    reconfigurations: u64,
    /// Reinitialisations inside save sessions, ever.
    reinits: u32,
}

/// See the module.
pub(crate) struct Port {
    /// The dirty log.
    pub(crate) log: Arc<LogEngine>,
    /// The flow table.
    pub(crate) flow: Arc<FlowTable>,
    /// The NIC's switches.
    pub(crate) sabotage: Arc<Sabotage>,
    caps: u32,
    function: OnceLock<Weak<dyn DataFunction>>,
    slot: Mutex<Slot>,
    page: Mutex<StatusPage>,
    resets: AtomicU64,
    reconfigurations: AtomicU64,
    resumes: AtomicU64,
    saved: AtomicU64,
    loaded: AtomicU64,
    kick: Arc<Kick>,
}

impl Port {
    /// A function of which only what was asked for is known yet. `memory` and `interrupt` are the
    /// MF's.
    pub(crate) fn new(
        config: &FunctionConfig,
        memory: Arc<dyn DmaMemory>,
        interrupt: Arc<dyn Interrupt>,
        sabotage: Arc<Sabotage>,
        kick: Arc<Kick>,
    ) -> Self {
        Self {
            log: Arc::new(LogEngine::new(
                memory.clone(),
                interrupt,
                sabotage.clone(),
                kick.clone(),
            )),
            flow: Arc::new(FlowTable::new(config.flow_table, kick.clone())),
            sabotage,
            caps: abilities(config.without),
            function: OnceLock::new(),
            slot: Mutex::new(Slot {
                session: Session::None,
                resets: 0,
                reconfigurations: 0,
                reinits: 0,
            }),
            page: Mutex::new(StatusPage::new(memory)),
            resets: AtomicU64::new(0),
            reconfigurations: AtomicU64::new(0),
            resumes: AtomicU64::new(0),
            saved: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            kick,
        }
    }

    /// What the function can do (`DLR_FN_CAP_*`).
    pub(crate) fn caps(&self) -> u32 {
        self.caps
    }

    /// Makes the function known. Only the first call counts.
    pub(crate) fn attach(&self, function: &Arc<dyn DataFunction>) {
        if self.function.set(Arc::downgrade(function)).is_err() {
            log::error!("a second data function for the same number is ignored");
        }
    }

    /// The function, while it exists.
    pub(crate) fn function(&self) -> Option<Arc<dyn DataFunction>> {
        self.function.get()?.upgrade()
    }

    /// The function, for a command.
    pub(crate) fn need_function(&self) -> Result<Arc<dyn DataFunction>, Status> {
        self.function().ok_or(Status::Internal)
    }

    /// The session, after everything that happened to the function has been applied to it.
    pub(crate) fn slot(&self) -> MutexGuard<'_, Slot> {
        let mut slot = self.slot.lock();
        let resets = self.resets.load(Ordering::Acquire);
        if slot.resets != resets {
            slot.resets = resets;
            slot.session = Session::None;
        }
        let reconfigurations = self.reconfigurations.load(Ordering::Acquire);
        if slot.reconfigurations != reconfigurations {
            slot.reconfigurations = reconfigurations;
            if let Session::Save(save) = &mut slot.session {
                let before = save.reinits();
                save.reinit();
                let more = save.reinits().wrapping_sub(before);
                slot.reinits = slot.reinits.wrapping_add(more);
            }
        }
        slot
    }

    /// How often the function left STOPPED.
    pub(crate) fn resumes(&self) -> u64 {
        self.resumes.load(Ordering::Acquire)
    }

    /// Counts a step up from STOPPED.
    pub(crate) fn count_resume(&self) {
        self.resumes.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts bytes of state: delivered by SAVE_READ, taken by LOAD_WRITE.
    pub(crate) fn count_state(&self, saved: usize, loaded: usize) {
        self.saved.fetch_add(saved as u64, Ordering::Relaxed);
        self.loaded.fetch_add(loaded as u64, Ordering::Relaxed);
    }

    /// Bytes of state delivered since the NIC started.
    pub(crate) fn saved(&self) -> u64 {
        self.saved.load(Ordering::Relaxed)
    }

    /// Bytes of state taken since the NIC started.
    pub(crate) fn loaded(&self) -> u64 {
        self.loaded.load(Ordering::Relaxed)
    }

    /// Power-on state of the function and of what the MF keeps for it.
    pub(crate) fn reset_function(&self) {
        if let Some(function) = self.function() {
            function.reset();
        }
        self.flow.clear();
    }

    /// Moves the status page. Ok when it is valid, or will not be written any more.
    pub(crate) fn set_page(&self, addr: Option<u64>) -> Result<(), Status> {
        self.page.lock().set(addr);
        if self.refresh_page() {
            Ok(())
        } else {
            Err(Status::DmaFault)
        }
    }

    /// An injected fault: updates of the page do not end (`true`).
    pub(crate) fn tear_page(&self, torn: bool) {
        self.page.lock().tear(torn);
        self.refresh_page();
    }

    /// The driver has given the page a place.
    pub(crate) fn has_page(&self) -> bool {
        self.page.lock().wanted()
    }

    /// The session, for the control socket.
    pub(crate) fn session_name(&self) -> &'static str {
        match self.slot().session {
            Session::None => "none",
            Session::Save(_) => "save",
            Session::Load(_) => "load",
        }
    }

    /// Brings the status page up to date; false when it cannot be reached.
    pub(crate) fn refresh_page(&self) -> bool {
        let mut page = self.page.lock();
        if !page.wanted() {
            return true;
        }
        let snapshot = self.snapshot();
        page.update(&snapshot)
    }

    /// What the status page shows.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let slot = self.slot();
        let pending = match &slot.session {
            Session::Save(save) => save.pending(),
            _ => SaveSession::pending_without_session(&self.flow),
        };
        let (log_lost_count, failed) = self.log.health();
        Snapshot {
            health: u32::from(failed) * abi::DLR_HEALTH_LOG_FAILED,
            pending,
            reinit_count: slot.reinits,
            log_lost_count,
        }
    }

    /// Function-level reset of the MF: no more DMA for this function, no session. The
    /// function stays in its state.
    pub(crate) fn management_reset(&self) {
        self.log.stop();
        self.page.lock().set(None);
        let mut slot = self.slot();
        if matches!(slot.session, Session::Load(_)) {
            self.reset_function();
        }
        slot.session = Session::None;
    }

    /// The FN_STATE register.
    pub(crate) fn state(&self) -> u32 {
        match self.function().map(|f| f.state()) {
            Some(FnState::Running) | None => abi::DLR_FN_RUNNING,
            Some(FnState::RunningP2p) => abi::DLR_FN_RUNNING_P2P,
            Some(FnState::Stopped) => abi::DLR_FN_STOPPED,
        }
    }
}

impl FunctionEvents for Port {
    fn function_reset(&self) {
        self.flow.clear();
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.kick.kick();
    }

    fn reconfigured(&self) {
        self.flow.clear();
        self.reconfigurations.fetch_add(1, Ordering::AcqRel);
        self.kick.kick();
    }
}
