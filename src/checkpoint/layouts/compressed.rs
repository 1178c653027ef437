//! What the library compressed-tensors writes, in 8 bits: FP8 and int8 with scales of any granularity, MXFP8.
//!
//! Without a config.json, int8 weights with one scale or one a row are read too.

use safetensors::tensor::Dtype;
use serde_json::{Map, Value};

use super::{Found, Layout, check_order, fp8, module};
use crate::checkpoint::config::{self, Config, Names};
use crate::checkpoint::files::Files;
use crate::checkpoint::scale::{Allowed, ScaleTensor};
use crate::checkpoint::source::TensorId;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::lut::Lut;
use crate::scales::Granularity;
use crate::show::quoted;

/// The layouts of this file.
pub(super) struct CompressedTensors;

/// Weights that are quantised in one way.
struct Group {
    name: String,
    targets: Names,
    /// Whether it is for all linears.
    linears: bool,
    float: bool,
    allowed: Allowed,
    u8_exponents: bool,
    symmetric: bool,
}

impl Layout for CompressedTensors {
    fn methods(&self) -> &'static [&'static str] {
        &["compressed-tensors"]
    }

    fn find(&self, found: &mut Found<'_>) -> Result<()> {
        let config = &found.files.config;
        let groups = config.method().map(|_| groups(config)).transpose()?;
        let types = [&fp8::TYPES[..], &[Dtype::I8]].concat();
        for id in found.of(&types) {
            let files = found.files;
            let tensor = files.tensor(id);
            let scale = files.find(&format!("{}_scale", tensor.name));
            if scale.is_none() && (groups.is_none() || !matches!(tensor.shape.len(), 2 | 3)) {
                continue;
            }
            let module = module(tensor.name);
            let is_float = tensor.dtype != Dtype::I8;
            let zero = check_order(files, tensor.name)?;
            let (allowed, exponents) = match &groups {
                None => (Allowed::TensorOrRow, false),
                Some(groups) => {
                    let group = group_of(groups, module).map_err(|why| config.error(why))?;
                    let group = group.ok_or_else(|| {
                        files.error(id, "no group of config.json says how it is quantised")
                    })?;
                    group.check(files, id, is_float, zero.is_some())?;
                    (group.allowed, group.u8_exponents)
                }
            };
            let scale = scale
                .ok_or_else(|| files.error(id, "codes without scales: there is no weight_scale"))?;
            let format = if is_float { fp8::format(tensor.dtype) } else { int8(files, zero)? };
            found.add_coded(id, &format, [Some(scale), zero], |scale, place| {
                ScaleTensor::new(files, scale, place, allowed, exponents)
            })?;
        }
        Ok(())
    }
}

impl Group {
    fn check(&self, files: &Files, id: TensorId, is_float: bool, has_zero: bool) -> Result<()> {
        let dtype = files.tensor(id).dtype;
        let fail = |why: String| Err(files.error(id, why));
        if is_float != self.float {
            let kind = if self.float { "float" } else { "int" };
            return fail(format!("is {dtype}, but {} of config.json is of type {kind}", self.name));
        }
        if has_zero && is_float {
            return fail("FP8 weights have no zero point".into());
        }
        if !self.symmetric && !has_zero {
            return fail(format!("has no zero point, but {} is not symmetric", self.name));
        }
        Ok(())
    }
}

/// int8, or a table of it with a zero point.
fn int8(files: &Files, zero: Option<TensorId>) -> Result<Format> {
    let Some(id) = zero else { return Ok(Format::Int8) };
    let tensor = files.tensor(id);
    let zero = match (tensor.dtype, tensor.bytes) {
        (Dtype::I8, [byte]) => i16::from(*byte as i8),
        (Dtype::U8, [byte]) => i16::from(*byte),
        _ => return Err(files.error(id, format!("a zero point of type {}", tensor.dtype))),
    };
    let lut = Lut::new(&std::array::from_fn(|code| f32::from(i16::from(code as u8 as i8) - zero)))?;
    Ok(if zero == 0 { Format::Int8 } else { Format::Table(lut) })
}

/// The group of a module: the one that names it, that has a pattern for it, or that is for all linears.
fn group_of<'a>(groups: &'a [Group], module: &str) -> Result<Option<&'a Group>, String> {
    if let Some(group) = groups.iter().find(|group| group.targets.names(module)) {
        return Ok(Some(group));
    }
    for group in groups {
        if group.targets.fits(module)? {
            return Ok(Some(group));
        }
    }
    Ok(groups.iter().find(|group| group.linears))
}

/// The groups of a config.
fn groups(config: &Config) -> Result<Vec<Group>> {
    let format = config.text("format")?;
    let groups = match config.get("config_groups") {
        None => return Ok(Vec::new()),
        Some(Value::Object(groups)) => groups,
        Some(_) => return Err(config.error("config_groups is no object")),
    };
    let read = |(name, group): (&String, &Value)| {
        let error = |why: String| config.error(format!("config_groups.{}: {why}", quoted(name)));
        let group = group.as_object().ok_or_else(|| error("is no object".into()))?;
        read_group(name, group, format, error)
    };
    groups.iter().map(read).collect()
}

fn read_group(
    name: &str,
    group: &Map<String, Value>,
    format: Option<&str>,
    error: impl Fn(String) -> Error,
) -> Result<Group> {
    let format = group.get("format").and_then(Value::as_str).or(format);
    let mx = match format {
        Some("float-quantized" | "int-quantized" | "naive-quantized") => false,
        Some("mxfp8-quantized") => true,
        Some(other) => {
            let known = "float-quantized, int-quantized, naive-quantized, mxfp8-quantized";
            return Err(error(format!("format {} is none of {known}", quoted(other))));
        }
        None => return Err(error("has no format".into())),
    };
    let mut targets = Names::default();
    let list = group.get("targets").ok_or_else(|| error("has no targets".into()))?;
    targets.read(list).map_err(|why| error(format!("targets: {why}")))?;
    let linears = targets.names("Linear");
    let weights = match group.get("weights") {
        Some(Value::Object(weights)) => weights,
        _ => return Err(error("says nothing of weights".into())),
    };
    let get = |key: &str| weights.get(key).filter(|value| !value.is_null());
    match get("num_bits") {
        Some(bits) if bits.as_u64() == Some(8) => {}
        Some(bits) => {
            return Err(error(format!("weights of {bits} bits; lutmul reads those of 8")));
        }
        None => return Err(error("weights have no num_bits".into())),
    }
    let float = match get("type").map_or(Some("int"), Value::as_str) {
        Some("float") => true,
        Some("int") => false,
        _ => return Err(error("weights are of neither type int nor float".into())),
    };
    let size =
        get("group_size").and_then(Value::as_u64).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size > 0);
    let channel = get("group_size").and_then(Value::as_i64) == Some(-1);
    let strategy = match get("strategy") {
        Some(strategy) => strategy.as_str().unwrap_or_default(),
        None if channel => "channel",
        None if size.is_some() => "group",
        None => "tensor",
    };
    let granularity = match strategy {
        _ if mx => Granularity::Group(32),
        "tensor" => Granularity::Tensor,
        "channel" => Granularity::Row,
        "group" => {
            let size = size.ok_or_else(|| error("group_size is no size from 1 on".into()))?;
            Granularity::Group(size)
        }
        "block" => match get("block_structure").and_then(config::pair) {
            Some((1, cols)) => Granularity::Group(cols),
            Some((rows, cols)) => Granularity::Block(rows, cols),
            None => return Err(error("block_structure is not two sizes from 1 on".into())),
        },
        other => {
            let other = quoted(other);
            return Err(error(format!(
                "strategy {other} is none of tensor, channel, group, block"
            )));
        }
    };
    Ok(Group {
        name: format!("config_groups.{}", quoted(name)),
        targets,
        linears,
        float,
        allowed: Allowed::Only(granularity),
        u8_exponents: mx,
        symmetric: get("symmetric").is_none_or(|s| s.as_bool() != Some(false)),
    })
}
