// SPDX-License-Identifier: Apache-2.0 OR MIT

//! Functions of a NIC that are wrong are found.

use dlr_core::{DataFunction, FnState, LoadError};

use crate::{
    hostile::Hostile,
    image::{changed, MODE},
    judge::first_error,
    nic::stopped,
    saved,
};

/// Each of them is found within so many streams.
const STREAMS: u64 = 20_000;

/// A function that does something else when its image is saved or loaded.
struct Wrong<'a> {
    function: &'a dyn DataFunction,
    save: fn(Vec<u8>) -> Vec<u8>,
    load: fn(&dyn DataFunction, &[u8]) -> Result<(), LoadError>,
}

impl DataFunction for Wrong<'_> {
    fn state(&self) -> FnState {
        self.function.state()
    }

    fn suspend(&self, to: FnState) {
        self.function.suspend(to);
    }

    fn resume(&self, to: FnState) {
        self.function.resume(to);
    }

    fn quiesced(&self, f: &mut dyn FnMut()) {
        self.function.quiesced(f);
    }

    fn save(&self) -> Vec<u8> {
        (self.save)(self.function.save())
    }

    fn load(&self, state: &[u8]) -> Result<(), LoadError> {
        (self.load)(self.function, state)
    }

    fn reset(&self) {
        self.function.reset();
    }

    fn stats_json(&self) -> String {
        self.function.stats_json()
    }
}

fn is_found(
    name: &str,
    save: fn(Vec<u8>) -> Vec<u8>,
    load: fn(&dyn DataFunction, &[u8]) -> Result<(), LoadError>,
) {
    let (function, other) = (stopped(), stopped());
    let function = &*function.net;
    let wrong = Wrong {
        function,
        save,
        load,
    };
    let hostile = Hostile::new(saved::streams());
    let found = first_error(&hostile, &wrong, &*other.net, STREAMS);
    let (number, what) = found.unwrap_or_else(|| panic!("not found: {name}"));
    println!("{name}: stream {number}: {what}");
}

#[test]
fn a_function_that_forgets_something_is_found() {
    is_found(
        "the receive mode is not saved",
        |image| changed(image, |image| image[MODE] = 0),
        |function, image| function.load(image),
    );
}

#[test]
fn a_function_that_takes_what_it_has_to_refuse_is_found() {
    is_found(
        "the checksum of an image is not checked",
        |image| image,
        |function, image| function.load(&changed(image.to_vec(), |_| ())),
    );
}

#[test]
fn a_function_that_refuses_what_it_has_to_take_is_found() {
    is_found(
        "no image is taken",
        |image| image,
        |_, _| Err(LoadError::NotStopped),
    );
}

#[test]
fn a_function_that_keeps_something_of_what_it_refuses_is_found() {
    is_found(
        "an image that is refused changes the receive mode",
        |image| image,
        |function, image| {
            let result = function.load(image);
            if result.is_err() {
                function.load(&changed(function.save(), |image| image[MODE] ^= 2))?;
            }
            result
        },
    );
}
