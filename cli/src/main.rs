//! The program `lutmul`.

fn main() {}
