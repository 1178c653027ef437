//! Structs that begin with their size, so that they can grow without breaking programs.

use std::mem::MaybeUninit;

use crate::call::Caller;
use crate::status::*;

/// A struct for which all zeros stand for nothing chosen.
///
/// # Safety
/// The struct is `repr(C)`, begins with `size: usize`, and is valid with any bytes in it, zeros too: integers,
/// floats and pointers only.
pub unsafe trait SizedStruct: Copy {}

/// No struct will ever be as large: a larger size is a mistake, and nothing of it is read.
const LIMIT: usize = 1 << 12;

/// Reads a struct: what a shorter one (of an older header) does not have is zero, and a longer one (of a
/// newer header) must have zeros where this library knows nothing.
pub fn read<T: SizedStruct>(caller: &Caller, from: *const T, argument: &str) -> Result<T> {
    let size = size_of_theirs(caller, from, argument)?;
    let known = size.min(size_of::<T>());
    let bytes: &[u8] = caller.slice(from.cast(), size, argument)?;
    if bytes[known..].iter().any(|byte| *byte != 0) {
        let why = format!("sets fields beyond the {known} bytes that this version of lutmul knows");
        return Err(Failure::new(LUTMUL_STRUCT, argument, why));
    }
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are within both; any bytes are a valid `T` (`SizedStruct`).
    unsafe {
        value.as_mut_ptr().cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), known);
        Ok(value.assume_init())
    }
}

/// Writes a struct: as much of it as theirs has room for, and zeros where theirs is longer. Its size stays.
pub fn write<T: SizedStruct>(caller: &Caller, to: *mut T, value: T, argument: &str) -> Result<()> {
    let size = size_of_theirs(caller, to, argument)?;
    let known = size.min(size_of::<T>());
    let bytes: &mut [u8] = caller.slice_mut(to.cast(), size, argument)?;
    let (to, rest) = bytes[size_of::<usize>()..].split_at_mut(known - size_of::<usize>());
    // SAFETY: `known` bytes are within `value`; its padding is never looked at by anyone.
    unsafe {
        let from = (&raw const value).cast::<u8>().add(size_of::<usize>());
        to.as_mut_ptr().copy_from_nonoverlapping(from, to.len());
    }
    rest.fill(0);
    Ok(())
}

fn size_of_theirs<T: SizedStruct>(
    caller: &Caller,
    theirs: *const T,
    argument: &str,
) -> Result<usize> {
    let size = caller.read(theirs.cast::<usize>(), argument)?;
    let whole = size.is_multiple_of(align_of::<usize>());
    if !whole || !(size_of::<usize>()..=LIMIT).contains(&size) {
        let why = format!("is {size}; it must be the sizeof of the struct");
        return Err(Failure::new(LUTMUL_STRUCT, &format!("{argument}.size"), why));
    }
    Ok(size)
}
