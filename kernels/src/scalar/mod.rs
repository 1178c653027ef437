//! Plain Rust, for every CPU: the loops of the other kernels over vectors of four that the compiler may or may not put
//! into registers. The reference that other kernels are compared with.

pub(crate) mod f32;
pub(crate) mod i16;

crate::isa::isa! {
    /// Proof of nothing: every CPU will do.
    Scalar:
}
