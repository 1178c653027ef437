//! What a call by candle costs beside the call of lutmul that it makes: one token, one thread, in turns.
//!
//! `cargo run --release -p lutmul-candle --example overhead`

use std::time::Instant;

use candle_core::{Device, Result, Tensor};
use candle_nn::Module;
use lutmul::{Context, Format, Granularity, Mode, Threads, Weights};
use lutmul_candle::LutLinear;

fn main() -> Result<()> {
    println!("one token, one thread, a16: µs, best and median of {TURNS} turns");
    for (n, k) in [(64, 64), (3072, 3072)] {
        let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect();
        let x: Vec<f32> = (0..k).map(|i| (i as f32 * 0.11).cos()).collect();
        let weights = Weights::encode(&w, (n, k), &Format::QinsLinear, Granularity::Row);
        let weights = weights.map_err(candle_core::Error::wrap)?;
        let mut context = Context::new().with_mode(Mode::A16).with_threads(Threads::One);
        let layer = LutLinear::new(weights).with_options(context.options);
        let (tensor, mut y) = (Tensor::from_slice(&x, (1, k), &Device::Cpu)?, vec![0f32; n]);

        let mut times = [const { Vec::new() }; 2];
        for _ in 0..TURNS {
            let start = Instant::now();
            let by_candle = layer.forward(&tensor)?;
            times[0].push(start.elapsed().as_secs_f64() * 1e6);
            let start = Instant::now();
            let done = layer.weights().matmul(&x, &mut y, &mut context);
            times[1].push(start.elapsed().as_secs_f64() * 1e6);
            done.map_err(candle_core::Error::wrap)?;
            assert_eq!(by_candle.flatten_all()?.to_vec1::<f32>()?, y, "the same bits");
        }
        times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
        let [candle, rust] = times.map(|times| (times[0], times[TURNS / 2]));
        println!(
            "{n}×{k}: candle {:.1} {:.1}, Rust {:.1} {:.1}, overhead {:.1} {:.1}",
            candle.0,
            candle.1,
            rust.0,
            rust.1,
            candle.0 - rust.0,
            candle.1 - rust.1
        );
    }
    Ok(())
}

const TURNS: usize = 501;
