//! Decoding by other people's code: codes by the crate float8, scales by the crate half, and nothing of lutmul's but
//! where in the files they are.

use anyhow::{Context, Result, bail};
use float8::{F8E4M3, F8E5M2};
use half::{bf16, f16};
use lutmul::Granularity;
use lutmul::checkpoint::show::quoted;
use lutmul::checkpoint::{Checkpoint, Coding, Dtype, Linear, Tensor, TensorFile};

/// The files of a model, as tensors only.
pub struct Oracle(Vec<TensorFile>);

impl Oracle {
    /// Opens the files once more.
    pub fn open(model: &Checkpoint) -> Result<Self> {
        let files = model
            .files()
            .iter()
            .filter(|file| file.path.extension().is_none_or(|extension| extension != "gguf"));
        Ok(Self(files.map(|file| TensorFile::open(&file.path)).collect::<Result<_, _>>()?))
    }

    fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        self.0.iter().find_map(|file| file.tensor(name))
    }

    /// Makes sure that weights are, bit for bit, the codes of their files times their scales. False: their codes are
    /// not of 8 bits that someone else could decode.
    pub fn check(&self, linear: &Linear, weights: &[f32]) -> Result<bool> {
        let Some(coding) = &linear.coding else { return Ok(false) };
        let Some(source) = self.source(linear, coding)? else { return Ok(false) };
        let (n, k) = linear.shape;
        let (rows, cols) = match coding.granularity {
            Granularity::Tensor => (n.max(1), k.max(1)),
            Granularity::Row => (1, k.max(1)),
            Granularity::Group(cols) => (1, cols),
            Granularity::Block(rows, cols) => (rows, cols),
        };
        let across = k.div_ceil(cols);
        for (i, (code, weight)) in source.codes.iter().zip(weights).enumerate() {
            let (row, col) = (i / k, i % k);
            let scale = source.scales[row / rows * across + col / cols];
            let mut expected = source.table[usize::from(*code)] * scale;
            if source
                .signs
                .is_some_and(|signs| signs[row * k.div_ceil(8) + col / 8] >> (col % 8) & 1 == 1)
            {
                expected = -expected;
            }
            if expected.to_bits() != weight.to_bits() {
                let name = quoted(&linear.name);
                bail!(
                    "layer {name}: {weight} at row {row}, column {col}, where {expected} is stored"
                );
            }
        }
        Ok(true)
    }

    /// What a matrix consists of; none, if it is in no tensors of safetensors files.
    fn source(&self, linear: &Linear, coding: &Coding) -> Result<Option<Source<'_>>> {
        let name = &linear.name;
        let (n, k) = linear.shape;
        if let Some(codes) = self.tensor(&format!("{name}.codes")) {
            let part = |part: &str| self.tensor(&format!("{name}.{part}"));
            let table = floats(&part("table").context("a table")?)?;
            let table = table.try_into().ok().context("a table of 256 entries")?;
            let scales = floats(&part("scales").context("scales")?)?;
            let signs = part("signs").map(|signs| signs.bytes);
            return Ok(Some(Source { codes: codes.bytes, table, scales, signs }));
        }
        let Some(tensor) = self.tensor(&linear.tensor) else { return Ok(None) };
        let module = linear.tensor.strip_suffix(".weight").unwrap_or(&linear.tensor);
        let mut table = match tensor.dtype {
            Dtype::I8 => std::array::from_fn(|code| f32::from(code as u8 as i8)),
            Dtype::F8_E4M3 => std::array::from_fn(|code| F8E4M3::from_bits(code as u8).to_f32()),
            Dtype::F8_E5M2 => std::array::from_fn(|code| F8E5M2::from_bits(code as u8).to_f32()),
            // Half of the others', whose largest exponent is a number like any other.
            Dtype::F8_E4M3FNUZ => std::array::from_fn(|code| fnuz(code as u8, 3, 8)),
            Dtype::F8_E5M2FNUZ => std::array::from_fn(|code| fnuz(code as u8, 2, 16)),
            _ => return Ok(None),
        };
        if let Some(zero) = self.tensor(&format!("{}_zero_point", linear.tensor)) {
            let zero = match (zero.dtype, zero.bytes) {
                (Dtype::I8, [byte]) => f32::from(*byte as i8),
                (_, [byte]) => f32::from(*byte),
                _ => return Ok(None),
            };
            table.iter_mut().for_each(|entry| *entry -= zero);
        }
        let (which, count) = linear.part.unwrap_or((0, 1));
        let codes = &tensor.bytes[which * n * k..][..n * k];
        let names = ["_scale_inv", "_scale"].map(|suffix| format!("{}{suffix}", linear.tensor));
        let others = ["SCB", "scale", "scale_weight"].map(|last| format!("{module}.{last}"));
        let found = names.iter().chain(&others).find_map(|name| self.tensor(name));
        let Some(found) = found else {
            return Ok(Some(Source { codes, table, scales: vec![1.0], signs: None }));
        };
        let mut scales = floats(&found)?;
        if found.name.ends_with(".SCB") {
            scales.iter_mut().for_each(|scale| *scale /= 127.0);
        }
        let (rows, cols) = coding.granularity.grid((n, k));
        if scales.len() == count * rows * cols {
            scales = scales[which * rows * cols..][..rows * cols].to_vec();
        }
        Ok(Some(Source { codes, table, scales, signs: None }))
    }
}

/// What a matrix consists of.
struct Source<'a> {
    codes: &'a [u8],
    table: [f32; 256],
    scales: Vec<f32>,
    signs: Option<&'a [u8]>,
}

/// Numbers as f32.
fn floats(tensor: &Tensor<'_>) -> Result<Vec<f32>> {
    let pairs = || tensor.bytes.as_chunks::<2>().0.iter();
    Ok(match tensor.dtype {
        Dtype::F32 => tensor.bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        Dtype::U8 | Dtype::F8_E8M0 => {
            tensor.bytes.iter().map(|b| 2f64.powi(i32::from(*b) - 127) as f32).collect()
        }
        other => bail!("tensor {}: scales of type {other}", quoted(tensor.name)),
    })
}

/// AMD's floats of 8 bits, by their definition.
fn fnuz(code: u8, bits: i32, bias: i32) -> f32 {
    if code == 0x80 {
        return f32::NAN;
    }
    let (e, m) = (i32::from(code & 0x7F) >> bits, i32::from(code) & ((1 << bits) - 1));
    let (m, e) = if e == 0 { (m, 1) } else { (m + (1 << bits), e) };
    let magnitude = f64::from(m) * 2f64.powi(e - bias - bits);
    if code < 0x80 { magnitude as f32 } else { -magnitude as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lutmul::Lut;

    #[test]
    fn tables_are_those_of_the_crate() {
        let e4m3 = |c: u8| F8E4M3::from_bits(c).to_f32();
        let e5m2 = |c: u8| F8E5M2::from_bits(c).to_f32();
        let own: [(Lut, &dyn Fn(u8) -> f32); 4] = [
            (Lut::e4m3(), &e4m3),
            (Lut::e5m2(), &e5m2),
            (Lut::e4m3_fnuz(), &|c| fnuz(c, 3, 8)),
            (Lut::e5m2_fnuz(), &|c| fnuz(c, 2, 16)),
        ];
        for (lut, oracle) in own {
            for code in 0..=255 {
                let (a, b) = (lut.entry(code), oracle(code));
                assert!(
                    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
                    "{code}: {a} {b}"
                );
            }
        }
    }
}
