// SPDX-License-Identifier: Apache-2.0 OR MIT

//! The files that are explored, and what their copies change.

/// A file or folder of the tree, and its place in a copy.
pub(super) const SOURCES: &[(&str, &str)] = &[
    // The driver's layer.
    ("drivers/vfio/rust/vfio/dirty", "dirty"),
    ("drivers/vfio/rust/vfio/iova_bitmap.rs", "iova_bitmap.rs"),
    ("drivers/vfio/rust/ext/lookup.rs", "lookup.rs"),
    ("drivers/vfio/rust/ext/cmdq/ring.rs", "cmdq_ring.rs"),
    // The vendor driver's format of an entry.
    ("drivers/vfio/pci/dlr/proto/log.rs", "proto_log.rs"),
    // The NIC's log engine.
    ("samples/dlr-nic/mgmt/src/log", "nic"),
    ("samples/dlr-nic/mgmt/src/status.rs", "status.rs"),
    ("samples/dlr-nic/mgmt/src/kick.rs", "kick.rs"),
];

/// A folder of the copy, a text, and what stands there in its files: allocations that may fail, and
/// the time.
pub(super) const EVERYWHERE: &[(&str, &str, &str)] = &[
    ("dirty", "Arc::new(", "kernel::sync::new_arc("),
    ("dirty", "Arc::pin_init(", "kernel::sync::pin_init_arc("),
    ("nic", "Instant::now", "crate::clock::now"),
    ("nic", "std::thread::sleep(", "crate::clock::sleep("),
];

/// A path in the copy, and the texts from which to which it is cut. The bitmap in user memory is C.
pub(super) const CUTS: &[(&str, &str, Option<&str>)] = &[
    (
        "iova_bitmap.rs",
        "/// The bitmap of one",
        Some("/// Clamps a run of"),
    ),
    ("iova_bitmap.rs", "/// The return type of", None),
];

/// A path in the copy, a text that occurs once, and what stands there in the copy.
pub(super) const CHANGES: &[(&str, &str, &str)] = &[
    // `ArcBorrow` is `&Arc` here.
    (
        "dirty/log.rs",
        "let notify: Arc<Self> = self.into();",
        "let notify: Arc<Self> = self.clone();",
    ),
    (
        "dirty/log.rs",
        "self.session.with_killable(&*self, |slot| {\n            if slot.is_some() {",
        "self.session.with_killable(&**self, |slot| {\n            if slot.is_some() {",
    ),
    // No thread: what it was to do comes after the end of the run.
    (
        "nic/sabotage.rs",
        "thread::Builder::new().name(name).spawn(late)",
        "crate::clock::after_the_run(name, late)",
    ),
    // The explorer's VMM clamps runs as the bitmap in user memory does.
    ("iova_bitmap.rs", "fn clamp(", "pub(crate) fn clamp("),
];
