// SPDX-License-Identifier: GPL-2.0

//! Tracepoints, as safe functions. One that is off costs a NOP.
//!
//! `kernel::declare_trace!` looks for the tracepoint in `kernel::bindings` and so works in the tree only.
//! The events are defined in `dlr_trace.h`, which documents their fields.

use kernel::prelude::*;

macro_rules! declare_trace {
    ($(
        $(#[$attr:meta])*
        fn $name:ident => $event:ident($($arg:ident: $ty:ty = $conv:expr => $cty:ty),* $(,)?);
    )*) => {$(
        $(#[$attr])*
        #[inline(always)]
        pub(crate) fn $name($($arg: $ty),*) {
            #[cfg(CONFIG_TRACEPOINTS)]
            kernel::macros::paste! {
                #[allow(improper_ctypes)]
                extern "C" {
                    static [<__tracepoint_ $event>]: kernel::bindings::tracepoint;
                    fn [<rust_do_trace_ $event>]($($arg: $cty),*);
                }
                // SAFETY: The static key belongs to a tracepoint that `trace.c` instantiates.
                if unsafe {
                    kernel::jump_label::static_branch_unlikely!(
                        [<__tracepoint_ $event>],
                        kernel::bindings::tracepoint,
                        key
                    )
                } {
                    // SAFETY: The prototype is that of `dlr_trace.h`, and strings are C strings that
                    // live for the call, which copies them.
                    unsafe { [<rust_do_trace_ $event>]($($conv),*) };
                }
            }
            #[cfg(not(CONFIG_TRACEPOINTS))]
            {
                $(let _ = $arg;)*
            }
        }
    )*};
}

declare_trace! {
    /// One hop of the migration state machine has ended. `error` is 0 or a negative errno.
    fn migration_step => dlr_migration_step(
        dev: &CStr = dev.as_char_ptr() => *const c_char,
        from: u32 = from => u32,
        to: u32 = to => u32,
        error: i32 = error => c_int,
    );
    /// A SYNC of `length` bytes at `iova`, or of everything, took `latency_ns` up to its marker.
    fn log_sync => dlr_log_sync(
        dev: &CStr = dev.as_char_ptr() => *const c_char,
        iova: u64 = iova => u64,
        length: u64 = length => u64,
        all: bool = u32::from(all) => u32,
        latency_ns: u64 = latency_ns => u64,
    );
    /// `entries` log entries with `granules` in all were consumed.
    fn log_drain => dlr_log_drain(
        dev: &CStr = dev.as_char_ptr() => *const c_char,
        entries: u32 = entries => u32,
        granules: u64 = granules => u64,
        irq: bool = u32::from(irq) => u32,
    );
    /// The log lost writes, for the `count`th time.
    fn log_lost => dlr_log_lost(
        dev: &CStr = dev.as_char_ptr() => *const c_char,
        count: u64 = count => u64,
    );
}
