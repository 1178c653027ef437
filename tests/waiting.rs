//! Calls that wait for each other's threads: whoever is first, all come to an end.
//!
//! A thread of rayon's that waits takes up other work of its pool. Were a lock held meanwhile, or a cell being
//! filled, that other work could come to the same one, and wait for ever.

#![cfg(feature = "rayon")]

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use lutmul::*;
use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use testing::quick;

const N: usize = 4096;
const K: usize = 4096;

/// Runs some work, which fails the test if it takes minutes.
fn comes_to_an_end(what: String, work: impl FnOnce() + Send + 'static) {
    let (done, wait) = channel();
    thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    match wait.recv_timeout(Duration::from_secs(if quick() { 600 } else { 60 })) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what}: panicked"),
    }
}

/// What several threads do with the same weights at a time, none of which is done yet.
type Act = fn(&Weights<'_>);

fn product(w: &Weights<'_>, mode: Mode) {
    let (x, mut y) = ([1f32; K], vec![0f32; N]);
    w.matmul(&x, &mut y, &mut Context::new().with_mode(mode)).expect("a product");
    assert_eq!(y, [K as f32; N]);
}

const ACTS: [(&str, Act); 6] = [
    ("prepare", |w| w.prepare().expect("finite weights")),
    ("decode_rows", |w| w.decode_rows(7..9, &mut vec![0f32; 2 * K]).expect("rows")),
    ("matmul in f32", |w| product(w, Mode::F32)),
    ("matmul in a16", |w| product(w, Mode::A16)),
    ("matmul of packed x", |w| {
        let (x, mut y, mut packed) = (vec![1f32; 9 * K], vec![0f32; 9 * N], Activations::new());
        packed.pack(&x, w, &Options::new()).expect("packed");
        w.matmul(&packed, &mut y, &mut Context::new()).expect("a product");
    }),
    ("with a code that is refused", |w| {
        let mut codes = w.codes().to_vec();
        codes[N * K - 1] = 0x7F;
        let w = Weights::new(codes, (N, K), Lut::e4m3(), w.scales().clone()).expect("weights");
        let refused = || w.prepare().expect_err("a NaN").to_string();
        let (a, b) = rayon::join(refused, refused);
        assert_eq!((&a, &a[..]), (&b, "weights: NaN at row 4095, column 4095"));
    }),
];

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// Calls `all` again and again, with weights that nothing was done with.
fn rounds(what: String, all: impl Fn(&Weights<'_>) + Send + 'static) {
    comes_to_an_end(what, move || {
        let codes = vec![0x38u8; N * K]; // 1.0
        for _ in 0..if quick() { 1 } else { 6 } {
            let scales = Scales::tensor(1.0, (N, K)).expect("a scale");
            let w = Weights::new(&codes[..], (N, K), Lut::e4m3(), scales).expect("weights");
            all(&w);
        }
    });
}

#[test]
fn threads_that_share_a_pool() {
    for (name, act) in ACTS {
        rounds(format!("{name} by two threads in a pool of two"), move |w| {
            let pool = pool(2);
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| pool.install(|| act(w)));
                }
            });
        });
    }
}

#[test]
fn items_of_a_parallel_iterator() {
    for (name, act) in ACTS {
        rounds(format!("{name} by three items on three threads"), move |w| {
            pool(3).install(|| (0..3).into_par_iter().for_each(|_| act(w)));
        });
    }
}

/// Different calls at a time, which have different cells and locks to fill and to hold.
#[test]
fn all_at_once() {
    rounds("all of them in a pool of two".into(), |w| {
        pool(2).install(|| ACTS.par_iter().for_each(|(_, act)| act(w)));
    });
}
