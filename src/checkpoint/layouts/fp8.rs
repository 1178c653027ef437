//! FP8 weights with one scale, with one a row, or with one a block whose size config.json gives: DeepSeek's, Qwen's,
//! Meta's and most that are called "-FP8"; and files of codes with no scale at all.

use safetensors::tensor::Dtype;

use super::{Found, Layout, check_order, module};
use crate::checkpoint::config;
use crate::checkpoint::files::Files;
use crate::checkpoint::scale::{Allowed, ScaleTensor};
use crate::checkpoint::source::TensorId;
use crate::error::Result;
use crate::format::Format;
use crate::scales::Granularity;

/// The layouts of this file.
pub(super) struct Fp8;

/// The types of FP8.
pub(super) const TYPES: [Dtype; 4] =
    [Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::F8_E4M3FNUZ, Dtype::F8_E5M2FNUZ];

/// The format of one of [`TYPES`].
pub(super) fn format(dtype: Dtype) -> Format {
    match dtype {
        Dtype::F8_E5M2 => Format::E5m2,
        Dtype::F8_E4M3FNUZ => Format::E4m3Fnuz,
        Dtype::F8_E5M2FNUZ => Format::E5m2Fnuz,
        _ => Format::E4m3,
    }
}

impl Layout for Fp8 {
    fn methods(&self) -> &'static [&'static str] {
        &["fp8", "fbgemm_fp8"]
    }

    fn find(&self, found: &mut Found<'_>) -> Result<()> {
        let config = &found.files.config;
        let block = config.get("weight_block_size").map(|value| {
            let why = "weight_block_size is not two sizes from 1 on";
            config::pair(value).ok_or_else(|| config.error(why))
        });
        // Blocks of one row are groups, by which more can be multiplied fast.
        let allowed = match block.transpose()? {
            None => Allowed::TensorOrRow,
            Some((1, cols)) => Allowed::Only(Granularity::Group(cols)),
            Some((rows, cols)) => Allowed::Only(Granularity::Block(rows, cols)),
        };
        let exponents = config.text("scale_fmt")?.is_some_and(|format| format == "ue8m0");
        for id in found.of(&TYPES) {
            let files = found.files;
            let tensor = files.tensor(id);
            let scale = scale_of(files, id)?;
            // Tensors of experts are known by their scales; what else has three dimensions is no list of matrices.
            let is_matrix = tensor.shape.len() == 2;
            if !(is_matrix || (scale.is_some() && tensor.shape.len() == 3)) {
                continue;
            }
            if let Some(zero) = check_order(files, tensor.name)? {
                return Err(files.error(zero, "FP8 weights have no zero point"));
            }
            if scale.is_none() && config.method().is_some() && !config.skips(module(tensor.name))? {
                let why = "FP8 codes without scales: there is neither a weight_scale_inv nor a weight_scale";
                return Err(files.error(id, why));
            }
            found.add_coded(id, &format(tensor.dtype), [scale, None], |scale, place| {
                ScaleTensor::new(files, scale, place, allowed, exponents)
            })?;
        }
        Ok(())
    }
}

/// The scales of a tensor of codes. Whatever they are called, they are multiplied.
fn scale_of(files: &Files, id: TensorId) -> Result<Option<TensorId>> {
    let name = files.tensor(id).name;
    let module = name.strip_suffix(".weight");
    let names = [
        Some(format!("{name}_scale_inv")),
        Some(format!("{name}_scale")),
        // DeepSeek's own programs; ComfyUI.
        module.map(|module| format!("{module}.scale")),
        module.map(|module| format!("{module}.scale_weight")),
    ];
    let mut there = names.iter().flatten().filter_map(|name| files.find(name));
    match (there.next(), there.next()) {
        (Some(_), Some(second)) => Err(files.error(second, "the weight has other scales, too")),
        (one, _) => Ok(one),
    }
}
