// SPDX-License-Identifier: Apache-2.0 OR MIT

//! See `dlr_nic_fuzz::state`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dlr_nic_fuzz::state(data);
});
