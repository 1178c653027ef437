//! Encode a layer, multiply by it, compare with f32: `cargo run --release --example quickstart`.

use lutmul::{Context, Format, Granularity, Weights};

fn main() -> lutmul::Result<()> {
    let (m, n, k) = (4, 1024, 768); // tokens, out features, in features
    let mut state = 1u32; // a little generator of noise in −1…1
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / (1u32 << 31) as f32 - 1.0
    };
    let w: Vec<f32> = (0..n * k).map(|_| 0.05 * noise()).collect();
    let x: Vec<f32> = (0..m * k).map(|_| noise()).collect();

    let weights = Weights::encode(&w, (n, k), &Format::QinsLinear, Granularity::Row)?;
    let mut y = vec![0f32; m * n];
    let mut context = Context::new(); // f32 sums, the best kernel of this CPU, all threads
    weights.matmul(&x, &mut y, &mut context)?;

    let (mut error, mut signal) = (0.0, 0.0);
    for (i, y) in y.iter().enumerate() {
        let (x, w) = (&x[i / n * k..][..k], &w[i % n * k..][..k]);
        let exact: f32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
        error += (y - exact).powi(2);
        signal += exact.powi(2);
    }
    println!("kernel: {}", context.options.kernel()?);
    println!("bytes: {} instead of {}", weights.bytes(), 4 * w.len());
    println!("error of the weights: {:.1} dB", weights.error_report(&w)?.sqnr_db);
    println!("relative error of the products: {:.1e}", (error / signal).sqrt());
    Ok(())
}
