//! Small models of random weights, as folders.

#![allow(dead_code, reason = "each test program takes some of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lutmul::Context;
use lutmul_chat::attention::Cache;
use lutmul_chat::linear::Coding;
use lutmul_chat::load::Files;
use lutmul_chat::model::{Model, Runner};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

/// Sizes of the small models.
pub const HIDDEN: usize = 64;
pub const INTERMEDIATE: usize = 96;
pub const VOCABULARY: usize = 320;
pub const LAYERS: usize = 2;
pub const HEADS: usize = 4;
pub const KV_HEADS: usize = 2;
pub const CONTEXT: usize = 1024;

/// Tensors by name: shape and values.
pub type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// A number from −1 to 1, another for each name and place.
fn random(name: &str, i: usize) -> f32 {
    let mut state =
        name.bytes().fold(1 + i as u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01B3));
    // SplitMix64's finish.
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((state ^ (state >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
}

/// A matrix that int8 with a scale for each row holds exactly: multiples of 2⁻¹⁰, the largest of each row 127 of them.
fn matrix(name: &str, n: usize, k: usize) -> (Vec<usize>, Vec<f32>) {
    let value = |i: usize| match i % k {
        0 => 127.0,
        _ => (random(name, i) * 127.0).round(),
    };
    (vec![n, k], (0..n * k).map(|i| value(i) / 1024.0).collect())
}

fn vector(name: &str, n: usize) -> (Vec<usize>, Vec<f32>) {
    (vec![n], (0..n).map(|i| 1.0 + 0.2 * random(name, i)).collect())
}

/// What both architectures have in their config.json.
pub fn config(architecture: &str) -> Value {
    json!({
        "architectures": [architecture], "vocab_size": VOCABULARY, "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "max_position_embeddings": CONTEXT, "tie_word_embeddings": false, "eos_token_id": 256,
    })
}

/// Tensors of a Llama, or of a Phi-3, which fuses some.
pub fn tensors(fused: bool) -> Tensors {
    let mut all = Tensors::new();
    let mut add = |name: String, n: usize, k: usize| {
        let tensor = if k == 0 { vector(&name, n) } else { matrix(&name, n, k) };
        all.insert(format!("{name}.weight"), tensor);
    };
    let (q, kv) = (HIDDEN, HIDDEN / HEADS * KV_HEADS);
    for i in 0..LAYERS {
        let name = |part: &str| format!("model.layers.{i}.{part}");
        if fused {
            add(name("self_attn.qkv_proj"), q + 2 * kv, HIDDEN);
            add(name("mlp.gate_up_proj"), 2 * INTERMEDIATE, HIDDEN);
        } else {
            add(name("self_attn.q_proj"), q, HIDDEN);
            add(name("self_attn.k_proj"), kv, HIDDEN);
            add(name("self_attn.v_proj"), kv, HIDDEN);
            add(name("mlp.gate_proj"), INTERMEDIATE, HIDDEN);
            add(name("mlp.up_proj"), INTERMEDIATE, HIDDEN);
        }
        add(name("self_attn.o_proj"), HIDDEN, q);
        add(name("mlp.down_proj"), HIDDEN, INTERMEDIATE);
        add(name("input_layernorm"), HIDDEN, 0);
        add(name("post_attention_layernorm"), HIDDEN, 0);
    }
    add("model.embed_tokens".into(), VOCABULARY, HIDDEN);
    add("model.norm".into(), HIDDEN, 0);
    add("lm_head".into(), VOCABULARY, HIDDEN);
    all
}

/// Writes a model's folder, with a tokenizer whose tokens are bytes, and 256, which ends.
pub fn write(folder: &Path, config: &Value, tensors: &Tensors) {
    fs::write(folder.join("config.json"), config.to_string()).expect("config.json");
    let views = tensors.iter().map(|(name, (shape, values))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values));
        (name, view.expect("a tensor"))
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors"))
        .expect("weights");
    fs::write(folder.join("tokenizer.json"), tokenizer().to_string()).expect("tokenizer.json");
    let template = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}\n{% endfor %}a:";
    let text = json!({"chat_template": template, "eos_token": "<end>"}).to_string();
    fs::write(folder.join("tokenizer_config.json"), text).expect("tokenizer_config.json");
}

/// A folder with a small Llama.
pub fn llama() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &config("LlamaForCausalLM"), &tensors(false));
    folder
}

/// GPT-2's characters for bytes, in order, and a token that ends.
fn tokenizer() -> Value {
    let printable = |b: &u32| matches!(b, 33..=126 | 161..=172 | 174..=255);
    let mut other = 256..;
    let mut vocabulary: serde_json::Map<String, Value> = (0..256u32)
        .map(|b| {
            let c = if printable(&b) { b } else { other.next().expect("endless") };
            (char::from_u32(c).expect("a character").to_string(), b.into())
        })
        .collect();
    vocabulary.insert("<end>".into(), 256.into());
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": [{"id": 256, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": bytes, "decoder": bytes,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": []},
    })
}

/// Tokens all over the vocabulary.
pub fn prompt(count: usize) -> Vec<u32> {
    lutmul_chat::speed::tokens(VOCABULARY, count)
}

/// Logits after each of some tokens, which go through the model in portions.
pub fn logits(model: &Model, tokens: &[u32], portion: usize, context: Context) -> Vec<f32> {
    let mut cache = Cache::new(&model.config, model.config.usual_context());
    let mut runner = Runner::new(context);
    let mut all = Vec::new();
    for tokens in tokens.chunks(portion) {
        let states = model.forward(tokens, &mut cache, &mut runner).expect("a forward pass");
        all.extend(model.logits(&states, &mut runner).expect("logits"));
    }
    all
}

/// Opens and loads.
pub fn load(folder: &Path, coding: &Coding) -> Model {
    Files::open(folder).and_then(|files| files.load(coding)).expect("a model")
}

/// Bits, to compare.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
