//! The kernels of lutmul.

mod table;

pub use table::{ClosedForm, Planes, Table};
