//! Models from disk: a Hugging Face folder, or a GGUF file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use lutmul::checkpoint::show::quoted;
use lutmul::checkpoint::{self, Checkpoint, Floats, GgufFile, Matrix, Other, is_gguf};
use lutmul_cli::measure::check_free;
use lutmul_cli::progress;

use crate::config::{Architecture, ModelConfig};
use crate::linear::{Coding, Linear, Projection};
use crate::model::{Layer, Model};

/// What a model's modules are called.
struct Names {
    embedding: &'static str,
    norm: &'static str,
    head: &'static str,
    layers: &'static str,
    input_norm: &'static str,
    qkv: &'static [&'static str],
    output: &'static str,
    ffn_norm: &'static str,
    gate_up: &'static [&'static str],
    down: &'static str,
}

const LLAMA: Names = Names {
    embedding: "model.embed_tokens",
    norm: "model.norm",
    head: "lm_head",
    layers: "model.layers",
    input_norm: "input_layernorm",
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    output: "self_attn.o_proj",
    ffn_norm: "post_attention_layernorm",
    gate_up: &["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
};

const PHI3: Names = Names { qkv: &["self_attn.qkv_proj"], gate_up: &["mlp.gate_up_proj"], ..LLAMA };

const GGUF: Names = Names {
    embedding: "token_embd",
    norm: "output_norm",
    head: "output",
    layers: "blk",
    input_norm: "attn_norm",
    qkv: &["attn_q", "attn_k", "attn_v"],
    output: "attn_output",
    ffn_norm: "ffn_norm",
    gate_up: &["ffn_gate", "ffn_up"],
    down: "ffn_down",
};

/// A model on disk, open: what it is, and where its tensors are.
pub struct Files {
    /// Its sizes.
    pub config: ModelConfig,
    /// Its tensors.
    pub checkpoint: Checkpoint,
    /// The metadata, if it is a GGUF file.
    pub gguf: Option<GgufFile>,
    /// The folder that it is in: a tokenizer may be there.
    pub folder: PathBuf,
}

impl Files {
    /// Opens a folder, a safetensors file in one, or a GGUF file.
    ///
    /// # Errors
    /// Files that are missing or not sound; models that are no decoders of a kind that is known.
    pub fn open(path: &Path) -> Result<Self> {
        let place = || path.display().to_string();
        ensure!(path.exists(), "{}: No such file or directory", place());
        let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = if path.is_dir() { path } else { beside };
        let gguf = if is_gguf(path) { Some(GgufFile::open(path)?) } else { None };
        let config = match &gguf {
            Some(file) => ModelConfig::of_gguf(file).with_context(place)?,
            None => ModelConfig::of_folder(folder)?,
        };
        let checkpoint = Checkpoint::open(path)?;
        Ok(Self { config, checkpoint, gguf, folder: folder.into() })
    }

    /// Whether any weights had fewer than 8 bits: what is compared with then is what they stand for, not the original.
    pub fn coarse(&self) -> bool {
        let eight = ["F32", "F16", "BF16", "Q8_0"];
        let coded =
            |linear: &checkpoint::Linear| linear.coding.is_some() || eight.contains(&linear.dtype);
        self.gguf.is_some() && !self.checkpoint.linears().iter().all(coded)
    }

    fn names(&self) -> &'static Names {
        match (&self.gguf, self.config.architecture) {
            (Some(_), _) => &GGUF,
            (None, Architecture::Llama) => &LLAMA,
            (None, Architecture::Phi3) => &PHI3,
        }
    }

    /// Loads the model: codes stay mapped where they are kept, floats are read and encoded. Everything is looked for
    /// first.
    ///
    /// # Errors
    /// Tensors that are missing or of another shape; more than there is memory for; matrices that cannot be encoded;
    /// Ctrl-C.
    pub fn load(&self, coding: &Coding) -> Result<Model> {
        let (config, names) = (&self.config, self.names());
        let loader = Loader::new(self, coding)?;
        let bar = progress::steps(loader.expected().len());
        let projection = |modules: Vec<String>| loader.projection(&modules, &bar);
        let layer = |i: usize| -> Result<Layer> {
            let module = |part: &str| format!("{}.{i}.{part}", names.layers);
            let modules = |parts: &[&str]| parts.iter().map(|part| module(part)).collect();
            Ok(Layer {
                input_norm: loader.vector(&module(names.input_norm), "weight", config.hidden)?,
                qkv: projection(modules(names.qkv))?,
                output: projection(modules(&[names.output]))?,
                ffn_norm: loader.vector(&module(names.ffn_norm), "weight", config.hidden)?,
                gate_up: projection(modules(names.gate_up))?,
                down: projection(modules(&[names.down]))?,
            })
        };
        let norm = loader.vector(names.norm, "weight", config.hidden)?;
        let layers = (0..config.layers).map(layer).collect::<Result<_>>()?;
        let embedding = loader.embedding()?;
        let head = match config.tied {
            true => {
                let head = Linear::new(embedding.clone(), names.embedding, None, coding)?;
                Projection::new(vec![head])
            }
            false => projection(vec![names.head.into()])?,
        };
        bar.finish_and_clear();
        Ok(Model { config: config.clone(), embedding, layers, norm, head })
    }
}

/// A model being loaded.
struct Loader<'a> {
    files: &'a Files,
    coding: &'a Coding,
    others: HashMap<&'a str, Other<'a>>,
}

impl<'a> Loader<'a> {
    /// Looks for everything that is needed.
    fn new(files: &'a Files, coding: &'a Coding) -> Result<Self> {
        let others = files.checkpoint.others().map(|other| (other.name, other)).collect();
        let loader = Self { files, coding, others };
        let expected = loader.expected();
        let missing: Vec<&str> = expected
            .iter()
            .filter(|(name, _)| files.checkpoint.linear(name).is_none())
            .map(|(name, _)| name.as_str())
            .collect();
        if let Some(first) = missing.first() {
            let path = files.checkpoint.path().display();
            bail!(
                "{path}: tensor {}.weight is missing{}",
                first,
                match missing.len() {
                    1 => String::new(),
                    count => format!(", and {} more", count - 1),
                }
            );
        }
        let (mut bytes, mut largest) = (0usize, 0);
        for (name, shape) in &expected {
            let matrix = loader.find(name)?;
            ensure!(
                matrix.shape == *shape,
                "{}: tensor {} is {}×{}; by the config it is {}×{}",
                files.checkpoint.path().display(),
                quoted(&matrix.tensor),
                matrix.shape.0,
                matrix.shape.1,
                shape.0,
                shape.1
            );
            bytes = bytes.saturating_add(match coding.keeps(matrix) {
                true => matrix.bytes,
                false => coding.bytes(*shape),
            });
            largest = largest.max(shape.0.saturating_mul(shape.1).saturating_mul(4));
        }
        // What is encoded, the largest of which is in memory as floats meanwhile.
        let what = format!("{}", files.checkpoint.path().display());
        check_free(bytes.checked_add(largest), &what)?;
        Ok(loader)
    }

    /// All matrices that are multiplied with: their modules, rows and columns.
    fn expected(&self) -> Vec<(String, (usize, usize))> {
        let (config, names) = (&self.files.config, self.files.names());
        let (hidden, intermediate) = (config.hidden, config.intermediate);
        let (q, kv) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let (qkv, gate_up) = match names.qkv.len() {
            1 => (vec![q + 2 * kv], vec![2 * intermediate]),
            _ => (vec![q, kv, kv], vec![intermediate; 2]),
        };
        let mut all = Vec::new();
        for i in 0..config.layers {
            let mut add = |part: &str, shape: (usize, usize)| {
                all.push((format!("{}.{i}.{part}", names.layers), shape));
            };
            names.qkv.iter().zip(qkv.iter().copied()).for_each(|(part, n)| add(part, (n, hidden)));
            add(names.output, (hidden, q));
            names
                .gate_up
                .iter()
                .zip(gate_up.iter().copied())
                .for_each(|(part, n)| add(part, (n, hidden)));
            add(names.down, (hidden, intermediate));
        }
        if !config.tied {
            all.push((names.head.into(), (config.vocabulary, hidden)));
        }
        all
    }

    fn find(&self, module: &str) -> Result<&'a checkpoint::Linear> {
        let found = self.files.checkpoint.linear(module);
        found.with_context(|| {
            format!("{}: tensor {module}.weight is missing", self.files.checkpoint.path().display())
        })
    }

    fn projection(&self, modules: &[String], bar: &ProgressBar) -> Result<Projection> {
        let linear = |module: &String| {
            ensure!(!progress::interrupted(), "interrupted");
            let found = self.find(module)?;
            // Floats would be mapped for as long as the program runs otherwise.
            let matrix = match self.coding.keeps(found) {
                true => self.files.checkpoint.matrix(found)?,
                false => self.files.checkpoint.load(found)?,
            };
            let bias = match self.others.contains_key(format!("{module}.bias").as_str()) {
                true => Some(self.vector(module, "bias", found.shape.0)?),
                false => None,
            };
            bar.inc(1);
            Linear::new(matrix, module, bias, self.coding)
        };
        Ok(Projection::new(modules.iter().map(linear).collect::<Result<_>>()?))
    }

    /// A tensor of one dimension.
    fn vector(&self, module: &str, part: &str, len: usize) -> Result<Vec<f32>> {
        let name = format!("{module}.{part}");
        let path = || self.files.checkpoint.path().display();
        let other = self.others.get(name.as_str());
        let other = other.with_context(|| format!("{}: tensor {name} is missing", path()))?;
        ensure!(
            other.shape == [len],
            "{}: tensor {name} has shape {}; by the config it is [{len}]",
            path(),
            checkpoint::show::shape(other.shape)
        );
        let bytes = self.files.checkpoint.bytes(other)?;
        let values = Floats::new((1, len), other.dtype, bytes).with_context(|| name.clone())?;
        let values = values.to_f32().into_owned();
        ensure!(values.iter().all(|v| v.is_finite()), "{}: tensor {name} is not finite", path());
        Ok(values)
    }

    /// The table of which tokens are rows: as it lies, whatever is encoded.
    fn embedding(&self) -> Result<Matrix> {
        let (config, module) = (&self.files.config, self.files.names().embedding);
        let name = format!("{module}.weight");
        let path = || self.files.checkpoint.path().display();
        let expected = (config.vocabulary, config.hidden);
        let matrix = match (self.files.checkpoint.linear(module), self.others.get(name.as_str())) {
            (Some(linear), _) => self.files.checkpoint.matrix(linear)?,
            (None, Some(other)) => {
                let &[rows, cols] = other.shape else {
                    bail!(
                        "{}: tensor {name} has shape {}",
                        path(),
                        checkpoint::show::shape(other.shape)
                    );
                };
                let bytes = self.files.checkpoint.bytes(other)?;
                Matrix::Floats(Floats::new((rows, cols), other.dtype, bytes).context(name.clone())?)
            }
            (None, None) => bail!("{}: tensor {name} is missing", path()),
        };
        let got = matrix.shape();
        ensure!(
            got == expected,
            "{}: tensor {name} is {}×{}; by the config it is {}×{}",
            path(),
            got.0,
            got.1,
            expected.0,
            expected.1
        );
        Ok(matrix)
    }
}
