// SPDX-License-Identifier: Apache-2.0 OR MIT

//! `kernel::bitfield!`, as far as the entries of the log need it: the positions are those of the
//! driver's file.

macro_rules! bitfield {
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident($word:ty) {
            $(#[$high_doc:meta])* $high_top:literal:$high:literal high;
            $(#[$run_doc:meta])* $run_top:literal:$run:literal run;
            $(#[$kind_doc:meta])* $kind_top:literal:$kind:literal kind;
            $(#[$phase_doc:meta])* $phase_top:literal:$phase:literal phase => bool;
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        $vis struct $name($word);

        impl $name {
            pub(crate) const HIGH_SHIFT: u32 = $high;
            pub(crate) const RUN_SHIFT: u32 = $run;
            pub(crate) const KIND_SHIFT: u32 = $kind;
            pub(crate) const PHASE_SHIFT: u32 = $phase;
            pub(crate) const RUN_MASK: $word = Self::mask($run_top, $run);
            pub(crate) const KIND_MASK: $word = Self::mask($kind_top, $kind);
            pub(crate) const PHASE_MASK: $word = Self::mask($phase_top, $phase);

            const fn mask(top: u32, low: u32) -> $word {
                (<$word>::MAX >> (<$word>::BITS - 1 - top + low)) << low
            }

            pub(crate) const fn zeroed() -> Self {
                Self(0)
            }

            pub(crate) const fn from_raw(word: $word) -> Self {
                Self(word)
            }

            pub(crate) const fn into_raw(self) -> $word {
                self.0
            }

            pub(crate) const fn with_const_kind<const KIND: $word>(self) -> Self {
                Self(self.0 & !Self::KIND_MASK | KIND << $kind)
            }

            pub(crate) const fn with_phase(self, phase: bool) -> Self {
                Self(self.0 & !Self::PHASE_MASK | (phase as $word) << $phase)
            }

            pub(crate) const fn phase(self) -> bool {
                self.0 & Self::PHASE_MASK != 0
            }

            pub(crate) fn run(self) -> $crate::stub::bitfield::Field {
                $crate::stub::bitfield::Field((self.0 & Self::RUN_MASK) >> $run)
            }

            pub(crate) fn kind(self) -> $crate::stub::bitfield::Field {
                $crate::stub::bitfield::Field((self.0 & Self::KIND_MASK) >> $kind)
            }

            pub(crate) fn high(self) -> $crate::stub::bitfield::Field {
                $crate::stub::bitfield::Field((self.0 & Self::mask($high_top, $high)) >> $high)
            }
        }
    };
}
pub(crate) use bitfield;

/// `Bounded`.
pub(crate) struct Field(pub(crate) u64);

impl Field {
    pub(crate) fn get(&self) -> u64 {
        self.0
    }
}
