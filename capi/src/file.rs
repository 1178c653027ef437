//! Models on disk.

use std::ffi::{CString, c_char};

use lutmul::checkpoint::{Checkpoint, Coding, Linear};

use crate::call::call;
use crate::handle::Kind;
use crate::sized::SizedStruct;
use crate::status::*;
use crate::weights::lutmul_weights;

/// A model of coded layers, memory-mapped: a file as `lutmul convert` writes it, or one of FP8 or int8 by other
/// programs, or the folder of such a model. Never changes: any threads may use it at a time.
pub struct lutmul_file {
    checkpoint: Checkpoint,
    layers: Vec<Layer>,
}

/// A layer of codes: its number in the checkpoint, and strings.
struct Layer {
    linear: usize,
    names: Names,
}

impl lutmul_file {
    fn linear(&self, layer: &Layer) -> &Linear {
        &self.checkpoint.linears()[layer.linear]
    }
}

impl Kind for lutmul_file {
    const NAME: &'static str = "lutmul_file";
}

/// Strings of a layer.
struct Names {
    name: CString,
    format: CString,
    granularity: CString,
}

impl Names {
    /// `None` if a name has a zero in it.
    fn new(linear: &Linear, coding: &Coding) -> Option<Self> {
        let string = |text: String| CString::new(text).ok();
        Some(Self {
            name: string(linear.name.clone())?,
            format: string(coding.format.to_string())?,
            granularity: string(coding.granularity.to_string())?,
        })
    }
}

/// A layer of a file. The strings are the file's: they end with it.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_layer {
    /// The sizeof of this struct, set before the call.
    pub size: usize,
    /// Its name: that of the original tensor without ".weight".
    pub name: *const c_char,
    /// Its format.
    pub format: *const c_char,
    /// What a scale covers, as in lutmul_codes.
    pub granularity: *const c_char,
    /// Out features: rows.
    pub n: usize,
    /// In features: columns.
    pub k: usize,
}

// SAFETY: as the trait asks.
unsafe impl SizedStruct for lutmul_layer {}

/// Opens a file or a folder, maps it, and checks that its layers are whole. Their weights are read where they are
/// mapped, when they are used first. Layers of floats are left out; a model that has no others is LUTMUL_FILE.
///
/// No other program may shorten or rewrite the file while it or weights of it are open; to replace it under its
/// name is fine. The path is UTF-8.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_file_open(
    path: *const c_char,
    file: *mut *mut lutmul_file,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_file_open", |c| {
            let out = c.out(file, "file")?;
            let path = c.text(path, "path")?;
            let checkpoint = Checkpoint::open(path).of("path")?;
            let fail = |why: &str| Failure::new(LUTMUL_FILE, "path", format!("{path}: {why}"));
            let coded = checkpoint.linears().iter().enumerate();
            let coded = coded.filter_map(|(i, linear)| Some((i, linear, linear.coding.as_ref()?)));
            let layers: Option<Vec<Layer>> = coded
                .map(|(i, linear, coding)| {
                    Some(Layer { linear: i, names: Names::new(linear, coding)? })
                })
                .collect();
            let layers = layers.ok_or_else(|| fail("a layer's name has a zero in it"))?;
            if layers.is_empty() && !checkpoint.linears().is_empty() {
                return Err(fail("has no layers of codes: all are floats"));
            }
            out.set(lutmul_file { checkpoint, layers });
            Ok(())
        })
    }
}

/// Tells of the layer at an index, in the order of names. LUTMUL_RANGE beyond the last one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_file_layer_at(
    file: *const lutmul_file,
    index: usize,
    layer: *mut lutmul_layer,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_file_layer_at", |c| {
            let file = c.get(file, "file")?;
            let Some(found) = file.layers.get(index) else {
                let why = format!("{index} is not within the {} layers", file.layers.len());
                return Err(Failure::new(LUTMUL_RANGE, "index", why));
            };
            let (names, shape) = (&found.names, file.linear(found).shape);
            let value = lutmul_layer {
                size: 0,
                name: names.name.as_ptr(),
                format: names.format.as_ptr(),
                granularity: names.granularity.as_ptr(),
                n: shape.0,
                k: shape.1,
            };
            c.write_sized(layer, value, "layer")
        })
    }
}

/// Reads the whole file now, and has its pages ready. Worth it if all layers will be used, more than once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_file_prefault(file: *const lutmul_file) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_file_prefault", |c| c.get(file, "file")?.checkpoint.prefault().of("file"))
    }
}

/// Makes weights of a layer: its codes and signs stay where they are mapped, shared by all weights of the file.
/// name is the layer's, or that of the original tensor. The file may be freed before its weights.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_file_weights(
    file: *const lutmul_file,
    name: *const c_char,
    weights: *mut *mut lutmul_weights,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_file_weights", |c| {
            let out = c.out(weights, "weights")?;
            let checkpoint = &c.get(file, "file")?.checkpoint;
            let name = c.text(name, "name")?;
            let layer = checkpoint.linear(name).ok_or_else(|| {
                let why = format!("{} has no layer \"{name}\"", checkpoint.path().display());
                Failure::new(LUTMUL_NAME, "name", why)
            })?;
            out.set(lutmul_weights(checkpoint.weights(layer).of("file")?));
            Ok(())
        })
    }
}

/// Frees a file, or nothing if it is NULL. Weights made of it stay as they are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_file_free(file: *mut lutmul_file) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe { call("lutmul_file_free", |c| c.free(file, "file")) }
}
