//! Tables.

use std::ffi::c_char;

use lutmul::{Format, Lut, Unaligned};

use crate::call::call;
use crate::handle::Kind;
use crate::status::*;

/// A table of 256 floats, the values that codes stand for. Never changes: any threads may use it.
pub struct lutmul_table(pub(crate) Lut);

impl Kind for lutmul_table {
    const NAME: &'static str = "lutmul_table";
}

/// Makes a table of 256 floats, which are copied. Entries may be NaN or infinite, but not all.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_table_create(
    values: *const f32,
    table: *mut *mut lutmul_table,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_table_create", |c| {
            let out = c.out(table, "table")?;
            let values: &[Unaligned<f32>] = c.slice(values.cast(), 256, "values")?;
            let lut = Lut::new(&std::array::from_fn(|code| values[code].0)).of("values")?;
            out.set(lutmul_table(lut));
            Ok(())
        })
    }
}

/// Makes the table of a format: "qins-linear", "e4m3", or another name of those that docs/formats.md lists. A format
/// whose table is fitted to the weights, as "kmeans" is, has none to give: LUTMUL_VALUE.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_table_of_format(
    format: *const c_char,
    table: *mut *mut lutmul_table,
) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe {
        call("lutmul_table_of_format", |c| {
            let out = c.out(table, "table")?;
            let format: Format = c.text(format, "format")?.parse().of("format")?;
            let fitted = || {
                let why = format!("the table of {format} depends on the weights");
                Failure::new(LUTMUL_VALUE, "format", why)
            };
            out.set(lutmul_table(format.lut().ok_or_else(fitted)?));
            Ok(())
        })
    }
}

/// Frees a table, or nothing if it is NULL. Weights that were made with it stay as they are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lutmul_table_free(table: *mut lutmul_table) -> lutmul_status {
    // SAFETY: the header asks for what `Caller` stands for.
    unsafe { call("lutmul_table_free", |c| c.free(table, "table")) }
}
