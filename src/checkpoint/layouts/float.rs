//! Weights that are floats still; and why what is left over is no linear's.

use super::{Found, Layout, Place, Role, Stored, places};
use crate::checkpoint::files::Files;
use crate::checkpoint::matrix::{Access, Floats, Matrix, is_float};
use crate::checkpoint::model::Reason;
use crate::checkpoint::source::TensorId;
use crate::checkpoint::tensors::Tensor;
use crate::error::Result;

/// The layout of this file: it comes last.
pub(super) struct Float;

/// A matrix of floats.
struct Plain {
    id: TensorId,
    place: Place,
}

impl Stored for Plain {
    fn matrix(&self, files: &Files, access: Access) -> Result<Matrix> {
        let dtype = files.tensor(self.id).dtype;
        let (size, elements) = (dtype.bitsize() / 8, self.place.elements());
        let range = elements.start * size..elements.end * size;
        let bytes = files.file(self.id).part(self.id.tensor as usize, range, access)?;
        Ok(Matrix::Floats(Floats::new(self.place.shape, dtype, bytes)?))
    }

    fn parts(&self) -> Vec<TensorId> {
        vec![self.id]
    }
}

impl Layout for Float {
    fn applies(&self, _: Option<&str>) -> bool {
        true
    }

    fn find(&self, found: &mut Found<'_>) -> Result<()> {
        let files = found.files;
        for id in files.ids() {
            if *found.role(id) != Role::Free {
                continue;
            }
            let tensor = files.tensor(id);
            match why_not(&tensor) {
                Some(reason) => found.set(id, Role::Other(reason)),
                None => {
                    let bytes = tensor.dtype.bitsize() / 8;
                    found.add(id, places(&tensor).into_iter().flatten(), |place| {
                        let size = place.elements().len() * bytes;
                        Ok((Plain { id, place }, None, size))
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// The module whose activations a tensor scales; the name itself, if it is no such scale.
pub(in crate::checkpoint) fn activations_of(name: &str) -> &str {
    const SCALES: [&str; 9] = [
        "input_scale",
        "input_scale_ub",
        "activation_scale",
        "scale_input",
        "output_scale",
        "q_scale",
        "k_scale",
        "v_scale",
        "input_zero_point",
    ];
    let module = SCALES.iter().find_map(|scale| name.strip_suffix(scale));
    // Of a module, or of a tensor without `.weight`.
    module.and_then(|module| module.strip_suffix(['.', '_'])).unwrap_or(name)
}

/// Why a tensor of a model is not, by its name, type and shape, the weight of a linear.
fn why_not(tensor: &Tensor<'_>) -> Option<Reason> {
    const LOOKUPS: [&str; 6] =
        ["embed", "wte", "wpe", "norm", "position", "relative_attention_bias"];
    let name = tensor.name;
    let last = name.rsplit('.').next().unwrap_or(name);
    if activations_of(name) != name {
        return Some(Reason::ActivationScale);
    }
    // Fused experts have no `.weight`, and three dimensions; so have convolutions.
    let experts = name.split('.').any(|part| part == "experts");
    if !is_float(tensor.dtype) {
        return Some(Reason::Dtype);
    }
    match tensor.shape.len() {
        2 => {}
        3 if experts && places(tensor).is_some() => return None,
        _ => return Some(Reason::Dimensions),
    }
    if last != "weight" {
        return Some(Reason::Name);
    }
    let name = name.to_lowercase();
    LOOKUPS.iter().any(|lookup| name.contains(lookup)).then_some(Reason::Lookup)
}

/// Whether a tensor is, by its name, type and shape, the weight of a linear layer.
///
/// These are the 2-D tensors called `….weight` in F32, F16 or BF16, but for embeddings, position tables and norms,
/// which are looked up or multiplied elementwise; and 3-D ones of `experts`, which are lists of such weights.
pub fn is_linear(tensor: &Tensor<'_>) -> bool {
    why_not(tensor).is_none()
}
