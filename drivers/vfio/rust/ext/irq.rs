// SPDX-License-Identifier: GPL-2.0

//! MSI-X vectors with threaded handlers, owned by devres.
//!
//! `ThreadedRegistration::new` is `unsafe` because a leaked registration would outlive its device.
//! Here devres owns the registrations and the handlers are `'static`, so that [`Vectors::new`] is
//! safe.

use kernel::{
    device::Bound,
    devres::Devres,
    irq::{
        Flags,
        IrqRequest,
        ThreadedHandler,
        ThreadedRegistration, //
    },
    pci,
    prelude::*, //
};

/// MSI-X vectors with one handler each.
pub(crate) struct Vectors<H: ThreadedHandler + Send + 'static> {
    // Declared first, so that `free_irq()` runs before the vectors are freed.
    _handlers: KVec<Pin<KBox<ThreadedRegistration<'static, H>>>>,
    _vectors: pci::IrqVectorRegistration<'static>,
}

// SAFETY: `free_irq` and `pci_free_irq_vectors` may be called from any thread that can sleep, and
// the handlers are `Send`.
unsafe impl<H: ThreadedHandler + Send> Send for Vectors<H> {}

impl<H: ThreadedHandler + Send + 'static> Vectors<H> {
    /// Allocates `min` to `max` vectors and registers a handler on each. From then on the handlers
    /// may run, until the returned value is dropped or the device is unbound.
    ///
    /// `handler` gets the index of the vector and the number of vectors.
    pub(crate) fn new<I: PinInit<H, Error> + 'static>(
        pdev: &pci::Device<Bound>,
        min: u32,
        max: u32,
        name: &'static CStr,
        mut handler: impl FnMut(usize, usize) -> I,
    ) -> Result<Devres<Self>> {
        // SAFETY: What is made from `pdev` below is owned by devres, which drops it before the
        // device is unbound, or dropped in this function.
        let pdev: &'static pci::Device<Bound> = unsafe { &*core::ptr::from_ref(pdev) };
        let types = pci::IrqTypes::default().with(pci::IrqType::MsiX);
        let vectors = pdev.alloc_irq_vectors(min, max, types)?;
        let mut handlers = KVec::with_capacity(vectors.len(), GFP_KERNEL)?;
        for index in 0..vectors.len() {
            let request: IrqRequest<'_> = vectors.index(index)?.into();
            // SAFETY: An `IrqRequest` is a number with a lifetime. The vectors outlive the
            // handlers, by the order of the fields below and of the variables here.
            let request: IrqRequest<'static> = unsafe { core::mem::transmute(request) };
            let init = handler(index, vectors.len());
            // SAFETY: The registration goes into `Vectors`, which is owned by devres and so is
            // dropped.
            let registration =
                unsafe { ThreadedRegistration::new(request, Flags::TRIGGER_NONE, name, init) };
            handlers.push(KBox::pin_init(registration, GFP_KERNEL)?, GFP_KERNEL)?;
        }
        Devres::new(
            pdev.as_ref(),
            Ok::<_, Error>(Self {
                _handlers: handlers,
                _vectors: vectors,
            }),
        )
    }
}
