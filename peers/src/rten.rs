//! rten-gemm: u8 activations times i8 weights that were packed beforehand.

use anyhow::{Result, ensure};
use lutmul::{Format, Granularity, Weights};
use lutmul_cli::measure::{About, Dims, Encoded, Peer, Product, Room, Size, Team};
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix, QuantParams};
use rten_tensor::NdTensorView;

type Gemm = GemmExecutor<u8, i8, i32>;

/// Products of u8 and i8 in i32. What is timed neither quantises x nor scales y, unlike lutmul's and
/// candle's.
pub struct U8I8;

/// The u8 that stands for 0 in activations of 8 bits, and of 7: all that kernels take which add pairs of
/// products in 16 bits (AVX2). Of 8 bits these would saturate: 2 · 255 · 128 is beyond i16, 2 · 127 · 128 is not.
const ZERO_OF_8: u8 = 128;
const ZERO_OF_7: u8 = 64;

impl Peer for U8I8 {
    fn name(&self) -> &'static str {
        "rten-u8i8"
    }

    fn encode(&self, w: &[f32], Dims { n, k }: Dims) -> Result<Box<dyn Encoded>> {
        // Beyond, sums of 255 · 128 overflow an i32.
        ensure!(k <= 1 << 16, "{k} columns, of at most 65536");
        let w = Weights::encode(w, (n, k), &Format::Int8, Granularity::Row)?;
        let codes: Vec<i8> = w.codes().iter().map(|code| *code as i8).collect();
        let gemm = Gemm::new();
        let packed = gemm.prepack_b(NdTensorView::from_data([n, k], &codes[..]).transposed());
        Ok(Box::new(Packed { gemm, packed, w }))
    }
}

struct Packed {
    gemm: Gemm,
    packed: PackedBMatrix<i8>,
    w: Weights<'static>,
}

impl Packed {
    fn zero(&self) -> u8 {
        if self.gemm.may_saturate() { ZERO_OF_7 } else { ZERO_OF_8 }
    }
}

impl Encoded for Packed {
    fn about(&self) -> About {
        // The kernel for AVX-512 has one name with and without VNNI; without, sums of pairs saturate.
        let name = self.gemm.kernel_name();
        let vnni = name.ends_with("avx512") && !self.gemm.may_saturate();
        let kernel = format!("{name}{}", if vnni { "-vnni" } else { "" });
        let mode = if self.zero() == ZERO_OF_7 { "u7" } else { "u8" };
        About { format: "int8", scales: "row", mode, kernel: Some(kernel) }
    }

    fn bytes(&self) -> usize {
        self.w.codes().len()
    }

    fn decode(&self) -> Result<Vec<f32>> {
        let mut decoded = vec![0.0; self.w.codes().len()];
        self.w.decode(&mut decoded)?;
        Ok(decoded)
    }

    fn product<'a>(&'a self, x: &'a [f32], _: &'a Team) -> Result<Option<Box<dyn Product + 'a>>> {
        let (k, zero) = (self.w.k(), self.zero());
        let limit = f32::from(zero - 1);
        let (mut tokens, mut steps) = (Vec::with_capacity(x.len()), Vec::new());
        for x in x.chunks_exact(k) {
            let step = x.iter().fold(0f32, |max, x| max.max(x.abs())) / limit;
            let quantise = |x: &f32| ((x / step).round_ties_even() as i8 as u8).wrapping_add(zero);
            tokens.extend(x.iter().map(quantise));
            steps.push(step);
        }
        let zeros = vec![zero; steps.len()];
        // Nothing that could be taken for a result, and memory that is there when time runs.
        let sums = vec![i32::MIN; steps.len() * self.w.n()];
        Ok(Some(Box::new(Timed { weights: self, tokens, steps, zeros, sums })))
    }
}

struct Timed<'a> {
    weights: &'a Packed,
    /// x, and of each token what 1 stands for.
    tokens: Vec<u8>,
    steps: Vec<f32>,
    zeros: Vec<u8>,
    sums: Vec<i32>,
}

impl Product for Timed<'_> {
    fn size(&self) -> Size {
        Size { m: self.steps.len(), n: self.weights.w.n(), k: self.weights.w.k() }
    }

    fn multiply(&mut self, _: &mut Room) -> Result<()> {
        let Size { m, k, .. } = self.size();
        let x = GemmInputA::Unpacked(NdTensorView::from_data([m, k], &self.tokens[..]));
        let w = GemmInputB::Packed(&self.weights.packed);
        let a_quant = Some(QuantParams { zero_point: &self.zeros[..] });
        let options = GemmOptions { a_quant, ..GemmOptions::default() };
        Ok(self.weights.gemm.gemm(&mut self.sums, x, w, options)?)
    }

    fn output(&self, _: &Room) -> Result<Vec<f32>> {
        let scales = self.weights.w.scales().values();
        let tokens = self.sums.chunks_exact(scales.len()).zip(&self.steps);
        let scaled = tokens.flat_map(|(sums, step)| {
            sums.iter().zip(scales).map(move |(sum, scale)| *sum as f32 * step * scale)
        });
        Ok(scaled.collect())
    }
}
