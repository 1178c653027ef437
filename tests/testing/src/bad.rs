//! What the tests of bad input share.

use lutmul::*;

/// What y holds before a call.
pub const BEFORE: f32 = 7.0;

pub fn per_tensor((n, k): (usize, usize)) -> Scales {
    Scales::tensor(1.0, (n, k)).expect("a scale")
}

/// int8 weights, all 1.
pub fn ones(n: usize, k: usize) -> Weights<'static> {
    Weights::new(vec![1; n * k], (n, k), Lut::int8(), per_tensor((n, k))).expect("weights")
}

pub fn one_thread(kernel: Kernel) -> Options {
    Options::new().with_kernel(kernel).with_threads(Threads::One)
}

/// The text of an error.
pub fn text<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => panic!("no error"),
        Err(error) => error.to_string(),
    }
}

/// Calls with a y of `len` elements; returns the result, and makes sure that y is untouched.
pub fn fails<Y: Element + PartialEq + std::fmt::Debug>(
    y: &mut [Y],
    call: impl FnOnce(&mut [Y]) -> lutmul::Result<()>,
) -> String {
    let before = y.to_vec();
    let message = text(call(y));
    assert_eq!(y, before, "y was touched: {message}");
    message
}
