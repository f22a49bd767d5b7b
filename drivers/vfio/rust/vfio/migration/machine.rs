// SPDX-License-Identifier: GPL-2.0

//! The migration of one device: its state lock, its sessions and its [`Engine`].

use super::{
    accounting::data_size,
    debt::{
        self,
        Debt, //
    },
    engine::Engine,
    files::Files,
    generation::{
        Generation,
        Resets, //
        SessionEpoch,
    },
    load_session::LoadSession,
    plan::{
        only_ends_a_save,
        Drift, //
    },
    save_session::SaveSession,
    state::{
        Failure,
        Move,
        Opening,
        Transition, //
    },
    view::{
        Current,
        View, //
    },
};
use crate::vfio::state_lock::StateLock;
use kernel::{
    prelude::*,
    sync::{
        atomic::Atomic,
        Arc, //
    },
};

/// The session of the current state, if it has one. The state lock protects it.
pub(crate) struct Sessions<E: Engine> {
    pub(super) save: Option<Arc<SaveSession<E::Save>>>,
    pub(super) load: Option<Arc<LoadSession<E::Load>>>,
    /// The generation in which the state was last reset.
    pub(super) generation: Option<Generation>,
    /// Set if commands of an arc may have reached the device after a reset for which
    /// [`Machine::reset`] was not called yet.
    pub(super) raced_reset: bool,
    /// Whether the device may have a session that is neither `save` nor `load`.
    pub(super) debt: Debt,
    /// Set if the device may be at another run level than the state says.
    pub(super) drift: Option<Drift>,
}

/// The migration of one device. It is a field of the registration data.
#[pin_data]
pub(crate) struct Machine<E: Engine> {
    #[pin]
    pub(super) engine: E,
    #[pin]
    state: StateLock<Sessions<E>>,
    pub(super) resets: Arc<Resets>,
    pub(super) view: Arc<View<E>>,
    /// Set from a failure of the PCI channel until the next reset of the function.
    pub(super) lost: Atomic<bool>,
}

impl<E: Engine> Machine<E> {
    /// Makes the migration of a running device.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new<I>(engine: impl PinInit<E, I>) -> impl PinInit<Self, Error>
    where
        Error: From<I>,
    {
        pin_init::pin_init_scope(move || {
            let resets = Arc::new(Resets::new(), GFP_KERNEL)?;
            let sessions = Sessions {
                save: None,
                load: None,
                generation: resets.generation(),
                raced_reset: false,
                debt: Debt::default(),
                drift: None,
            };
            Ok(try_pin_init!(Self {
                engine <- engine,
                state <- StateLock::new(sessions),
                resets,
                view: View::new(state.mirror())?,
                lost: Atomic::new(false),
            }))
        })
    }

    /// Returns the view of state and session without the state lock.
    pub(crate) fn view(&self) -> &Arc<View<E>> {
        &self.view
    }

    /// Returns the state lock.
    pub(in super::super) fn state_lock(&self) -> &StateLock<Sessions<E>> {
        &self.state
    }

    /// Carries out an arc that makes a file, and returns the file.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub(crate) fn open<F: Files>(
        &self,
        cx: &E::Context<'_>,
        sessions: &mut Sessions<E>,
        opening: Opening,
        files: &F,
    ) -> Result<F::File, Failure> {
        let arc = Transition::Open(opening);
        let mut open = || {
            self.engine.attach(cx).map_err(Failure::Stay)?;
            self.take_home(cx, sessions).map_err(Failure::Stay)?;
            let file = match opening {
                Opening::PreCopy | Opening::PreCopyP2p => {
                    self.open_save(cx, sessions, false, files)
                }
                Opening::StopCopy => self.open_save(cx, sessions, true, files),
                Opening::Resuming => self.open_load(cx, sessions, files),
            };
            self.note_reset(sessions);
            file.map_err(Failure::Stay)
        };
        self.ended(cx, arc, open())
    }

    /// Carries out an arc that makes no file.
    ///
    /// # Errors
    ///
    /// See [`Failure`].
    pub(crate) fn step(
        &self,
        cx: &E::Context<'_>,
        sessions: &mut Sessions<E>,
        step: Move,
    ) -> Result<(), Failure> {
        let arc = Transition::Move(step);
        let mut run = || {
            let attached = self.engine.attach(cx);
            match attached.and_then(|()| self.take_home(cx, sessions)) {
                // An arc that only ends a save session succeeds without the device: otherwise a
                // guest whose migration fails because the device cannot be reached could not leave
                // the session.
                Err(_) if only_ends_a_save(arc) && sessions.save.is_some() => (),
                result => result.map_err(Failure::Stay)?,
            }
            let result = self.run_all(cx, sessions, arc);
            self.note_reset(sessions);
            result
        };
        self.ended(cx, arc, run())
    }

    /// Returns the bytes that are to be read if the guest stopped now, including those in buffers.
    /// Works in every state: the save session answers if there is one, and the engine otherwise.
    ///
    /// # Errors
    ///
    /// Those of [`SaveSource::try_pending`](super::save::SaveSource::try_pending) and
    /// [`Engine::pending`].
    pub(crate) fn data_size(&self, cx: &E::Context<'_>) -> Result<u64> {
        // VMMs ask thousands of times a second, mostly without a session. The state says so without
        // a lock. It is the one after the last arc: the user has no file of a session that an arc
        // begins.
        let mut left = None;
        if self.view.state().has_save() {
            if let Some(save) = self.view.current().save {
                left = save.left()?;
            }
        }
        let (pending, unread) = match left {
            Some(left) => left,
            None => (self.engine.pending(cx)?, 0),
        };
        Ok(data_size(pending.total_bytes, unread))
    }

    /// Tells the engine about the end of an arc, and returns `result`.
    fn ended<R>(
        &self,
        cx: &E::Context<'_>,
        arc: Transition,
        result: Result<R, Failure>,
    ) -> Result<R, Failure> {
        let errno = match &result {
            Ok(_) => 0,
            Err(failure) => failure.error().to_errno(),
        };
        let (from, to) = arc.ends();
        self.engine.arc_ended(cx, from, to, errno);
        result
    }

    /// Ends the session in the driver, if there is one, and returns it. The caller ends it on the
    /// device.
    pub(super) fn end_files(&self, sessions: &mut Sessions<E>) -> Taken<E> {
        self.view.set_current(Current::none());
        let (save, load) = (sessions.save.take(), sessions.load.take());
        if let Some(save) = &save {
            save.end();
        }
        if let Some(load) = &load {
            load.end();
        }
        (save, load)
    }

    /// Begins a save session on the device and makes its file.
    fn open_save<F: Files>(
        &self,
        cx: &E::Context<'_>,
        sessions: &mut Sessions<E>,
        stopped: bool,
        files: &F,
    ) -> Result<F::File> {
        let generation = sessions.generation;
        let begin = || {
            let start = self.engine.begin_save(cx, stopped)?;
            let save =
                SaveSession::new(start, SessionEpoch::new(&self.resets, generation), stopped)?;
            Ok((files.save(save.clone())?, save))
        };
        let device = Attached(&self.engine, cx);
        let (file, save) = sessions.debt.begin(&device, begin)?;
        save.begin();
        self.begun(Current {
            save: Some(save.clone()),
            load: None,
        });
        sessions.save = Some(save);
        Ok(file)
    }

    /// Begins a load session on the device and makes its file.
    fn open_load<F: Files>(
        &self,
        cx: &E::Context<'_>,
        sessions: &mut Sessions<E>,
        files: &F,
    ) -> Result<F::File> {
        let generation = sessions.generation;
        let begin = || {
            let start = self.engine.begin_load(cx)?;
            let load = LoadSession::new(start, SessionEpoch::new(&self.resets, generation))?;
            Ok((files.load(load.clone())?, load))
        };
        let device = Attached(&self.engine, cx);
        let (file, load) = sessions.debt.begin(&device, begin)?;
        self.begun(Current {
            save: None,
            load: Some(load.clone()),
        });
        sessions.load = Some(load);
        Ok(file)
    }
}

/// The sessions that [`Machine::end_files`] has ended.
type Taken<E> = (
    Option<Arc<SaveSession<<E as Engine>::Save>>>,
    Option<Arc<LoadSession<<E as Engine>::Load>>>,
);

/// An engine and the context of its calls.
pub(super) struct Attached<'a, 'b, E: Engine>(pub(super) &'a E, pub(super) &'a E::Context<'b>);

impl<E: Engine> debt::Device for Attached<'_, '_, E> {
    fn end_sessions(&self) -> Result {
        self.0.end_sessions(self.1)
    }
}
