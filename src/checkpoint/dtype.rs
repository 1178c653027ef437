//! Types of elements by name.

use safetensors::tensor::Dtype;

/// Types that only other files than safetensors have, and what weights that were made of such are said to come from.
const OTHERS: [&str; 0] = [];

/// The types of safetensors files.
const DTYPES: [(Dtype, &str); 22] = [
    (Dtype::BOOL, "BOOL"),
    (Dtype::F4, "F4"),
    (Dtype::F6_E2M3, "F6_E2M3"),
    (Dtype::F6_E3M2, "F6_E3M2"),
    (Dtype::U8, "U8"),
    (Dtype::I8, "I8"),
    (Dtype::F8_E5M2, "F8_E5M2"),
    (Dtype::F8_E4M3, "F8_E4M3"),
    (Dtype::F8_E8M0, "F8_E8M0"),
    (Dtype::F8_E4M3FNUZ, "F8_E4M3FNUZ"),
    (Dtype::F8_E5M2FNUZ, "F8_E5M2FNUZ"),
    (Dtype::I16, "I16"),
    (Dtype::U16, "U16"),
    (Dtype::F16, "F16"),
    (Dtype::BF16, "BF16"),
    (Dtype::I32, "I32"),
    (Dtype::U32, "U32"),
    (Dtype::F32, "F32"),
    (Dtype::C64, "C64"),
    (Dtype::F64, "F64"),
    (Dtype::I64, "I64"),
    (Dtype::U64, "U64"),
];

/// The name of a type.
pub(super) fn name(dtype: Dtype) -> &'static str {
    DTYPES.iter().find(|known| known.0 == dtype).map_or("another type", |known| known.1)
}

/// A name that is one of a type.
pub(super) fn known(text: &str) -> Option<&'static str> {
    DTYPES.iter().map(|known| known.1).chain(OTHERS).find(|name| *name == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_files() {
        for (dtype, name) in DTYPES {
            assert_eq!(dtype.to_string(), name);
            assert_eq!(known(name), Some(name));
        }
        assert_eq!(known("F33"), None);
    }
}
