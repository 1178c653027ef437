//! The smallest use: `cargo run --release --example smallest`.

use lutmul::{Context, Format, Granularity, Weights};

fn main() -> lutmul::Result<()> {
    let (m, n, k) = (4, 1024, 768); // tokens, out features, in features
    let w: Vec<f32> = (0..n * k).map(|i| 0.05 * (i as f32 * 0.37).sin()).collect();
    let x: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.11).cos()).collect();

    let weights = Weights::encode(&w, (n, k), &Format::QinsLinear, Granularity::Row)?;
    let mut context = Context::new(); // mode f32, the best kernel of this CPU, all threads
    let mut y = vec![0f32; m * n];
    weights.matmul(&x, &mut y, &mut context)?;

    println!(
        "{} bytes instead of {}, by {}",
        weights.bytes(),
        4 * n * k,
        context.options.kernel()?
    );
    Ok(())
}
