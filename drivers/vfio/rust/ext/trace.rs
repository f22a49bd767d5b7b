// SPDX-License-Identifier: GPL-2.0

//! Tracepoints of an out-of-tree module as safe functions. A disabled tracepoint costs a NOP.
//!
//! `kernel::declare_trace!` expects the tracepoint in `kernel::bindings` and so works only in the
//! kernel tree. [`declare_trace!`] takes the module with bindgen's output for the driver's trace
//! header.
//!
//! C header: [`include/linux/tracepoint.h`](srctree/include/linux/tracepoint.h)

use kernel::prelude::*;

/// An argument of a tracepoint.
///
/// # Safety
///
/// [`Self::to_c`] returns a value that a tracepoint can use as long as its call takes. A pointer
/// points to what the prototype of the tracepoint says.
pub(crate) unsafe trait Argument {
    /// The C type in the prototype of the tracepoint.
    type C;
    /// Returns the C value.
    fn to_c(self) -> Self::C;
}

// SAFETY: The string outlives the call of the tracepoint, which copies it (`__assign_str()`).
unsafe impl Argument for &CStr {
    type C = *const c_char;

    fn to_c(self) -> Self::C {
        self.as_char_ptr()
    }
}

macro_rules! plain {
    ($($ty:ty),*) => {$(
        // SAFETY: The value is a number.
        unsafe impl Argument for $ty {
            type C = $ty;

            fn to_c(self) -> $ty {
                self
            }
        }
    )*};
}

plain!(u32, u64, i32);

/// Passed as `u32`, because not all readers of trace events know `bool`.
// SAFETY: The value is a number.
unsafe impl Argument for bool {
    type C = u32;

    fn to_c(self) -> u32 {
        self.into()
    }
}

/// Declares functions that fire the tracepoints of a trace header.
///
/// `$raw` is the module with bindgen's output for that header: `__tracepoint_EVENT` and
/// `rust_do_trace_EVENT` for each event. So the compiler checks each argument against the prototype
/// of the event. The object with `CREATE_TRACE_POINTS` and `CREATE_RUST_TRACE_POINTS` must be part
/// of the same kernel module.
#[allow(unused_macros, reason = "a driver need not have tracepoints")]
macro_rules! declare_trace {
    (use $raw:path; $(
        $(#[$attr:meta])*
        $vis:vis fn $name:ident => $event:ident($($arg:ident: $ty:ty),* $(,)?);
    )*) => {$(
        $(#[$attr])*
        #[inline(always)]
        #[allow(unsafe_code, reason = "the arguments are checked, see the macro")]
        $vis fn $name($($arg: $ty),*) {
            #[cfg(CONFIG_TRACEPOINTS)]
            kernel::macros::paste! {
                use $crate::ext::trace::Argument;
                use $raw as raw;
                // SAFETY: The static key belongs to a tracepoint of this kernel module, which would
                // not link without it.
                if unsafe {
                    kernel::jump_label::static_branch_unlikely!(
                        raw::[<__tracepoint_ $event>],
                        kernel::bindings::tracepoint,
                        key
                    )
                } {
                    // SAFETY: Bindgen has generated the prototype, and by the requirements of
                    // `Argument` the values are valid during the call.
                    unsafe { raw::[<rust_do_trace_ $event>]($(<$ty as Argument>::to_c($arg)),*) };
                }
            }
            #[cfg(not(CONFIG_TRACEPOINTS))]
            {
                $(let _ = $arg;)*
            }
        }
    )*};
}
pub(crate) use declare_trace;
