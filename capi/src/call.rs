//! The frame of every function, and what callers' pointers become.

use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::handle::{self, Handle, Kind};
use crate::sized::{self, SizedStruct};
use crate::status::*;

/// What the header asks of every caller, as a value: that a pointer which is not NULL points to what its
/// type and the function's text say, and for as long as that says.
///
/// A function of the ABI is handed one by [`call`], and can turn pointers into references only with it.
pub struct Caller(());

/// Runs a function of the ABI: whatever goes wrong, a panic as well, becomes a status and a text.
///
/// # Safety
/// What [`Caller`] stands for is so.
pub unsafe fn call(
    function: &'static str,
    body: impl FnOnce(&Caller) -> Result<()>,
) -> lutmul_status {
    let failure = match catch_unwind(AssertUnwindSafe(|| body(&Caller(())))) {
        Ok(Ok(())) => return LUTMUL_OK,
        Ok(Err(failure)) => failure,
        Err(panic) => Failure::panic(&*panic),
    };
    store(function, &failure);
    failure.status
}

impl Caller {
    /// What a handle stands for.
    pub fn get<T: Kind>(&self, handle: *const T, argument: &str) -> Result<&T> {
        let handle = handle::check(self, handle.cast_mut(), argument)?;
        // SAFETY: a live handle (`check`). Nothing but `free` needs it exclusively, and no call may be
        // under way then (the header; what is within handles has locks of its own).
        Ok(unsafe { &(*handle).value })
    }

    /// Frees a handle; NULL is fine.
    pub fn free<T: Kind>(&self, handle: *mut T, argument: &str) -> Result<()> {
        if handle.is_null() {
            return Ok(());
        }
        let handle = handle::check(self, handle, argument)?;
        // SAFETY: a live handle (`check`), made by `Out::set`, which no other call uses (the header).
        let mut handle = unsafe { Box::from_raw(handle) };
        handle.bury();
        Ok(())
    }

    /// Where a new handle goes. Until then NULL stands there.
    pub fn out<T: Kind>(&self, to: *mut *mut T, argument: &str) -> Result<Out<T>> {
        self.write(to, std::ptr::null_mut(), argument)?;
        Ok(Out(to))
    }

    /// Reads a value at any address.
    pub fn read<T: Copy>(&self, from: *const T, argument: &str) -> Result<T> {
        not_null(from, argument)?;
        // SAFETY: not NULL, so it points to a `T` (`Caller`).
        Ok(unsafe { from.read_unaligned() })
    }

    /// Writes a value to any address.
    pub fn write<T: Copy>(&self, to: *mut T, value: T, argument: &str) -> Result<()> {
        not_null(to, argument)?;
        // SAFETY: not NULL, so it points to room for a `T` (`Caller`).
        unsafe { to.write_unaligned(value) };
        Ok(())
    }

    /// Reads a struct that begins with its size.
    pub fn read_sized<T: SizedStruct>(&self, from: *const T, argument: &str) -> Result<T> {
        sized::read(self, from, argument)
    }

    /// Writes a struct that begins with its size.
    pub fn write_sized<T: SizedStruct>(&self, to: *mut T, value: T, argument: &str) -> Result<()> {
        sized::write(self, to, value, argument)
    }

    /// A string.
    pub fn text(&self, text: *const c_char, argument: &str) -> Result<&str> {
        not_null(text, argument)?;
        // SAFETY: not NULL, so it points to a string that ends (`Caller`).
        let text = unsafe { CStr::from_ptr(text) };
        text.to_str().map_err(|error| {
            let why = format!("is not UTF-8 from byte {} on", error.valid_up_to());
            Failure::new(LUTMUL_NAME, argument, why)
        })
    }

    /// A string that may be left out.
    pub fn optional_text(&self, text: *const c_char, argument: &str) -> Result<Option<&str>> {
        if text.is_null() { Ok(None) } else { self.text(text, argument).map(Some) }
    }

    /// An array of a type that may lie at any address: of bytes, or `Unaligned`. It lives for as long as
    /// the function's text says.
    pub fn slice<'a, T>(&self, first: *const T, len: usize, argument: &str) -> Result<&'a [T]> {
        const { assert!(align_of::<T>() == 1) };
        array_size::<T>(len, argument)?;
        if len == 0 {
            return Ok(&[]);
        }
        not_null(first, argument)?;
        // SAFETY: not NULL, so it points to that many elements (`Caller`); they are no more bytes than an
        // allocation can have (`array_size`), and aligned at any address (the assertion).
        Ok(unsafe { std::slice::from_raw_parts(first, len) })
    }

    /// The same to write to; it is not reached in another way meanwhile.
    pub fn slice_mut<'a, T>(
        &self,
        first: *mut T,
        len: usize,
        argument: &str,
    ) -> Result<&'a mut [T]> {
        const { assert!(align_of::<T>() == 1) };
        array_size::<T>(len, argument)?;
        if len == 0 {
            return Ok(&mut []);
        }
        not_null(first, argument)?;
        // SAFETY: as in `slice`, and nobody else writes to or reads it during the call (`Caller`).
        Ok(unsafe { std::slice::from_raw_parts_mut(first, len) })
    }
}

/// Where a new handle goes, if all goes well.
pub struct Out<T>(*mut *mut T);

impl<T: Kind> Out<T> {
    pub fn set(self, value: T) {
        let handle = Box::into_raw(Box::new(Handle::new(value)));
        // SAFETY: `Caller::out` has written there before.
        unsafe { self.0.write_unaligned(handle.cast()) };
    }
}

/// Refuses NULL.
pub fn not_null<T>(pointer: *const T, argument: &str) -> Result<()> {
    if pointer.is_null() { Err(Failure::new(LUTMUL_NULL, argument, "is NULL")) } else { Ok(()) }
}

/// Refuses arrays of more bytes than an allocation can have.
fn array_size<T>(len: usize, argument: &str) -> Result<()> {
    if is_allocatable::<T>(len) {
        return Ok(());
    }
    let why = format!("{len} elements are beyond PTRDIFF_MAX bytes (a negative number?)");
    Err(Failure::new(LUTMUL_SIZE, argument, why))
}

/// Whether an allocation can have that many elements.
pub fn is_allocatable<T>(len: usize) -> bool {
    len.checked_mul(size_of::<T>()).is_some_and(|bytes| bytes <= isize::MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_panic_crosses() {
        // SAFETY: nothing is done with pointers.
        let status = unsafe { call("test", |_| panic!("number {}", 7)) };
        assert_eq!(status, LUTMUL_INTERNAL);
        // SAFETY: the function returns a string that ends.
        let text = unsafe { CStr::from_ptr(lutmul_last_error()) };
        assert_eq!(text, c"test: a fault of lutmul's own: number 7");
    }
}
