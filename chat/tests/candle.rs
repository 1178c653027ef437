//! The decoder beside candle's own Llama and Phi-3, with the same weights.

mod common;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, phi3};
use lutmul::{Context, Format, Granularity};
use lutmul_chat::linear::{Coding, Float};
use serde_json::{Value, json};

/// Tokens of the prompt, and after it one by one.
const PROMPT: usize = 21;
const MORE: usize = 4;

/// Two computations in f32 of the same logits differ by their roundings: some hundred in each path through two layers,
/// 2⁻²⁴ each at most, relative to states whose sums have at most a few times the size of the result.
const TOLERANCE: f32 = 3e-5;

fn variables(folder: &Path) -> VarBuilder<'static> {
    let tensors = candle_core::safetensors::load(folder.join("model.safetensors"), &Device::Cpu);
    VarBuilder::from_tensors(tensors.expect("tensors"), DType::F32, &Device::Cpu)
}

/// Logits after the prompt, and after each token that follows it.
fn each(mut forward: impl FnMut(&Tensor, usize) -> candle_core::Result<Tensor>) -> Vec<Vec<f32>> {
    let tokens = common::prompt(PROMPT + MORE);
    let parts = std::iter::once(0..PROMPT).chain((PROMPT..PROMPT + MORE).map(|i| i..i + 1));
    parts
        .map(|part| {
            let input = Tensor::new(&tokens[part.clone()], &Device::Cpu)?.unsqueeze(0)?;
            forward(&input, part.start)?.flatten_all()?.to_vec1()
        })
        .collect::<candle_core::Result<_>>()
        .expect("candle's logits")
}

/// Ours: by candle's product, and by lutmul's with codes that hold the weights exactly.
fn check(folder: &Path, expected: &[Vec<f32>]) {
    let exact = Coding::All(Format::Int8, Granularity::Row);
    for coding in [Coding::Baseline(Float::F32), exact] {
        let model = common::load(folder, &coding);
        let logits = common::logits(&model, &common::prompt(PROMPT + MORE), PROMPT, Context::new());
        let rows: Vec<&[f32]> = logits.chunks(common::VOCABULARY).collect();
        let largest = expected.concat().iter().fold(0f32, |max, logit| max.max(logit.abs()));
        assert!(largest > 0.5, "logits that say something: {largest}");
        for (i, expected) in expected.iter().enumerate() {
            for (ours, candle) in rows[PROMPT - 1 + i].iter().zip(expected) {
                let error = (ours - candle).abs() / largest;
                assert!(error < TOLERANCE, "{coding:?}, token {i}: {ours}, candle {candle}");
            }
        }
    }
}

fn phi3_config(config: &Value) -> phi3::Config {
    serde_json::from_value(config.clone()).expect("a config of candle's")
}

#[test]
fn phi3_gives_candle_s_logits() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = common::config("Phi3ForCausalLM");
    common::write(folder.path(), &config, &common::tensors(true));
    let mut model =
        phi3::Model::new(&phi3_config(&config), variables(folder.path())).expect("candle's model");
    check(folder.path(), &each(|tokens, at| model.forward(tokens, at)));
}

/// Some elements of a head are rotated only, and each frequency has a factor. candle 0.11 multiplies by what transformers
/// divides by, and leaves the factor of attention out: it gets reciprocals, and we that factor as 1.
#[test]
fn phi3_with_longrope_gives_candle_s_logits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = common::config("Phi3ForCausalLM");
    config["partial_rotary_factor"] = json!(0.5);
    config["original_max_position_embeddings"] = json!(64);
    let factors = [1.0, 2.0, 4.0, 8.0];
    let scaling =
        |short: [f64; 4]| json!({"type": "longrope", "short_factor": short, "long_factor": short});
    config["rope_scaling"] = scaling(factors);
    config["rope_scaling"]["attention_factor"] = json!(1.0);
    common::write(folder.path(), &config, &common::tensors(true));
    config["rope_scaling"] = scaling(factors.map(|factor| 1.0 / factor));
    let mut model =
        phi3::Model::new(&phi3_config(&config), variables(folder.path())).expect("candle's model");
    check(folder.path(), &each(|tokens, at| model.forward(tokens, at)));
}

#[test]
fn llama_gives_candle_s_logits() {
    for (scaled, tied) in [(false, false), (true, true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = common::config("LlamaForCausalLM");
        config["tie_word_embeddings"] = tied.into();
        let mut tensors = common::tensors(false);
        if tied {
            tensors.remove("lm_head.weight");
        }
        if scaled {
            config["rope_scaling"] = json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            });
        }
        common::write(folder.path(), &config, &tensors);
        let json: llama::LlamaConfig =
            serde_json::from_value(config).expect("a config of candle's");
        let config = json.into_config(false);
        let model = llama::Llama::load(variables(folder.path()), &config).expect("candle's model");
        let mut cache =
            llama::Cache::new(true, DType::F32, &config, &Device::Cpu).expect("a cache");
        check(folder.path(), &each(|tokens, at| model.forward(tokens, at, &mut cache)));
    }
}
