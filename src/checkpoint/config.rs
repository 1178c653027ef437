//! What config.json says of how a model is quantised.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fancy_regex::Regex;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::show::{message, quoted};

/// The file of a model's folder that says it.
pub(super) const CONFIG: &str = "config.json";

/// Where in it: compressed-tensors' first versions had a name of their own.
pub(super) const KEYS: [&str; 2] = ["quantization_config", "compression_config"];

/// Where else: models of text and images have a config for each.
pub(super) const NESTED: &str = "text_config";

/// Lists of modules that were left as they were, in the words of the several methods.
const SKIPPED: [&str; 4] =
    ["modules_to_not_convert", "ignored_layers", "ignore", "llm_int8_skip_modules"];

/// config.json, or that there is none.
#[derive(Default)]
pub(super) struct Config {
    path: PathBuf,
    quantisation: Map<String, Value>,
    method: Option<String>,
    skipped: Names,
}

impl Config {
    /// Reads the config of a folder, if it has one.
    pub fn beside(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(path, &text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(Error::file(&path, e)),
        }
    }

    /// Reads a config.
    pub(super) fn parse(path: PathBuf, text: &str) -> Result<Self> {
        let error = |why: String| Error::file(&path, why);
        let invalid = |e| error(format!("is no valid config: {}", message(e)));
        let mut json: Map<String, Value> = serde_json::from_str(text).map_err(invalid)?;
        let find = |json: &mut Map<String, Value>| {
            KEYS.iter().find_map(|key| json.remove(*key).filter(|value| !value.is_null()))
        };
        let nested = |json: &mut Map<String, Value>| find(json.get_mut(NESTED)?.as_object_mut()?);
        let quantisation = match find(&mut json).or_else(|| nested(&mut json)) {
            None => return Ok(Self { path, ..Self::default() }),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(error(format!("{} is no object", KEYS[0]))),
        };
        let mut config = Self { path, quantisation, ..Self::default() };
        let method = config.text("quant_method")?.map(str::to_owned);
        if method.is_none() {
            return Err(config.error("has no quant_method"));
        }
        let mut skipped = Names::default();
        for key in SKIPPED {
            config.names(key, &mut skipped)?;
        }
        (config.method, config.skipped) = (method, skipped);
        Ok(config)
    }

    /// The method of quantisation: `fp8`, say.
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// Whether a module is one of those that were left as they were.
    pub fn skips(&self, module: &str) -> Result<bool> {
        self.skipped.has(module).map_err(|why| self.error(why))
    }

    /// What there is under a key, if it is not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.quantisation.get(key).filter(|value| !value.is_null())
    }

    /// A text under a key.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        let text = |value: &'_ Value| value.as_str().map(str::len).is_some();
        match self.get(key) {
            None => Ok(None),
            Some(value) if text(value) => Ok(value.as_str()),
            Some(_) => Err(self.error(format!("{key} is no string"))),
        }
    }

    /// Adds the names and patterns under a key.
    fn names(&self, key: &str, names: &mut Names) -> Result<()> {
        let Some(value) = self.get(key) else { return Ok(()) };
        names.read(value).map_err(|why| self.error(format!("{key}: {why}")))
    }

    /// An error in what it says of quantisation.
    pub fn error(&self, why: impl std::fmt::Display) -> Error {
        Error::file(&self.path, format!("{}: {why}", KEYS[0]))
    }
}

/// A pair of sizes: `[128, 128]`, or `"128x128"`.
pub(super) fn pair(value: &Value) -> Option<(usize, usize)> {
    let size = |v: &Value| usize::try_from(v.as_u64()?).ok().filter(|size| *size > 0);
    match value {
        Value::Array(list) => match &list[..] {
            [rows, cols] => Some((size(rows)?, size(cols)?)),
            _ => None,
        },
        Value::String(text) => {
            let (rows, cols) = text.split_once('x')?;
            let size = |s: &str| s.parse().ok().filter(|size: &usize| *size > 0);
            Some((size(rows)?, size(cols)?))
        }
        _ => None,
    }
}

/// Modules by name, or by patterns: `re:` and what Python's `re.match` takes.
#[derive(Default)]
pub(super) struct Names {
    exact: HashSet<String>,
    patterns: Vec<Regex>,
}

impl Names {
    /// Adds those of a JSON list.
    pub fn read(&mut self, list: &Value) -> Result<(), String> {
        let Some(list) = list.as_array() else { return Err("is no list".into()) };
        for entry in list {
            let Some(name) = entry.as_str() else { return Err("is no list of names".into()) };
            match name.strip_prefix("re:") {
                None => drop(self.exact.insert(name.to_owned())),
                Some(pattern) => {
                    // As `re.match`: from the beginning, to wherever.
                    let regex = Regex::new(&format!(r"\A(?:{pattern})"));
                    self.patterns.push(
                        regex.map_err(|e| format!("pattern {}: {}", quoted(name), message(e)))?,
                    );
                }
            }
        }
        Ok(())
    }

    /// Whether a module, or one that it is within, has one of the names, or fits a pattern.
    pub fn has(&self, module: &str) -> Result<bool, String> {
        let within = || module.match_indices('.').map(|(at, _)| &module[..at]);
        if !self.exact.is_empty()
            && (self.exact.contains(module) || within().any(|m| self.exact.contains(m)))
        {
            return Ok(true);
        }
        self.fits(module)
    }

    /// Whether a module has one of the names.
    pub fn names(&self, module: &str) -> bool {
        self.exact.contains(module)
    }

    /// Whether a module fits a pattern.
    pub fn fits(&self, module: &str) -> Result<bool, String> {
        for pattern in &self.patterns {
            let fits = pattern.is_match(module);
            let fail = |e| format!("pattern {}: {}", quoted(pattern.as_str()), message(e));
            if fits.map_err(fail)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(list: Value) -> Names {
        let mut names = Names::default();
        names.read(&list).unwrap();
        names
    }

    #[test]
    fn names_are_whole() {
        let names = names(json!(["lm_head", "model.layers.1", "vision.tower"]));
        for module in ["lm_head", "model.layers.1", "model.layers.1.mlp.gate", "vision.tower.x"] {
            assert!(names.has(module).unwrap(), "{module}");
        }
        for module in ["lm_head2", "my.lm_head", "model.layers.10.mlp", "model.layers", "vision"] {
            assert!(!names.has(module).unwrap(), "{module}");
        }
    }

    #[test]
    fn patterns_are_python_s() {
        let names = names(json!(["re:.*mlp\\.gate$", "re:vision", r"re:^(?!model\.).*attn"]));
        for module in ["a.mlp.gate", "vision_tower.x", "other.attn.q"] {
            assert!(names.has(module).unwrap(), "{module}");
        }
        for module in ["a.mlp.gate_proj", "model.vision", "model.attn.q"] {
            assert!(!names.has(module).unwrap(), "{module}");
        }
        let mut names = Names::default();
        let error = names.read(&json!(["re:("])).unwrap_err();
        assert!(error.contains("\"re:(\""), "{error}");
        assert!(names.read(&json!("lm_head")).is_err() && names.read(&json!([1])).is_err());
        // Nothing is looked for without end.
        names.read(&json!([r"re:(a|aa|a*)*(?!x)b\1"])).unwrap();
        let _ = names.has(&"a".repeat(60));
    }

    #[test]
    fn sizes() {
        assert_eq!(pair(&json!([128, 64])), Some((128, 64)));
        assert_eq!(pair(&json!("128x64")), Some((128, 64)));
        for bad in
            [json!([0, 1]), json!([1]), json!("128"), json!(128), json!([1.5, 2]), json!([-1, 2])]
        {
            assert_eq!(pair(&bad), None, "{bad}");
        }
    }
}
