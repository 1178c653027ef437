//! `Threads::One` means it: not even rayon's global pool is made. (Alone in this file, for it counts threads.)

#![cfg(target_os = "linux")]

use lutmul::{Context, Format, Granularity, Kernel, MatMut, MatRef, Options, Threads, Weights};

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("a list of threads").count()
}

#[test]
fn one_thread_is_one_thread() {
    let before = threads();
    Threads::One.install(|| {
        let (m, n, k) = (20, 700, 300);
        let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect();
        // A format whose table has NaN, so that there is a scan, and one that is fitted.
        for format in [Format::E4m3, Format::KMeans] {
            let weights = Weights::encode(&w, (n, k), &format, Granularity::Row).expect("weights");
            weights.error_report(&w).expect("a report");
            weights.decode(&mut vec![0f32; n * k]).expect("decoded");
            let (x, mut y) = (vec![0.5f32; m * k], vec![0f32; m * n]);
            let options = Options::new().with_kernel(Kernel::best());
            assert_eq!(options.threads, Threads::One);
            let (x, y) =
                (MatRef::new(&x, (m, k)).expect("x"), MatMut::new(&mut y, (m, n)).expect("y"));
            weights.matmul(x, y, &mut Context::from(options)).expect("a product");
        }
    });
    assert_eq!(threads(), before);
}
