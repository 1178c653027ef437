//! bitsandbytes' LLM.int8: rows of int8, and the largest magnitude of each row: `w = code · SCB / 127`.

use safetensors::tensor::Dtype;

use super::{Found, Layout, module};
use crate::checkpoint::scale::{Allowed, ScaleTensor};
use crate::error::Result;
use crate::format::Format;
use crate::scales::Granularity;

/// The layout of this file.
pub(super) struct BitsAndBytes;

impl Layout for BitsAndBytes {
    fn methods(&self) -> &'static [&'static str] {
        &["bitsandbytes"]
    }

    fn find(&self, found: &mut Found<'_>) -> Result<()> {
        let files = found.files;
        let config = &files.config;
        if config.get("load_in_4bit").is_some_and(|four| four.as_bool() == Some(true)) {
            return Err(config.error("load_in_4bit: lutmul reads weights of 8 bits"));
        }
        for id in found.of(&[Dtype::I8]) {
            let module = module(files.tensor(id).name);
            let Some(scale) = files.find(&format!("{module}.SCB")) else {
                if config.method().is_none() || config.skips(module)? {
                    continue;
                }
                return Err(
                    files.error(id, format!("int8 codes without scales: there is no {module}.SCB"))
                );
            };
            let format = files.find(&format!("{module}.weight_format"));
            if let Some(format) = format {
                let tensor = files.tensor(format);
                if tensor.bytes.iter().any(|byte| *byte != 0) {
                    let why = "weights are laid out for a GPU; row by row would be format 0";
                    return Err(files.error(format, why));
                }
            }
            found.add_coded(id, &Format::Int8, [Some(scale), format], |scale, place| {
                let rows = Allowed::Only(Granularity::Row);
                let mut scales = ScaleTensor::new(files, scale, place, rows, false)?;
                scales.divisor = 127.0;
                Ok(scales)
            })?;
        }
        Ok(())
    }
}
