//! What a model is: its sizes, as config.json or a GGUF file's metadata has them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use lutmul::checkpoint::GgufFile;
use lutmul::checkpoint::show::quoted;
use serde::Deserialize;
use serde_json::Value;

/// Whose names the tensors have, and which of them are fused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `LlamaForCausalLM`: q, k, v, gate and up are matrices of their own.
    Llama,
    /// `Phi3ForCausalLM`: `qkv_proj` and `gate_up_proj`.
    Phi3,
}

/// The sizes of a decoder.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Whose model it is.
    pub architecture: Architecture,
    /// Tokens that there are: rows of the embedding and of the head.
    pub vocabulary: usize,
    /// Elements of a token's state.
    pub hidden: usize,
    /// Rows of gate and of up.
    pub intermediate: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, each of which `heads / kv_heads` heads of queries share.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// What is added to the mean square in RMSNorm.
    pub norm_eps: f32,
    /// Rotary embedding.
    pub rope: Rope,
    /// The most tokens that the model was made for.
    pub context: usize,
    /// The number of tokens that a query sees at most, itself included, if not all.
    pub window: Option<usize>,
    /// Whether the embedding is the head as well.
    pub tied: bool,
    /// Tokens that end an answer.
    pub ends: Vec<u32>,
}

/// Rotary embedding: the first `dim` elements of a head are rotated, element i with element `i + dim/2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies.
    pub theta: f64,
    /// Elements of a head that are rotated.
    pub dim: usize,
    /// How frequencies are changed for longer contexts.
    pub scaling: Scaling,
}

/// How frequencies are changed for longer contexts than a model was first trained with.
#[derive(Clone, Debug, PartialEq)]
pub enum Scaling {
    /// Not at all.
    None,
    /// Divided by a factor.
    Linear(f64),
    /// Llama 3.1's: low frequencies divided, high ones kept, smoothly between.
    Llama3 {
        /// What low frequencies are divided by.
        factor: f64,
        /// Wavelengths above `original / low` are low.
        low: f64,
        /// Wavelengths below `original / high` are high.
        high: f64,
        /// The first context.
        original: f64,
    },
    /// Phi-3's: each frequency is divided by a factor of its own.
    LongRope {
        /// Factors in a context of up to `original` tokens.
        short: Vec<f64>,
        /// Factors in a longer one.
        long: Vec<f64>,
        /// The first context.
        original: usize,
        /// What cosines and sines are multiplied by.
        attention: f64,
    },
}

/// config.json, as far as it matters here.
#[derive(Deserialize)]
struct Json {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    hidden_act: Option<String>,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    /// What transformers 5 writes in place of the two above.
    rope_parameters: Option<Value>,
    partial_rotary_factor: Option<f64>,
    max_position_embeddings: usize,
    original_max_position_embeddings: Option<usize>,
    sliding_window: Option<usize>,
    tie_word_embeddings: Option<bool>,
    eos_token_id: Option<Value>,
}

impl ModelConfig {
    /// Reads config.json of a folder, and generation_config.json beside it, if there is one.
    ///
    /// # Errors
    /// A file that is missing or not sound, an architecture that is neither Llama's nor Phi-3's, and sizes that do not
    /// fit each other.
    pub fn of_folder(folder: &Path) -> Result<Self> {
        let path = folder.join("config.json");
        let place = || path.display().to_string();
        let text = fs::read_to_string(&path).with_context(place)?;
        let mut config = Self::of_json(&text).with_context(place)?;
        let path = folder.join("generation_config.json");
        let place = || path.display().to_string();
        if path.is_file() {
            let text = fs::read_to_string(&path).with_context(place)?;
            let json: Value = serde_json::from_str(&text).with_context(place)?;
            let ends = tokens(json.get("eos_token_id")).with_context(place)?;
            config.ends.extend(ends);
            config.ends.sort_unstable();
            config.ends.dedup();
        }
        Ok(config)
    }

    /// Reads the text of a config.json.
    ///
    /// # Errors
    /// As of [`ModelConfig::of_folder`].
    pub fn of_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        // Said first: of another architecture other things may be missing.
        let names = value.get("architectures").and_then(Value::as_array);
        let name = names.and_then(|names| names.first()).and_then(Value::as_str);
        let architecture = match name {
            Some("LlamaForCausalLM") => Architecture::Llama,
            Some("Phi3ForCausalLM") => Architecture::Phi3,
            Some(other) => bail!(
                "the architecture {} is none of LlamaForCausalLM, Phi3ForCausalLM",
                quoted(other)
            ),
            None => bail!("names no architecture"),
        };
        let json: Json = serde_json::from_value(value)?;
        if let Some(act) = &json.hidden_act {
            ensure!(act == "silu", "hidden_act is {}, not silu", quoted(act));
        }
        let heads = json.num_attention_heads;
        ensure!(heads > 0, "num_attention_heads is 0");
        let head_dim = json.head_dim.unwrap_or(json.hidden_size / heads);
        let parameters = json.rope_parameters.as_ref();
        let inner = |key: &str| parameters.and_then(|p| p.get(key)).and_then(Value::as_f64);
        let theta = json.rope_theta.or_else(|| inner("rope_theta")).unwrap_or(1e4);
        let share = json.partial_rotary_factor.or_else(|| inner("partial_rotary_factor"));
        let dim = (share.unwrap_or(1.0) * head_dim as f64) as usize;
        let scaling = json.rope_scaling.as_ref().or(parameters);
        let original = json.original_max_position_embeddings;
        let context = json.max_position_embeddings;
        let scaling = Scaling::of_json(scaling, original, context).context("rope_scaling")?;
        let config = Self {
            architecture,
            vocabulary: json.vocab_size,
            hidden: json.hidden_size,
            intermediate: json.intermediate_size,
            layers: json.num_hidden_layers,
            heads,
            kv_heads: json.num_key_value_heads.unwrap_or(heads),
            head_dim,
            norm_eps: json.rms_norm_eps as f32,
            rope: Rope { theta, dim, scaling },
            context,
            window: json.sliding_window.filter(|_| architecture == Architecture::Phi3),
            tied: json.tie_word_embeddings.unwrap_or(false),
            ends: tokens(json.eos_token_id.as_ref()).context("eos_token_id")?,
        };
        config.check()?;
        Ok(config)
    }

    /// Reads the metadata of a GGUF file.
    ///
    /// # Errors
    /// An architecture other than Llama's, numbers that are missing, and sizes that do not fit each other.
    pub fn of_gguf(file: &GgufFile) -> Result<Self> {
        match file.text("general.architecture") {
            Some("llama") => {}
            Some(other) => bail!("the architecture {} of a GGUF file is not llama", quoted(other)),
            None => bail!("the metadata names no architecture"),
        }
        let number = |key: &str| file.number(&format!("llama.{key}"));
        let size = |key: &str| {
            let value = number(key).with_context(|| format!("the metadata has no llama.{key}"))?;
            ensure!((0.0..1e9).contains(&value), "llama.{key} is {value}");
            Ok(value as usize)
        };
        ensure!(number("expert_count").unwrap_or(0.0) == 0.0, "a model of experts is not read");
        let (hidden, heads) = (size("embedding_length")?, size("attention.head_count")?);
        ensure!(heads > 0, "llama.attention.head_count is 0");
        let head_dim = number("attention.key_length").map_or(hidden / heads, |n| n as usize);
        let tokens = file.tensor("token_embd.weight").map(|tensor| tensor.shape[0]);
        let scaling = match file.text("llama.rope.scaling.type") {
            None | Some("none") => Scaling::None,
            Some("linear") => {
                let factor = number("rope.scaling.factor");
                Scaling::Linear(factor.context("the metadata has no llama.rope.scaling.factor")?)
            }
            Some(other) => bail!("llama.rope.scaling.type {} is not known", quoted(other)),
        };
        ensure!(file.tensor("rope_freqs.weight").is_none(), "rope_freqs.weight is not read");
        let end = |key: &str| file.number(&format!("tokenizer.ggml.{key}_token_id"));
        let config = Self {
            architecture: Architecture::Llama,
            vocabulary: tokens.context("tensor token_embd.weight is missing")?,
            hidden,
            intermediate: size("feed_forward_length")?,
            layers: size("block_count")?,
            heads,
            kv_heads: number("attention.head_count_kv").map_or(heads, |n| n as usize),
            head_dim,
            norm_eps: number("attention.layer_norm_rms_epsilon")
                .context("the metadata has no llama.attention.layer_norm_rms_epsilon")?
                as f32,
            rope: Rope {
                theta: number("rope.freq_base").unwrap_or(1e4),
                dim: number("rope.dimension_count").map_or(head_dim, |n| n as usize),
                scaling,
            },
            context: size("context_length")?,
            window: None,
            tied: file.tensor("output.weight").is_none(),
            ends: ["eos", "eot"].into_iter().filter_map(end).map(|id| id as u32).collect(),
        };
        config.check()?;
        Ok(config)
    }

    /// Whether sizes fit each other.
    fn check(&self) -> Result<()> {
        let Self { heads, kv_heads, head_dim, hidden, intermediate, layers, .. } = *self;
        let sizes =
            [hidden, intermediate, layers, kv_heads, head_dim, self.vocabulary, self.context];
        ensure!(
            sizes.iter().all(|size| (1..1 << 30).contains(size)),
            "a size is 0 or beyond all reason"
        );
        ensure!(
            heads.is_multiple_of(kv_heads),
            "{heads} heads of queries are no multiple of {kv_heads} heads of keys"
        );
        let dim = self.rope.dim;
        ensure!(
            dim.is_multiple_of(2) && dim <= head_dim,
            "{dim} elements of a head of {head_dim} cannot be rotated in pairs"
        );
        if let Scaling::LongRope { short, long, .. } = &self.rope.scaling {
            let (short, long, pairs) = (short.len(), long.len(), dim / 2);
            ensure!(
                short == pairs && long == pairs,
                "rope_scaling has {short} short and {long} long factors for {pairs} pairs"
            );
        }
        Ok(())
    }

    /// The context that a session has unless more is asked for: all, or as much as frequencies were first made for.
    pub fn usual_context(&self) -> usize {
        match self.rope.scaling {
            Scaling::LongRope { original, .. } => original.min(self.context),
            _ => self.context,
        }
    }
}

impl Scaling {
    fn of_json(json: Option<&Value>, original: Option<usize>, context: usize) -> Result<Self> {
        let Some(json) = json.filter(|json| !json.is_null()) else { return Ok(Self::None) };
        let kind = json.get("rope_type").or_else(|| json.get("type")).and_then(Value::as_str);
        let number = |key: &str| {
            json.get(key).and_then(Value::as_f64).with_context(|| format!("has no number {key}"))
        };
        let list = |key: &str| -> Result<Vec<f64>> {
            let values = json.get(key).and_then(Value::as_array);
            let values = values.and_then(|list| list.iter().map(Value::as_f64).collect());
            values.with_context(|| format!("has no numbers {key}"))
        };
        Ok(match kind.unwrap_or("default") {
            "default" => Self::None,
            "linear" => Self::Linear(number("factor")?),
            "llama3" => Self::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original: number("original_max_position_embeddings")?,
            },
            // "su" was its first name.
            "longrope" | "su" => {
                let inner = json.get("original_max_position_embeddings").and_then(Value::as_u64);
                let original = original.or(inner.map(|n| n as usize)).unwrap_or(context).max(2);
                // transformers' `_compute_longrope_parameters`.
                let ratio = context as f64 / original as f64;
                let usual = if ratio <= 1.0 {
                    1.0
                } else {
                    libm::sqrt(1.0 + libm::log(ratio) / libm::log(original as f64))
                };
                let attention = json.get("attention_factor").and_then(Value::as_f64);
                let attention = attention.unwrap_or(usual);
                let (short, long) = (list("short_factor")?, list("long_factor")?);
                Self::LongRope { short, long, original, attention }
            }
            other => bail!("{} is none of default, linear, llama3, longrope", quoted(other)),
        })
    }
}

impl Rope {
    /// The angle of each pair from one token to the next, and what cosines and sines are multiplied by, in a context of
    /// so many tokens.
    ///
    /// As llama.cpp does, and other than transformers, short or long factors are chosen once, by the context: a
    /// prompt's keys stay what they are when the conversation grows.
    pub fn frequencies(&self, context: usize) -> (Vec<f64>, f64) {
        let plain =
            (0..self.dim / 2).map(|i| libm::pow(self.theta, -2.0 * i as f64 / self.dim as f64));
        match &self.scaling {
            Scaling::None => (plain.collect(), 1.0),
            Scaling::Linear(factor) => (plain.map(|f| f / factor).collect(), 1.0),
            Scaling::Llama3 { factor, low, high, original } => {
                let scaled = plain.map(|f| {
                    let wavelength = 2.0 * std::f64::consts::PI / f;
                    let smooth = (original / wavelength - low) / (high - low);
                    let smooth = smooth.clamp(0.0, 1.0);
                    (1.0 - smooth) * f / factor + smooth * f
                });
                (scaled.collect(), 1.0)
            }
            Scaling::LongRope { short, long, original, attention } => {
                let factors = if context > *original { long } else { short };
                (plain.zip(factors).map(|(f, factor)| f / factor).collect(), *attention)
            }
        }
    }
}

/// A token or a list of them.
fn tokens(json: Option<&Value>) -> Result<Vec<u32>> {
    let token = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let tokens = match json {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(token).collect(),
        Some(one) => token(one).map(|id| vec![id]),
    };
    tokens.context("is neither a token nor a list of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> String {
        format!(
            r#"{{"architectures": ["LlamaForCausalLM"], "vocab_size": 10, "hidden_size": 8, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 64,
            "eos_token_id": [1, 2]{more}}}"#
        )
    }

    #[test]
    fn defaults_and_refusals() {
        let model = ModelConfig::of_json(&config("")).unwrap();
        assert_eq!((model.kv_heads, model.head_dim, model.rope.dim), (2, 4, 4));
        assert_eq!((model.ends, model.tied), (vec![1, 2], false));
        let error = |text: &str| format!("{:#}", ModelConfig::of_json(text).unwrap_err());
        assert_eq!(
            error(r#"{"architectures": ["MambaForCausalLM"]}"#),
            "the architecture \"MambaForCausalLM\" is none of LlamaForCausalLM, Phi3ForCausalLM"
        );
        assert_eq!(error("{}"), "names no architecture");
        assert!(error(&config(r#", "hidden_act": "gelu""#)).contains("not silu"));
        assert!(error(&config(r#", "num_key_value_heads": 3"#)).contains("no multiple"));
        let yarn = r#", "rope_scaling": {"rope_type": "yarn"}"#;
        assert!(error(&config(yarn)).contains("\"yarn\" is none of"), "{}", error(&config(yarn)));
        let short =
            r#", "rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [1]}"#;
        assert!(error(&config(short)).contains("1 short and 1 long factors for 2 pairs"));
    }

    #[test]
    fn long_contexts_have_factors_of_their_own() {
        let more = r#", "original_max_position_embeddings": 16,
            "rope_scaling": {"type": "longrope", "short_factor": [1, 2], "long_factor": [4, 8]}"#;
        let rope = ModelConfig::of_json(&config(more)).unwrap().rope;
        let (short, attention) = rope.frequencies(16);
        assert_eq!(short, [1.0, 0.005]);
        assert!((attention - f64::sqrt(1.0 + 4f64.ln() / 16f64.ln())).abs() < 1e-15);
        assert_eq!(rope.frequencies(17).0, [0.25, 0.00125]);
    }
}
