//! `lutmul synth`: a model of true names and shapes, and made-up weights, to measure with where none can be fetched.

mod model;
mod random;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use indicatif::ProgressBar;
use safetensors::View;
use safetensors::tensor::Dtype;
use serde_json::{Value, json};

use self::model::Tensor;
use crate::{progress, table};

/// Write a model with the names and shapes of a real one, and made-up weights in bf16
///
/// config.json, shards and their index, as Hugging Face keeps them. The same options give the same bytes, whatever
/// the machine and the number of threads.
#[derive(clap::Args)]
pub struct Args {
    /// The model: phi-3.5-mini has 3.82 billion weights, 7.64 GB
    #[arg(value_enum)]
    model: Preset,
    /// The folder to make
    dir: PathBuf,
    /// Layers [default: as many as the model has]
    #[arg(long, value_name = "N")]
    layers: Option<u16>,
    /// Rows of the embedding and of the head [default: as many as the model has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..1 << 24))]
    vocabulary: Option<u32>,
    /// Bytes of a shard at most, unless one tensor has more
    #[arg(long, value_name = "BYTES", default_value_t = 5_000_000_000)]
    shard: usize,
    /// Other weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// The models there are.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Preset {
    #[value(name = "phi-3.5-mini")]
    Phi35Mini,
}

impl Args {
    /// Writes it, and says what.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let at = || self.dir.display().to_string();
        if self.dir.symlink_metadata().is_ok() {
            bail!("{}: exists already", at());
        }
        let Preset::Phi35Mini = self.model;
        let mut config: Value = serde_json::from_str(model::PHI_3_5_MINI)?;
        let options =
            [("num_hidden_layers", self.layers.map(u32::from)), ("vocab_size", self.vocabulary)];
        for (key, value) in options.into_iter().filter_map(|(key, value)| Some((key, value?))) {
            config[key] = value.into();
        }
        let tensors = model::phi3(&config);
        let total = tensors.iter().map(Tensor::bytes).sum();
        progress::catch_interrupts();
        let bar = progress::bytes(total);
        let parent = match self.dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Removed when it goes out of scope, unless it got its name.
        let made = tempfile::Builder::new().prefix(".lutmul-").suffix(".tmp").tempdir_in(parent);
        let made = made.with_context(at)?;
        let shards = shards(&tensors, self.shard);
        let mut weight_map = BTreeMap::new();
        for (i, shard) in shards.iter().enumerate() {
            let name = format!("model-{:05}-of-{:05}.safetensors", i + 1, shards.len());
            let tensors = shard
                .iter()
                .map(|tensor| (&*tensor.name, MadeUp { tensor, seed: self.seed, bar: &bar }));
            let metadata = HashMap::from([("format".into(), "pt".into())]);
            safetensors::serialize_to_file(tensors, Some(metadata), &made.path().join(&name))
                .with_context(|| self.dir.join(&name).display().to_string())?;
            ensure!(!progress::interrupted(), "{}: interrupted", at());
            weight_map.extend(shard.iter().map(|tensor| (&*tensor.name, name.clone())));
        }
        let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
        for (name, value) in [("config.json", &config), ("model.safetensors.index.json", &index)] {
            let json = serde_json::to_string_pretty(value)? + "\n";
            fs::write(made.path().join(name), json)
                .with_context(|| self.dir.join(name).display().to_string())?;
        }
        open_to_all(made.path()).with_context(at)?;
        fs::rename(made.path(), &self.dir).with_context(at)?;
        let _ = made.keep();
        bar.finish_and_clear();
        self.report(&tensors, shards.len(), out)
    }

    fn report(&self, tensors: &[Tensor], shards: usize, out: &mut dyn Write) -> Result<()> {
        let bytes: usize = tensors.iter().map(Tensor::bytes).sum();
        let dir = self.dir.display();
        if self.json {
            let summary = json!({
                "output": dir.to_string(),
                "tensors": tensors.len(),
                "weights": bytes / 2,
                "bytes": bytes,
                "shards": shards,
            });
            writeln!(out, "{summary}")?;
        } else {
            let (count, size) = (tensors.len(), table::bytes(bytes));
            writeln!(
                out,
                "{dir}: {count} tensors, {} weights, {size} in {shards} shards",
                bytes / 2
            )?;
        }
        Ok(())
    }
}

/// Fills shards with tensors in order, as Hugging Face does.
fn shards(tensors: &[Tensor], most: usize) -> Vec<Vec<&Tensor>> {
    let (mut shards, mut bytes) = (vec![Vec::new()], 0);
    for tensor in tensors {
        if bytes > 0 && bytes + tensor.bytes() > most {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += tensor.bytes();
        shards.last_mut().expect("there is one").push(tensor);
    }
    shards
}

/// Temporary folders and files are for their owner alone; others are for whom the user's mask says.
#[cfg(unix)]
fn open_to_all(made: &Path) -> std::io::Result<()> {
    let (folder, file) = (made.join("like"), made.join("config.json"));
    fs::create_dir(&folder)?;
    let like = [fs::metadata(&folder)?.permissions(), fs::metadata(file)?.permissions()];
    fs::remove_dir(&folder)?;
    let [folder, file] = like;
    for entry in fs::read_dir(made)? {
        fs::set_permissions(entry?.path(), file.clone())?;
    }
    fs::set_permissions(made, folder)
}

#[cfg(not(unix))]
fn open_to_all(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// A tensor that is made when it is written: one at a time is in memory.
struct MadeUp<'a> {
    tensor: &'a Tensor,
    seed: u64,
    bar: &'a ProgressBar,
}

impl View for MadeUp<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // The rest of the file is of no use to anybody.
        if progress::interrupted() {
            return Cow::Borrowed(&[]);
        }
        self.bar.set_message(table::name(&self.tensor.name));
        Cow::Owned(random::tensor(self.tensor, self.seed, &|bytes| self.bar.inc(bytes as u64)))
    }

    fn data_len(&self) -> usize {
        self.tensor.bytes()
    }
}
