// SPDX-License-Identifier: Apache-2.0 OR MIT

//! One data function as the management function sees it: log, sessions, status page.
//!
//! Lock order: status page, session, then the function's own locks (gate, log). The events
//! from the function's side take none of the first two, so the function may deliver them
//! while it holds its own: a reset is noted in a counter, and whoever opens the session next
//! draws the conclusion.

mod page;

use std::sync::{
    atomic::{AtomicU32, AtomicU64, Ordering},
    Arc, OnceLock, Weak,
};

use dlr_abi::abi;
use dlr_core::{
    AttestWords, DataFunction, DmaMemory, FnState, FunctionEvents, Interrupt, Sabotage,
    SabotageKind,
};
use parking_lot::{Mutex, MutexGuard};

use crate::{
    config::FunctionConfig,
    kick::Kick,
    log::{LogEngine, IOVA_BITS},
    state::{flow::FlowTable, load::LoadSession, save::SaveSession},
    status::Status,
    status_page::StatusPage,
};

/// All that a function can do.
const CAPS: u32 = abi::DLR_FN_CAP_LOG
    | abi::DLR_FN_CAP_STATE
    | abi::DLR_FN_CAP_P2P
    | abi::DLR_FN_CAP_PRECOPY
    | abi::DLR_FN_CAP_STATUS_PAGE
    | abi::DLR_FN_CAP_HOLD;

/// What is left of them without these; some need others.
fn abilities(without: u32) -> u32 {
    let mut caps = CAPS & !without;
    if caps & abi::DLR_FN_CAP_STATE == 0 {
        caps &= !(abi::DLR_FN_CAP_P2P | abi::DLR_FN_CAP_PRECOPY);
    }
    if caps & abi::DLR_FN_CAP_LOG == 0 {
        caps &= !abi::DLR_FN_CAP_HOLD;
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
    /// Streams are exchangeable between functions with this id.
    pub(crate) compat: [u8; 16],
    /// A range of the log ends at or below two to this power.
    pub(crate) iova_bits: u32,
    caps: AtomicU32,
    function: OnceLock<Weak<dyn DataFunction>>,
    words: OnceLock<Arc<dyn AttestWords>>,
    interrupt: Arc<dyn Interrupt>,
    slot: Mutex<Slot>,
    page: Mutex<StatusPage>,
    resets: AtomicU64,
    reconfigurations: AtomicU64,
    resumes: AtomicU64,
    saved: AtomicU64,
    loaded: AtomicU64,
    aborts: AtomicU64,
    events: AtomicU64,
    /// Events "more to read" that a test has still to lose.
    lose_events: AtomicU64,
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
                interrupt.clone(),
                sabotage.clone(),
                kick.clone(),
            )),
            flow: Arc::new(FlowTable::new(config.flow_table, kick.clone())),
            sabotage,
            compat: config.compat,
            iova_bits: config.iova_bits.unwrap_or(IOVA_BITS).min(IOVA_BITS),
            caps: AtomicU32::new(abilities(config.without)),
            function: OnceLock::new(),
            words: OnceLock::new(),
            interrupt,
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
            aborts: AtomicU64::new(0),
            events: AtomicU64::new(0),
            lose_events: AtomicU64::new(0),
            kick,
        }
    }

    /// What the function can do (`DLR_FN_CAP_*`).
    pub(crate) fn caps(&self) -> u32 {
        self.caps.load(Ordering::Relaxed)
    }

    /// From now on the function does without these abilities, as after an update of its firmware.
    pub(crate) fn set_without(&self, without: u32) {
        self.caps.store(abilities(without), Ordering::Relaxed);
    }

    /// Makes the function known. Only the first call counts.
    pub(crate) fn attach(&self, function: &Arc<dyn DataFunction>) {
        if self.function.set(Arc::downgrade(function)).is_err() {
            log::error!("a second data function for the same number is ignored");
        }
    }

    /// Where the function shows a nonce. Only the first call counts.
    pub(crate) fn attach_words(&self, words: Arc<dyn AttestWords>) {
        if self.words.set(words).is_err() {
            log::error!("a second configuration space for the same number is ignored");
        }
    }

    /// ATTEST. False when the function has no configuration space.
    pub(crate) fn attest(&self, nonce: u64) -> bool {
        if self.sabotage.get(SabotageKind::AttestHidden).is_some() {
            return true;
        }
        let foreign = self.sabotage.get(SabotageKind::AttestForeign).is_some();
        self.show_nonce(if foreign { !nonce } else { nonce })
    }

    /// Shows `nonce`. False when the function has no configuration space.
    fn show_nonce(&self, nonce: u64) -> bool {
        let words = self.words.get();
        words.map(|words| words.set_nonce(nonce)).is_some()
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

    /// The function was reset since `slot` was taken. A reset that is not seen here clears what it
    /// has to clear after this call.
    pub(crate) fn reset_since(&self, slot: &Slot) -> bool {
        slot.resets != self.resets.load(Ordering::Acquire)
    }

    /// Power-on state after a failed load, unless a reset of the function came in between: it
    /// runs for its guest again then.
    pub(crate) fn reset_after_load(&self, slot: &Slot) {
        let stopped = |f: Arc<dyn DataFunction>| f.state() == FnState::Stopped;
        if !self.reset_since(slot) && self.function().is_some_and(stopped) {
            self.reset_function();
        }
    }

    /// Work that was held back for want of room in the log may begin.
    pub(crate) fn room(&self) {
        if let Some(function) = self.function() {
            function.room();
        }
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

    /// Counts an abort of the function's commands.
    pub(crate) fn count_abort(&self) {
        self.aborts.fetch_add(1, Ordering::Relaxed);
    }

    /// Aborts since the NIC started.
    pub(crate) fn aborts(&self) -> u64 {
        self.aborts.load(Ordering::Relaxed)
    }

    /// Events "more to read" since the NIC started.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// An injected fault: so many events are not raised.
    pub(crate) fn lose_events(&self, count: u64) {
        self.lose_events.store(count, Ordering::Relaxed);
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

    /// The session, for the control socket.
    pub(crate) fn session_name(&self) -> &'static str {
        match self.slot().session {
            Session::None => "none",
            Session::Save(_) => "save",
            Session::Load(_) => "load",
        }
    }

    /// Reset of the MF: no more DMA for this function, no event, no session, no nonce. The
    /// function stays in its state, unless it was being loaded: that is as after an FLR.
    pub(crate) fn management_reset(&self) {
        self.log.stop();
        self.room();
        self.show_nonce(0);
        // Held to the end: an event is raised under it.
        let mut page = self.page.lock();
        page.set(None);
        let mut slot = self.slot();
        let loading = matches!(slot.session, Session::Load(_));
        slot.session = Session::None;
        if loading {
            self.reset_function();
            if let Some(function) = self.function() {
                function.resume(FnState::Running);
            }
        }
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
        // Counted first: see `reset_since`.
        self.resets.fetch_add(1, Ordering::AcqRel);
        self.flow.clear();
        self.log.function_reset();
        self.kick.kick();
    }

    fn reconfigured(&self) {
        self.flow.clear();
        self.reconfigurations.fetch_add(1, Ordering::AcqRel);
        self.kick.kick();
    }
}
