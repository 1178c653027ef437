//! A BERT, small enough to read: all its linears are modules of whoever makes it.

use candle_core::{D, Device, IndexOp, Result, Tensor};
use candle_nn::{LayerNorm, Linear, Module, ops};
use lutmul_candle::{Loader, LutLinear};

/// Which layers a model is made of.
#[derive(Clone, Copy, PartialEq)]
pub enum Layers {
    /// candle's own, of floats.
    Floats,
    /// lutmul's, as the loader makes them; query, key and value share x.
    Codes,
}

enum Layer {
    Floats(Linear),
    Codes(LutLinear),
}

impl Layer {
    fn new(loader: &Loader, name: &str, layers: Layers) -> Result<Self> {
        Ok(match layers {
            Layers::Codes => Self::Codes(loader.linear(name)?),
            Layers::Floats => {
                let bias = loader.tensor(&format!("{name}.bias"))?;
                Self::Floats(Linear::new(loader.tensor(&format!("{name}.weight"))?, Some(bias)))
            }
        })
    }

    fn all(layers: &[Self; 3], x: &Tensor) -> Result<Vec<Tensor>> {
        if let [Self::Codes(q), Self::Codes(k), Self::Codes(v)] = layers {
            return LutLinear::forward_all(&[q, k, v], x);
        }
        layers.iter().map(|layer| layer.forward(x)).collect()
    }
}

impl Module for Layer {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Floats(linear) => linear.forward(x),
            Self::Codes(linear) => linear.forward(x),
        }
    }
}

struct Block {
    qkv: [Layer; 3],
    attention: (Layer, LayerNorm),
    up: Layer,
    down: (Layer, LayerNorm),
}

pub struct Bert {
    words: Tensor,
    positions: Tensor,
    types: Tensor,
    norm: LayerNorm,
    blocks: Vec<Block>,
    heads: usize,
}

fn norm(loader: &Loader) -> Result<LayerNorm> {
    Ok(LayerNorm::new(loader.tensor("weight")?, loader.tensor("bias")?, 1e-12))
}

impl Bert {
    pub fn new(model: &Loader, heads: usize, layers: Layers) -> Result<Self> {
        let embeddings = model.pp("embeddings");
        let mut blocks = Vec::new();
        while model.contains(&format!("encoder.layer.{}.output.dense.bias", blocks.len())) {
            let block = model.pp(format!("encoder.layer.{}", blocks.len()));
            let attention = block.pp("attention");
            let own = attention.pp("self");
            blocks.push(Block {
                qkv: [
                    Layer::new(&own, "query", layers)?,
                    Layer::new(&own, "key", layers)?,
                    Layer::new(&own, "value", layers)?,
                ],
                attention: (
                    Layer::new(&attention, "output.dense", layers)?,
                    norm(&attention.pp("output.LayerNorm"))?,
                ),
                up: Layer::new(&block, "intermediate.dense", layers)?,
                down: (
                    Layer::new(&block, "output.dense", layers)?,
                    norm(&block.pp("output.LayerNorm"))?,
                ),
            });
        }
        assert!(!blocks.is_empty(), "a model without layers");
        Ok(Self {
            words: embeddings.tensor("word_embeddings.weight")?,
            positions: embeddings.tensor("position_embeddings.weight")?,
            types: embeddings.tensor("token_type_embeddings.weight")?,
            norm: norm(&embeddings.pp("LayerNorm"))?,
            blocks,
            heads,
        })
    }

    /// The embedding of a sentence: the mean of its tokens' last states, `[hidden]`.
    pub fn embed(&self, ids: &[u32]) -> Result<Tensor> {
        let count = ids.len();
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let x = self.words.index_select(&ids, 0)?;
        let x = (x + self.positions.narrow(0, 0, count)?)?.broadcast_add(&self.types.i(0)?)?;
        let mut x = self.norm.forward(&x)?;
        for block in &self.blocks {
            let split =
                |x: &Tensor| x.reshape((count, self.heads, ()))?.transpose(0, 1)?.contiguous();
            let qkv = Layer::all(&block.qkv, &x)?;
            let (q, k, v) = (split(&qkv[0])?, split(&qkv[1])?, split(&qkv[2])?);
            let scale = (q.dim(D::Minus1)? as f64).sqrt();
            let scores = (q.matmul(&k.t()?)? / scale)?;
            let mixed = ops::softmax_last_dim(&scores)?.matmul(&v)?;
            // Not contiguous: what the layer gets is a view.
            let mixed = mixed.transpose(0, 1)?.flatten_from(1)?;
            let (dense, norm) = &block.attention;
            x = norm.forward(&(dense.forward(&mixed)? + x)?)?;
            let (dense, norm) = &block.down;
            let wide = block.up.forward(&x)?.gelu_erf()?;
            x = norm.forward(&(dense.forward(&wide)? + x)?)?;
        }
        x.mean(0)
    }
}

/// The cosine of two vectors.
pub fn cosine(a: &Tensor, b: &Tensor) -> Result<f64> {
    let (a, b) = (a.to_vec1::<f32>()?, b.to_vec1::<f32>()?);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
    Ok(dot(&a, &b) / (dot(&a, &a) * dot(&b, &b)).sqrt())
}
