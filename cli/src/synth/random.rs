//! Made-up weights: bell-shaped, with rows and groups of different sizes, so that a few are far from the others as in
//! trained models. Each row has a generator of its own, seeded by tensor and row: neither threads nor what else is
//! made change a bit.

use half::bf16;
use half::slice::HalfFloatSliceExt;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;
use rayon::prelude::*;

use super::model::{Spread, Tensor};

/// How rows, and the groups of a row, differ: the standard deviation of the logarithm of their size.
const ROWS: f32 = 0.25;
const GROUPS: f32 = 0.2;
const GROUP: usize = 64;
/// Norms differ so much.
const NORMS: f32 = 0.15;

/// A tensor as bf16, little-endian; `progress` is told of bytes made.
pub fn tensor(tensor: &Tensor, seed: u64, progress: &(dyn Fn(usize) + Sync)) -> Vec<u8> {
    /// Rows of a task are about as many weights.
    const TASK: usize = 1 << 18;
    let k = tensor.shape.last().copied().unwrap_or(1).max(1);
    let key = seed ^ fnv(tensor.name.as_bytes());
    let rows = (TASK / k).max(1);
    let mut bytes = vec![0; tensor.bytes()];
    bytes.par_chunks_mut(2 * k * rows).enumerate().for_each(|(task, bytes)| {
        let (mut values, mut halves) = (vec![0f32; k], vec![bf16::ZERO; k]);
        for (i, bytes) in bytes.chunks_mut(2 * k).enumerate() {
            row(tensor.spread, key, (task * rows + i) as u64, &mut values);
            halves.convert_from_f32_slice(&values);
            let halves = bytes.as_chunks_mut().0.iter_mut().zip(&halves);
            halves.for_each(|(bytes, half)| *bytes = half.to_le_bytes());
        }
        progress(bytes.len());
    });
    bytes
}

fn row(spread: Spread, key: u64, row: u64, values: &mut [f32]) {
    // Not the step of splitmix64, by which a seed becomes a state: rows would share words of theirs.
    let seed = key ^ row.wrapping_add(1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut normal = || -> f32 { rng.sample(StandardNormal) };
    match spread {
        Spread::Norm(mean) => {
            values.iter_mut().for_each(|v| *v = mean * (NORMS * normal()).exp());
        }
        Spread::Weights(deviation) => {
            let size = deviation * (ROWS * normal()).exp();
            for group in values.chunks_mut(GROUP) {
                let size = size * (GROUPS * normal()).exp();
                group.iter_mut().for_each(|v| *v = size * normal());
            }
        }
    }
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3)
    })
}
