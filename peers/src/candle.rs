//! candle: `QMatMul` with weights in Q8_0.

use std::sync::Arc;

use anyhow::{Context, Result};
use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::utils::barrier_pool;
use candle_core::{Device, Module, Tensor};
use lutmul_cli::measure::{About, Dims, Encoded, Peer, Product, Room, Size, Team};

/// The peer's name.
pub const NAME: &str = "candle-q8-0";

/// The environment variable that candle reads its number of threads from, when it first needs them.
pub const THREADS: &str = "CANDLE_NUM_THREADS";

/// Products of f32 activations, which candle quantises, and weights of 8 bits in groups of 32.
pub struct Q8_0;

impl Peer for Q8_0 {
    fn name(&self) -> &'static str {
        NAME
    }

    fn encode(&self, w: &[f32], Dims { n, k }: Dims) -> Result<Box<dyn Encoded>> {
        let w = Tensor::from_slice(w, (n, k), &Device::Cpu)?;
        let w = Arc::new(QTensor::quantize(&w, GgmlDType::Q8_0)?);
        let matmul = QMatMul::from_arc(Arc::clone(&w))?;
        // The first product packs the weights, which is not to be timed.
        matmul.forward(&Tensor::from_slice(&vec![0f32; k], (1, k), &Device::Cpu)?)?;
        Ok(Box::new(Quantized { w, matmul, dims: Dims { n, k } }))
    }
}

struct Quantized {
    w: Arc<QTensor>,
    matmul: QMatMul,
    dims: Dims,
}

impl Encoded for Quantized {
    fn about(&self) -> About {
        About { format: "q8_0", scales: "group:32", mode: "i8", kernel: None }
    }

    fn bytes(&self) -> usize {
        self.w.storage_size_in_bytes()
    }

    fn decode(&self) -> Result<Vec<f32>> {
        Ok(self.w.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1()?)
    }

    fn product<'a>(
        &'a self,
        x: &'a [f32],
        team: &'a Team,
    ) -> Result<Option<Box<dyn Product + 'a>>> {
        // candle has threads of its own, as many as it began with: the others and the calling one.
        if barrier_pool().n_workers() + 1 != team.threads() {
            return Ok(None);
        }
        let Dims { n, k } = self.dims;
        let size = Size { m: x.len() / k, n, k };
        let x = Tensor::from_slice(x, (size.m, k), &Device::Cpu)?;
        Ok(Some(Box::new(Timed { matmul: &self.matmul, x, size, y: None })))
    }
}

struct Timed<'a> {
    matmul: &'a QMatMul,
    x: Tensor,
    size: Size,
    y: Option<Tensor>,
}

impl Product for Timed<'_> {
    fn size(&self) -> Size {
        self.size
    }

    fn multiply(&mut self, _: &mut Room) -> Result<()> {
        // Freed first, so that memory is reused, as a model's is.
        self.y = None;
        self.y = Some(self.matmul.forward(&self.x)?);
        Ok(())
    }

    fn output(&self, _: &Room) -> Result<Vec<f32>> {
        let y = self.y.as_ref().context("nothing was multiplied yet")?;
        Ok(y.flatten_all()?.to_vec1()?)
    }
}
