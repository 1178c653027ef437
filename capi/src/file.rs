//! lutmul's own files.

use std::ffi::{CString, c_char};

use lutmul::checkpoint::{Checkpoint, Layer};

use crate::call::call;
use crate::handle::Kind;
use crate::sized::SizedStruct;
use crate::status::*;
use crate::weights::lutmul_weights;

/// A file of coded layers, as `lutmul convert` writes them, memory-mapped. Never changes: any threads may use it
/// at a time.
pub struct lutmul_file {
    checkpoint: Checkpoint,
    names: Vec<Names>,
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
    fn new(layer: &Layer) -> Option<Self> {
        let string = |text: String| CString::new(text).ok();
        Some(Self {
            name: string(layer.name.clone())?,
            format: string(layer.format.to_string())?,
            granularity: string(layer.granularity.to_string())?,
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

/// Opens a file, maps it, and checks that its layers are whole. Their weights are read where they are mapped,
/// when they are used first.
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
            let names = checkpoint.layers().iter().map(Names::new).collect::<Option<_>>();
            let names = names.ok_or_else(|| {
                Failure::new(
                    LUTMUL_FILE,
                    "path",
                    format!("{path}: a layer's name has a zero in it"),
                )
            })?;
            out.set(lutmul_file { checkpoint, names });
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
            let lutmul_file { checkpoint, names } = c.get(file, "file")?;
            let layers = checkpoint.layers();
            let (Some(found), Some(names)) = (layers.get(index), names.get(index)) else {
                let why = format!("{index} is not within the {} layers", layers.len());
                return Err(Failure::new(LUTMUL_RANGE, "index", why));
            };
            let value = lutmul_layer {
                size: 0,
                name: names.name.as_ptr(),
                format: names.format.as_ptr(),
                granularity: names.granularity.as_ptr(),
                n: found.n,
                k: found.k,
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
        call("lutmul_file_prefault", |c| {
            c.get(file, "file")?.checkpoint.file().prefault().of("file")
        })
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
            let layer = checkpoint.layer(name).ok_or_else(|| {
                let why = format!("{} has no layer \"{name}\"", checkpoint.file().path().display());
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
