//! What calls return, and the text of what went wrong.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::fmt::Display;

use lutmul::Error;

/// What a call returns. The numbers never change; later versions may add to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum lutmul_status {
    /// Done.
    LUTMUL_OK = 0,
    /// A pointer is NULL that must not be.
    LUTMUL_NULL = 1,
    /// A handle is none of this library's, of another kind, or freed.
    LUTMUL_HANDLE = 2,
    /// A struct's `size` is not its size, or it is of a later lutmul and sets what this one does not know.
    LUTMUL_STRUCT = 3,
    /// A size is negative, or too large for the address space.
    LUTMUL_SIZE = 4,
    /// Shapes, strides or lengths don't fit each other.
    LUTMUL_SHAPE = 5,
    /// A range of rows, or an index, is outside of what there is.
    LUTMUL_RANGE = 6,
    /// A number that means nothing, or not in this combination.
    LUTMUL_VALUE = 7,
    /// A name is not known, or not UTF-8.
    LUTMUL_NAME = 8,
    /// This CPU can't run the kernel.
    LUTMUL_UNSUPPORTED = 9,
    /// A weight, scale or table entry in use is NaN or infinite.
    LUTMUL_NON_FINITE = 10,
    /// Activations are packed for another kernel, mode or format than the product's.
    LUTMUL_PACKING = 11,
    /// The workspace or the activations have less memory reserved than the product needs.
    LUTMUL_TOO_SMALL = 12,
    /// The handle is in use by another call at this moment.
    LUTMUL_BUSY = 13,
    /// This thread rounds in another direction than to nearest, or flushes subnormal numbers to zero.
    LUTMUL_ENVIRONMENT = 14,
    /// A file can't be read, or is not what it should be.
    LUTMUL_FILE = 15,
    /// There is not enough memory, or no thread to be had.
    LUTMUL_RESOURCES = 16,
    /// A fault of lutmul's own.
    LUTMUL_INTERNAL = 17,
}

pub use lutmul_status::*;

/// Why a call fails.
#[derive(Debug)]
pub(crate) struct Failure {
    pub status: lutmul_status,
    pub text: String,
}

pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Something is wrong with an argument, or with a field of one.
    pub fn new(status: lutmul_status, argument: &str, why: impl Display) -> Self {
        Self { status, text: format!("{argument}: {why}") }
    }

    pub fn panic(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<&str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self::new(LUTMUL_INTERNAL, "a fault of lutmul's own", text.unwrap_or("a panic"))
    }
}

/// Errors of lutmul as those of an argument.
pub(crate) trait OfArgument<T> {
    /// Adds the argument's name, unless the error begins with it or with that of another argument.
    fn of(self, argument: &str) -> Result<T>;
}

impl<T> OfArgument<T> for lutmul::Result<T> {
    fn of(self, argument: &str) -> Result<T> {
        self.map_err(|error| {
            use Error::{Length, Packing, Shape, Stride};
            let status = status_of(&error);
            let text = error.to_string();
            let named =
                matches!(error, Length { .. } | Packing { .. } | Shape { .. } | Stride { .. });
            let begins = text.strip_prefix(argument).is_some_and(|rest| rest.starts_with(':'));
            if named || begins {
                Failure { status, text }
            } else {
                Failure::new(status, argument, text)
            }
        })
    }
}

fn status_of(error: &Error) -> lutmul_status {
    match error {
        Error::Length { .. } | Error::Stride { .. } | Error::Shape { .. } => LUTMUL_SHAPE,
        Error::Overflow { .. } => LUTMUL_SIZE,
        Error::RowRange { .. } => LUTMUL_RANGE,
        Error::NonFinite { .. } | Error::TableNotFinite => LUTMUL_NON_FINITE,
        Error::Unknown { .. } => LUTMUL_NAME,
        Error::UnsupportedKernel { .. } | Error::RefusedKernel { .. } => LUTMUL_UNSUPPORTED,
        Error::Invalid { .. } => LUTMUL_VALUE,
        Error::Packing { .. } => LUTMUL_PACKING,
        Error::Memory { .. } => LUTMUL_RESOURCES,
        Error::Environment { .. } => LUTMUL_ENVIRONMENT,
        Error::File { .. } => LUTMUL_FILE,
        _ => LUTMUL_INTERNAL,
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Keeps the text of a failure for this thread. A thread that is ending keeps none.
pub(crate) fn store(function: &str, failure: &Failure) {
    let text = format!("{function}: {}", failure.text).replace('\0', "\\0");
    let text = CString::new(text).unwrap_or_default();
    let _ = LAST.try_with(|last| last.replace(text));
}

/// What went wrong in the last call on this thread that failed: function, argument and reason, in UTF-8.
/// Empty if none did. Calls that succeed leave it as it is.
///
/// The text is there until another call on this thread fails, or the thread ends.
#[unsafe(no_mangle)]
pub extern "C" fn lutmul_last_error() -> *const c_char {
    LAST.try_with(|last| last.borrow().as_ptr()).unwrap_or(c"".as_ptr())
}
