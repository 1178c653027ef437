//! Weights: made of the caller's codes, encoded from floats, and back.

use std::ffi::c_char;

use lutmul::{Bytes, Granularity, NonFinite, Scales, Unaligned, Weights};

use crate::call::{Caller, call};
use crate::handle::Kind;
use crate::matrix::{Matrix, lutmul_matrix, lutmul_matrix_mut, with_element};
use crate::sized::SizedStruct;
use crate::status::*;
use crate::table::lutmul_table;
use crate::workspace::{self, lutmul_workspace};

/// A matrix of weights, [n, k]. Never changes: any threads may use it at a time.
pub struct lutmul_weights(pub(crate) Weights<'static>);

impl Kind for lutmul_weights {
    const NAME: &'static str = "lutmul_weights";
}

/// What weights are made of. Counts are there to be checked against n and k.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_codes {
    /// The sizeof of this struct.
    pub size: usize,
    /// Out features: rows.
    pub n: usize,
    /// In features: columns.
    pub k: usize,
    /// The table; may be freed afterwards.
    pub table: *const lutmul_table,
    /// Codes, [n, k] row-major. Not copied: they must stay until the weights are freed.
    pub codes: *const u8,
    /// Bytes of the codes: n · k.
    pub codes_size: usize,
    /// Sign plane, [n, ⌈k/8⌉] row-major: bit k % 8 of byte k / 8 is set for a negative weight; bits beyond k
    /// are ignored. NULL if there is none. Not copied: as the codes.
    pub signs: *const u8,
    /// Bytes of the sign plane: n · ⌈k/8⌉, or 0.
    pub signs_size: usize,
    /// Scales, finite, row-major over the grid of what they cover, at any alignment. Copied.
    pub scales: *const f32,
    /// How many there are: 1, n, n · ⌈k/N⌉ or ⌈n/R⌉ · ⌈k/C⌉.
    pub scales_count: usize,
    /// What a scale covers: "tensor", "row", "group:N" (N weights of a row) or "block:RxC".
    pub granularity: *const c_char,
    /// What errors call the weights; NULL: "weights". Copied.
    pub name: *const c_char,
    /// 1: codes in use whose entry is NaN or infinite are propagated as IEEE 754 says, in modes "f32" and "bf16"
    /// only. 0: they are an error, LUTMUL_NON_FINITE.
    pub propagate_non_finite: u64,
}

// SAFETY: as the trait asks.
unsafe impl SizedStruct for lutmul_codes {}

/// Where weights lie and what they are. Pointers are those of the weights: they end with them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_weights_info {
    /// The sizeof of this struct, set before the call.
    pub size: usize,
    /// Out features: rows.
    pub n: usize,
    /// In features: columns.
    pub k: usize,
    /// Codes, [n, k].
    pub codes: *const u8,
    /// Sign plane, [n, ⌈k/8⌉], or NULL.
    pub signs: *const u8,
    /// Scales, row-major over their grid.
    pub scales: *const f32,
    /// How many scales there are.
    pub scales_count: usize,
    /// Rows that a scale covers, at most n.
    pub scale_rows: usize,
    /// Columns that a scale covers, at most k.
    pub scale_cols: usize,
    /// The table: 256 floats.
    pub table: *const f32,
    /// Bytes that a product reads.
    pub bytes: usize,
}

// SAFETY: as the trait asks.
unsafe impl SizedStruct for lutmul_weights_info {}

/// What encoding has cost: decoded weights against the original ones.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct lutmul_error_report {
    /// The sizeof of this struct, set before the call.
    pub size: usize,
    /// Weights compared.
    pub count: usize,
    /// Mean of |decoded − original|.
    pub mean_abs: f64,
    /// Largest |decoded − original|.
    pub max_abs: f64,
    /// Root of the mean of (decoded − original)².
    pub rms: f64,
    /// Root of the mean of original².
    pub original_rms: f64,
    /// 20 · log10(original_rms / rms) in dB; infinite without an error.
    pub sqnr_db: f64,
    /// Share of weights whose code has the smallest or the largest entry in use.
    pub share_at_ends: f64,
    /// Different codes in use, of 256.
    pub codes_used: usize,
}

// SAFETY: as the trait asks.
unsafe impl SizedStruct for lutmul_error_report {}

fn granularity(c: &Caller, text: *const c_char, argument: &str) -> Result<Granularity> {
    c.text(text, argument)?.parse().of(argument)
}

/// Makes weights of codes that the caller has. Codes and signs are borrowed, at any alignment; nothing is
/// repacked.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_weights_create(
    codes: *const lutmul_codes,
    weights: *mut *mut lutmul_weights,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_weights_create", |c| {
            let out = c.out(weights, "weights")?;
            let given = c.read_sized(codes, "codes")?;
            let lutmul_codes { n, k, .. } = given;
            let lut = c.get(given.table, "codes.table")?.0.clone();
            let granularity = granularity(c, given.granularity, "codes.granularity")?;
            let scales: &[Unaligned<f32>] =
                c.slice(given.scales.cast(), given.scales_count, "codes.scales")?;
            let scales = scales.iter().map(|s| s.0).collect();
            let scales = Scales::new(scales, (n, k), granularity).of("codes.scales")?;
            let signs = match given.signs.is_null() && given.signs_size == 0 {
                true => None,
                false => {
                    Some(Bytes::Borrowed(c.slice(given.signs, given.signs_size, "codes.signs")?))
                }
            };
            let codes: &'static [u8] = c.slice(given.codes, given.codes_size, "codes.codes")?;
            let name = c.optional_text(given.name, "codes.name")?.unwrap_or("weights");
            let policy = match given.propagate_non_finite {
                0 => NonFinite::Reject,
                1 => NonFinite::Propagate,
                other => {
                    let why = format!("is {other}, neither 0 nor 1");
                    return Err(Failure::new(LUTMUL_VALUE, "codes.propagate_non_finite", why));
                }
            };
            let weights = Weights::new(codes, (n, k), lut, scales)
                .and_then(|w| match signs {
                    Some(signs) => w.with_signs(signs),
                    None => Ok(w),
                })
                .of("codes")?;
            out.set(lutmul_weights(weights.with_name(name).with_non_finite(policy)));
            Ok(())
        })
    }
}

/// Encodes a matrix of floats, [n, k], whose rows follow each other, into a format: "qins-linear", "e4m3", or
/// another name of those that docs/formats.md lists.
///
/// granularity is what a scale covers, as in lutmul_codes; "row" is a good choice. The work is done by the
/// threads of the workspace, which may be NULL: then by the calling one. The result is the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_weights_encode(
    original: *const lutmul_matrix,
    format: *const c_char,
    granularity: *const c_char,
    workspace: *mut lutmul_workspace,
    weights: *mut *mut lutmul_weights,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_weights_encode", |c| {
            let out = c.out(weights, "weights")?;
            let original = Matrix::read(c, original, "original")?;
            let format = c.text(format, "format")?.parse().of("format")?;
            let granularity = self::granularity(c, granularity, "granularity")?;
            let shape = (original.rows, original.cols);
            let weights = with_element!(original.element, T => {
                let elements = original.elements::<T>(c)?;
                workspace::run(c, workspace, || {
                    Weights::encode(elements, shape, &format, granularity).of("original")
                })?
            });
            out.set(lutmul_weights(weights));
            Ok(())
        })
    }
}

/// Does now what the first product would do: looks for codes in use that stand for NaN or infinity, where the
/// table has such entries. LUTMUL_NON_FINITE if there are any and they are not propagated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_weights_prepare(
    weights: *const lutmul_weights,
    workspace: *mut lutmul_workspace,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_weights_prepare", |c| {
            let weights = &c.get(weights, "weights")?.0;
            workspace::run(c, workspace, || weights.prepare().of("weights"))
        })
    }
}

/// Tells of weights: shape, and where their parts lie.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_weights_describe(
    weights: *const lutmul_weights,
    info: *mut lutmul_weights_info,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_weights_describe", |c| {
            let weights = &c.get(weights, "weights")?.0;
            let (n, k) = (weights.n(), weights.k());
            let scales = weights.scales();
            let (scale_rows, scale_cols) = scales.granularity().block((n, k));
            let value = lutmul_weights_info {
                size: 0,
                n,
                k,
                codes: weights.codes().as_ptr(),
                signs: weights.signs().map_or(std::ptr::null(), <[u8]>::as_ptr),
                scales: scales.values().as_ptr(),
                scales_count: scales.values().len(),
                scale_rows: scale_rows.min(n),
                scale_cols: scale_cols.min(k),
                table: weights.lut().values().as_ptr(),
                bytes: weights.bytes(),
            };
            c.write_sized(info, value, "info")
        })
    }
}

/// Decodes rows row_begin to row_end − 1 into out, [row_end − row_begin, k], whose rows follow each other. The
/// work is done by the threads of the workspace, which may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_weights_decode(
    weights: *const lutmul_weights,
    row_begin: usize,
    row_end: usize,
    out: *const lutmul_matrix_mut,
    workspace: *mut lutmul_workspace,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_weights_decode", |c| {
            let weights = &c.get(weights, "weights")?.0;
            let out = Matrix::write(c, out, "out")?;
            let expected = (row_end.saturating_sub(row_begin), weights.k());
            let got = (out.rows, out.cols);
            if row_begin <= row_end && expected != got {
                return Err(lutmul::Error::Shape { what: "out", expected, got }).of("out");
            }
            with_element!(out.element, T => {
                let elements = out.elements_mut::<T>(c)?;
                workspace::run(c, workspace, || {
                    weights.decode_rows(row_begin..row_end, elements).of("row_begin, row_end")
                })
            })
        })
    }
}

/// Compares weights with the matrix that they were encoded from, [n, k], whose rows follow each other. The work
/// is done by the threads of the workspace, which may be NULL; the result is the same.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_weights_compare(
    weights: *const lutmul_weights,
    original: *const lutmul_matrix,
    workspace: *mut lutmul_workspace,
    report: *mut lutmul_error_report,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_weights_compare", |c| {
            let weights = &c.get(weights, "weights")?.0;
            let original = Matrix::read(c, original, "original")?;
            let (expected, got) = ((weights.n(), weights.k()), (original.rows, original.cols));
            if expected != got {
                return Err(lutmul::Error::Shape { what: "original", expected, got })
                    .of("original");
            }
            let errors = with_element!(original.element, T => {
                let elements = original.elements::<T>(c)?;
                workspace::run(c, workspace, || weights.error_report(elements).of("original"))?
            });
            let value = lutmul_error_report {
                size: 0,
                count: errors.count,
                mean_abs: errors.mean_abs,
                max_abs: errors.max_abs,
                rms: errors.rms,
                original_rms: errors.original_rms,
                sqnr_db: errors.sqnr_db,
                share_at_ends: errors.share_at_ends,
                codes_used: errors.codes_used,
            };
            c.write_sized(report, value, "report")
        })
    }
}

/// Frees weights, or nothing if they are NULL. No call may be using them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_weights_free(weights: *mut lutmul_weights) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe { call("lutmul_weights_free", |c| c.free(weights, "weights")) }
}
