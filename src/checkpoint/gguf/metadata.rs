//! Values of a file's metadata.

use gguf_rs_lib::format::metadata::MetadataValue;

/// A text.
pub(super) fn text(value: &MetadataValue) -> Option<&str> {
    match value {
        MetadataValue::String(text) => Some(text),
        _ => None,
    }
}

/// A number, or a boolean as 0 or 1.
pub(super) fn number(value: &MetadataValue) -> Option<f64> {
    value
        .as_f64()
        .or_else(|| value.as_i64().map(|v| v as f64))
        .or_else(|| value.as_u64().map(|v| v as f64))
        .or_else(|| value.as_bool().map(f64::from))
}

/// The values of a list.
pub(super) fn list(value: &MetadataValue) -> Option<impl Iterator<Item = &MetadataValue>> {
    match value {
        MetadataValue::Array(array) => Some(array.iter()),
        _ => None,
    }
}
