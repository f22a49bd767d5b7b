// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Stops of the driver and of the engine in code that does not know the explorer: in the kernel's
//! DMA memory and in the NIC's clock.

use std::{cell::RefCell, rc::Rc};

/// Why the code stops.
#[derive(Clone, Copy)]
pub(crate) enum Stop {
    /// The driver is about to read the ring.
    Read,
    /// The NIC has written this word to the ring.
    Word(u64),
    /// A sabotaged engine sleeps in the middle of a step.
    Sleep,
}

type Hook = Rc<dyn Fn(Stop)>;

thread_local! {
    static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
}

/// From now on `hook` is called at each stop of this thread; `None` ends that.
pub(crate) fn set(hook: Option<Hook>) {
    HOOK.set(hook);
}

/// The code stops, and the hook may take steps of others.
pub(crate) fn stop(why: Stop) {
    let hook = HOOK.with_borrow(Clone::clone);
    if let Some(hook) = hook {
        hook(why);
    }
}
