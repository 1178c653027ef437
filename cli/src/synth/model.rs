//! Which tensors a model has: names, shapes, and how its weights are spread.

use serde_json::Value;

/// A tensor to be made up.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub spread: Spread,
}

/// How a tensor's values are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Spread {
    /// Around 0, with this standard deviation.
    Weights(f32),
    /// Around this, as the weights of norms are.
    Norm(f32),
}

impl Tensor {
    /// Its bytes in bf16.
    pub fn bytes(&self) -> usize {
        2 * self.shape.iter().product::<usize>()
    }
}

/// The config.json of Phi-3.5-mini.
pub const PHI_3_5_MINI: &str = include_str!("phi-3.5-mini.json");

/// The tensors of a Phi-3 model of this config, in the order in which its shards have them.
pub fn phi3(config: &Value) -> Vec<Tensor> {
    let size = |key: &str| config[key].as_u64().expect("configs are our own") as usize;
    let (hidden, inner) = (size("hidden_size"), size("intermediate_size"));
    let head = hidden / size("num_attention_heads");
    let qkv = hidden + 2 * head * size("num_key_value_heads");
    let vocabulary = size("vocab_size");
    let tensor = |name: &str, shape: &[usize], spread| Tensor {
        name: format!("{name}.weight"),
        shape: shape.into(),
        spread,
    };
    let mut tensors =
        vec![tensor("model.embed_tokens", &[vocabulary, hidden], Spread::Weights(0.04))];
    for layer in 0..size("num_hidden_layers") {
        let parts = [
            ("self_attn.o_proj", vec![hidden, hidden], Spread::Weights(0.03)),
            ("self_attn.qkv_proj", vec![qkv, hidden], Spread::Weights(0.035)),
            ("mlp.gate_up_proj", vec![2 * inner, hidden], Spread::Weights(0.03)),
            ("mlp.down_proj", vec![hidden, inner], Spread::Weights(0.025)),
            ("input_layernorm", vec![hidden], Spread::Norm(0.6)),
            ("post_attention_layernorm", vec![hidden], Spread::Norm(0.8)),
        ];
        tensors.extend(parts.map(|(name, shape, spread)| {
            tensor(&format!("model.layers.{layer}.{name}"), &shape, spread)
        }));
    }
    tensors.push(tensor("model.norm", &[hidden], Spread::Norm(4.0)));
    tensors.push(tensor("lm_head", &[vocabulary, hidden], Spread::Weights(0.02)));
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phi_3_5_mini_has_as_many_weights_as_the_real_one() {
        let config: Value = serde_json::from_str(PHI_3_5_MINI).unwrap();
        let tensors = phi3(&config);
        assert_eq!(tensors.iter().map(Tensor::bytes).sum::<usize>(), 2 * 3_821_079_552);
        assert_eq!(tensors.len(), 32 * 6 + 3);
        let find = |name: &str| &tensors.iter().find(|t| t.name == name).unwrap().shape;
        assert_eq!(*find("model.layers.31.self_attn.qkv_proj.weight"), [9216, 3072]);
        assert_eq!(*find("model.layers.0.mlp.down_proj.weight"), [3072, 8192]);
        let factors = &config["rope_scaling"];
        for list in ["long_factor", "short_factor"] {
            assert_eq!(factors[list].as_array().unwrap().len(), 3072 / 32 / 2);
        }
    }
}
