// SPDX-License-Identifier: GPL-2.0

//! A driver that implements [`Migration`] itself, because its hardware does not fit an
//! [`Engine`](crate::vfio::migration::engine::Engine): it cannot load a state.

use super::opened::OpenedDevice;
use crate::{
    bindings,
    vfio::{
        id::{
            IdTable,
            NO_DEVICES, //
        },
        migration::{
            files::Files,
            state::{
                Failure,
                Flags,
                Move,
                Opening,
                ResetCause,
                State, //
            },
            DeviceFiles,
            Migration,
            Ops, //
        },
        migration_file::{
            MigrationFile,
            PrecopyInfo,
            Readiness,
            Save, //
        },
        pci::{
            Capabilities,
            OpenDevice,
            Operations, //
        },
        state_lock::StateLock,
        PciFunction, //
    },
};
use kernel::{
    error::{
        from_err_ptr,
        to_result, //
    },
    fs::File,
    iov::IovIterDest,
    new_poll_condvar,
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVar,
        Arc, //
    },
};

/// A session without data.
#[pin_data]
struct Session {
    #[pin]
    pollers: PollCondVar,
}

impl Save for Session {
    type OwnerModule = crate::LocalModule;

    fn read(&self, _dst: &mut IovIterDest<'_>, _nonblock: bool) -> Result<usize> {
        Ok(0)
    }

    fn poll_queue(&self) -> &PollCondVar {
        &self.pollers
    }

    fn readiness(&self) -> Readiness {
        Readiness::Readable
    }

    fn precopy_info(&self, _v2: bool) -> Result<PrecopyInfo> {
        Err(ENODEV)
    }

    fn precopy_told(&self) {}
}

/// The data under the state lock.
struct Device {
    runs: bool,
    session: Option<Arc<Session>>,
    /// The cause of the last reset.
    reset: Option<ResetCause>,
}

struct Odd {
    lock: Pin<KBox<StateLock<Device>>>,
    lost: Atomic<u32>,
}

impl Operations for Odd {
    type OpenData = ();
    const ID_TABLE: IdTable = NO_DEVICES;
    const NAME: &'static CStr = c"vfio-kunit";

    fn new(_pdev: PciFunction<'_>) -> impl PinInit<Self, Error> {
        Err::<Self, _>(ENODEV)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            migration: Some(Flags::default()),
            dma_logging: false,
        }
    }

    fn open(_this: Pin<&Self>, _pdev: PciFunction<'_>) -> impl PinInit<(), Error> {
        Ok::<_, Error>(())
    }
}

impl Migration for Odd {
    type State = Device;

    fn state_lock(&self) -> &StateLock<Device> {
        &self.lock
    }

    fn begin(
        dev: &OpenDevice<'_, Self>,
        state: &mut Device,
        opening: Opening,
    ) -> Result<MigrationFile, Failure> {
        if opening != Opening::StopCopy {
            return Err(Failure::Stay(EOPNOTSUPP));
        }
        let session = pin_init!(Session {
            pollers <- new_poll_condvar!("vfio_kunit_odd"),
        });
        let session = Arc::pin_init(session, GFP_KERNEL).map_err(Failure::Stay)?;
        let files = DeviceFiles::new(dev);
        let file = files.save(session.clone()).map_err(Failure::Stay)?;
        state.session = Some(session);
        Ok(file)
    }

    fn step(_dev: &OpenDevice<'_, Self>, state: &mut Device, step: Move) -> Result<(), Failure> {
        match step {
            Move::DirectStop => state.runs = false,
            Move::DirectStart => state.runs = true,
            Move::EndStopCopy => state.session = None,
            _ => return Err(Failure::Broken(EIO)),
        }
        Ok(())
    }

    fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    fn reset(&self, state: &mut Device, cause: ResetCause) {
        *state = Device {
            runs: true,
            session: None,
            reset: Some(cause),
        };
    }

    fn data_size(_dev: &OpenDevice<'_, Self>) -> Result<u64> {
        Ok(4)
    }
}

#[kunit_tests(vfio_odd_migration)]
mod tests {
    use super::*;

    const OPS: Ops<Odd> = Ops::new();

    fn opened() -> Result<OpenedDevice<Odd>> {
        let device = Device {
            runs: true,
            session: None,
            reset: None,
        };
        let data = Odd {
            lock: KBox::pin_init(StateLock::new(device), GFP_KERNEL)?,
            lost: Atomic::new(0),
        };
        OpenedDevice::new(data, ())
    }

    /// Sets the state, and returns the file.
    fn request(device: &OpenedDevice<Odd>, state: State) -> Result<Option<ARef<File>>> {
        let set = OPS.vtable.migration_set_state.ok_or(EINVAL)?;
        // SAFETY: The device is open.
        let file = from_err_ptr(unsafe { set(device.vdev(), state.to_raw()) })?;
        // SAFETY: The file comes with a reference, and has no descriptor.
        Ok(core::ptr::NonNull::new(file).map(|file| unsafe { ARef::from_raw(file.cast()) }))
    }

    fn state(device: &OpenedDevice<Odd>) -> Result<State> {
        let get = OPS.vtable.migration_get_state.ok_or(EINVAL)?;
        let mut state: bindings::vfio_device_mig_state = 0;
        // SAFETY: The device is open, and `state` is ours.
        to_result(unsafe { get(device.vdev(), &mut state) })?;
        State::try_from(state)
    }

    fn look<R>(device: &OpenedDevice<Odd>, f: impl FnOnce(&Device) -> R) -> R {
        f(&device.data().lock.lock(device.data()))
    }

    #[test]
    fn a_driver_without_an_engine_migrates() -> Result {
        let device = opened()?;
        let file = request(&device, State::StopCopy)?;
        assert!(file.is_some());
        assert_eq!(state(&device)?, State::StopCopy);
        assert!(look(&device, |d| !d.runs && d.session.is_some()));
        assert!(request(&device, State::Running)?.is_none());
        assert_eq!(state(&device)?, State::Running);
        assert!(look(&device, |d| d.runs && d.session.is_none()));
        let size = OPS.vtable.migration_get_data_size.ok_or(EINVAL)?;
        let mut bytes = 0;
        // SAFETY: The device is open, and `bytes` is ours.
        assert_eq!(unsafe { size(device.vdev(), &mut bytes) }, 0);
        assert_eq!(bytes, 4);
        Ok(())
    }

    /// An arc that fails leaves the device where the arc began.
    #[test]
    fn what_the_hardware_cannot_do_is_refused() -> Result {
        let device = opened()?;
        assert_eq!(request(&device, State::Resuming).err(), Some(EOPNOTSUPP));
        assert_eq!(state(&device)?, State::Stop);
        assert!(request(&device, State::PreCopy).is_err());
        assert!(request(&device, State::RunningP2p).is_err());
        assert_eq!(state(&device)?, State::Stop);
        Ok(())
    }

    #[test]
    fn a_reset_sets_the_state_of_a_driver_without_an_engine() -> Result {
        let device = opened()?;
        request(&device, State::StopCopy)?;
        (OPS.reset_done)(device.data());
        assert_eq!(state(&device)?, State::Running);
        let cause = |d: &Device| d.reset;
        assert_eq!(look(&device, cause), Some(ResetCause::FunctionReset));
        request(&device, State::Stop)?;
        (OPS.reset)(device.data(), ResetCause::Close);
        assert_eq!(state(&device)?, State::Running);
        assert_eq!(look(&device, cause), Some(ResetCause::Close));
        (OPS.lost)(device.data());
        assert_eq!(device.data().lost.load(Relaxed), 1);
        Ok(())
    }

    #[test]
    fn optional_states_are_offered_one_by_one() {
        let flags = |ops: Ops<Odd>| (ops.flags.p2p, ops.flags.pre_copy);
        assert_eq!(flags(Ops::new()), (false, false));
        assert_eq!(flags(Ops::new().with_p2p()), (true, false));
        assert_eq!(flags(Ops::new().with_pre_copy()), (false, true));
        assert_eq!(flags(Ops::new().with_pre_copy().with_p2p()), (true, true));
    }
}
