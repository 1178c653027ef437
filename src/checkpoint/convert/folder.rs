//! What a model's folder has beside weights: config, tokenizer, whatever else runs of the model need.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::partial::Partial;
use super::plan::{FilePlan, Plan};
use super::{Stop, Target};
use crate::checkpoint::config::{CONFIG, KEYS, NESTED};
use crate::checkpoint::dtype;
use crate::checkpoint::index::INDEX;
use crate::checkpoint::layouts::KEY;
use crate::checkpoint::model::Checkpoint;
use crate::error::{Error, Result};
use crate::show::message;

/// How the names of files end that runs of a model may need.
const NEEDED: [&str; 12] = [
    "json", "jsonl", "txt", "model", "jinja", "tiktoken", "py", "md", "spm", "bpe", "vocab", "yaml",
];

/// Files that are called so, whatever they end in.
const NAMED: [&str; 3] = ["LICENSE", "NOTICE", "USE_POLICY"];

/// Larger ones are no tokenizers: copies of weights, it may be, as JSON.
const LARGEST: u64 = 256 << 20;

/// How many folders within each other are looked into.
const DEPTH: usize = 4;

/// The files of a new folder that are not weights.
pub(super) struct Folder {
    /// From where to which name.
    copies: Vec<(PathBuf, String)>,
    left: Vec<String>,
    /// New ones, by name.
    made: Vec<(&'static str, Vec<u8>)>,
}

impl Folder {
    /// Plans them. `quantisation` says what config.json is to say of it: nothing new; else whether there are codes of
    /// lutmul's.
    pub fn new(
        model: &Checkpoint,
        files: &[FilePlan],
        target: &Target,
        quantisation: Option<bool>,
    ) -> Result<Self> {
        let root = model.path();
        let mut folder = Self { copies: Vec::new(), left: Vec::new(), made: Vec::new() };
        folder.look(root, "", DEPTH, files).map_err(|e| Error::file(root, e))?;
        if let Some(index) = model.source().origin().index {
            let mut map = BTreeMap::new();
            let mut bytes = 0;
            for file in files {
                for (tensor, (_, size)) in &file.layout.places {
                    bytes += size;
                    if map.insert(tensor.clone(), file.name.clone()).is_some() {
                        let name = crate::show::quoted(tensor);
                        return Err(Error::file(
                            root,
                            format!("two tensors would have the name {name}"),
                        ));
                    }
                }
            }
            let index = index.write(bytes, &map);
            folder.made.push((INDEX, index.map_err(|e| Error::file(&root.join(INDEX), e))?));
        }
        let path = root.join(CONFIG);
        match fs::read(&path) {
            Ok(text) => {
                let error = |e| Error::file(&path, format!("is no valid config: {}", message(e)));
                let mut config: Map<String, Value> =
                    serde_json::from_slice(&text).map_err(error)?;
                rewrite(&mut config, target, quantisation);
                let text = serde_json::to_vec_pretty(&config).map_err(error)?;
                folder.made.push((CONFIG, text));
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(Error::file(&path, e)),
        }
        Ok(folder)
    }

    /// Finds what is to be copied.
    fn look(
        &mut self,
        at: &Path,
        prefix: &str,
        depth: usize,
        files: &[FilePlan],
    ) -> io::Result<()> {
        let mut entries = fs::read_dir(at)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            let top = prefix.is_empty();
            let made =
                top && (name == INDEX || name == CONFIG || files.iter().any(|f| f.name == name));
            if made || name.starts_with('.') || name.ends_with(".partial") {
                continue;
            }
            let full = format!("{prefix}{name}");
            // Of links, what they lead to; but not folders, which could lead back.
            match fs::metadata(entry.path()) {
                Ok(kind) if kind.is_dir() => {
                    if depth > 0 && !entry.file_type()?.is_symlink() {
                        self.look(&entry.path(), &format!("{full}/"), depth - 1, files)?;
                    }
                }
                Ok(kind) if kind.is_file() && kind.len() <= LARGEST && is_needed(&name) => {
                    self.copies.push((entry.path(), full));
                }
                _ => self.left.push(full),
            }
        }
        Ok(())
    }

    /// The names of what is copied, and of what is not.
    pub fn names(&self) -> (Vec<String>, Vec<String>) {
        let made = self.made.iter().map(|made| made.0.to_owned());
        let mut copied: Vec<_> = self
            .copies
            .iter()
            .map(|copy| copy.1.clone())
            .chain(made.filter(|m| m != INDEX))
            .collect();
        copied.sort();
        (copied, self.left.clone())
    }

    /// Writes them into a folder.
    pub fn write(&self, partial: &Partial, plan: &Plan) -> Result<(), Stop> {
        let fail = |name: &str, e: io::Error| Stop::Output(Error::file(&plan.output.join(name), e));
        for (from, name) in &self.copies {
            let to = partial.path().join(name);
            let copy = || {
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(&to, fs::read(from)?)
            };
            copy().map_err(|e| fail(name, e))?;
        }
        for (name, text) in &self.made {
            fs::write(partial.path().join(name), text).map_err(|e| fail(name, e))?;
        }
        Ok(())
    }
}

fn is_needed(name: &str) -> bool {
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    // Indexes are of weights that are not copied.
    !name.ends_with(".index.json")
        && (NEEDED.contains(&ending) || NAMED.iter().any(|start| name.starts_with(start)))
}

/// Has a config say how the model is quantised now, and of which type its floats are.
fn rewrite(config: &mut Map<String, Value>, target: &Target, quantisation: Option<bool>) {
    if let Some(has_codes) = quantisation {
        KEYS.iter().for_each(|key| drop(config.remove(*key)));
        if let Some(Value::Object(nested)) = config.get_mut(NESTED) {
            KEYS.iter().for_each(|key| drop(nested.remove(*key)));
        }
        if let (true, Target::Codes { format, granularity }) = (has_codes, target) {
            let (format, scales) = (format.to_string(), granularity.to_string());
            let says = json!({ "quant_method": KEY, "format": format, "scales": scales });
            config.insert(KEYS[0].into(), says);
        } else if has_codes {
            config.insert(KEYS[0].into(), json!({ "quant_method": KEY }));
        }
    }
    if let Target::Floats(dtype) = target {
        let name = match dtype::name(*dtype) {
            "F16" => "float16",
            "BF16" => "bfloat16",
            _ => "float32",
        };
        let nested = config.get_mut(NESTED).and_then(Value::as_object_mut);
        let retype = |config: &mut Map<String, Value>| {
            for key in ["torch_dtype", "dtype"] {
                if let Some(value) = config.get_mut(key) {
                    *value = name.into();
                }
            }
        };
        nested.into_iter().for_each(&retype);
        retype(config);
    }
}
