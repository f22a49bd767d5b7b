// SPDX-License-Identifier: Apache-2.0 OR MIT

use std::sync::Arc;

use super::*;
use crate::mirror::{
    layout,
    memory::{HugePages, Memory},
    model::Model,
};

fn model() -> Model {
    let ranges = layout::ranges(8 << 20).expect("size");
    Model::new(Arc::new(
        Memory::new(&ranges, HugePages::Never).expect("memory"),
    ))
}

#[test]
fn registers_are_found_and_features_agreed() {
    let model = model();
    let function = VirtioPci::new(&model).expect("virtio");
    assert_eq!(
        (
            function.common.bar,
            function.notify.offset,
            function.multiplier
        ),
        (4, 0x1000, 4)
    );
    function.begin(Features::Basic).expect("features");
    assert_eq!(
        model.features(),
        F_VERSION_1 | F_ACCESS_PLATFORM | NET_F_MRG_RXBUF | NET_F_MAC
    );
    assert_eq!(function.mac().expect("mac"), [2, 0, 0, 0, 0, 1]);
    assert_eq!(function.queue_limit(0).expect("queue"), 64);
    assert!(function.queue_limit(5).is_err());
    assert_eq!(
        function.doorbell(1).expect("bell"),
        Doorbell {
            bar: 4,
            offset: 0x1004,
            queue: 1
        }
    );
    assert!(function.check().is_err());
    function.finish().expect("at work");
}

#[test]
fn a_function_without_the_needed_features_is_refused() {
    let mut model = model();
    model.offered = 1 << 32;
    let function = VirtioPci::new(&model).expect("virtio");
    let error = function
        .begin(Features::Basic)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("0x100000000"), "{error}");
}

#[test]
fn more_features_are_taken_only_when_asked_for() {
    let mut model = model();
    let more = F_EVENT_IDX | NET_F_CTRL_VQ | NET_F_CTRL_RX;
    {
        let function = VirtioPci::new(&model).expect("virtio");
        assert!(function.begin(Features::Full).is_err(), "not offered");
    }
    model.offered |= more;
    let function = VirtioPci::new(&model).expect("virtio");
    assert_eq!(function.begin(Features::Basic).expect("basic") & more, 0);
    assert_eq!(function.begin(Features::Full).expect("full") & more, more);
    assert_eq!(model.features() & more, more);
}
