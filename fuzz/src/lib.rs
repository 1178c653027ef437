//! What targets share: putting files together, and using what was read.

use std::sync::LazyLock;

use lutmul::checkpoint::{Checkpoint, Matrix};
use lutmul::{Context, Kernel, MatMut, MatRef, Mode, NonFinite, Threads, Weights};

/// Weights of a matrix that are worth a product.
const MOST: usize = 1 << 11;

/// A safetensors file of a header and data.
pub fn safetensors(header: &[u8], data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

/// Reads all that a model has.
pub fn read(model: &Checkpoint) {
    let errors = model.validate(&mut |_| Ok(()));
    for other in model.others() {
        assert!(other.reason.to_string() != other.name);
    }
    for linear in model.linears() {
        let found = model.linear(&linear.name).expect("a matrix has its name");
        assert_eq!((&found.tensor, found.shape), (&linear.tensor, linear.shape));
        match model.matrix(linear) {
            Err(error) => assert!(!errors.is_empty() && !error.to_string().is_empty()),
            Ok(matrix) => {
                assert_eq!(matrix.shape(), linear.shape);
                let floats = matrix.to_f32().map(|floats| floats.len());
                assert!(
                    floats.is_err()
                        || floats.is_ok_and(|len| len == linear.shape.0 * linear.shape.1)
                );
                if let Matrix::Coded(weights) = matrix {
                    multiply(weights);
                }
            }
        }
    }
}

/// The best kernel and the scalar one, looked for once.
static KERNELS: LazyLock<[Kernel; 2]> = LazyLock::new(|| {
    let scalar = Kernel::available().find(|kernel| kernel.name() == "scalar").expect("scalar");
    [Kernel::best(), scalar]
});

/// Multiplies by weights, by the best kernel and by the scalar one: where a mode promises it, their bits are the same.
/// The codes choose the mode, and whether NaN is an error: many inputs have them all, each in little time.
pub fn multiply(weights: Weights<'_>) {
    let (n, k) = (weights.n(), weights.k());
    if n.saturating_mul(k) > MOST || n > MOST || k > MOST {
        return;
    }
    let choice: usize = weights.codes().iter().map(|code| usize::from(*code)).sum();
    let mode = Mode::ALL[choice % Mode::ALL.len()];
    let policies = [NonFinite::Reject, NonFinite::Propagate];
    let weights = weights.with_non_finite(policies[choice / Mode::ALL.len() % 2]);
    let m = 1 + (n + k) % 5;
    let x: Vec<f32> = (0..m * k).map(|i| (i % 23) as f32 - 9.5).collect();
    let products = KERNELS.map(|kernel| {
        let mut y = vec![f32::NAN; m * n];
        let (x, to) =
            (MatRef::new(&x, (m, k)).expect("x"), MatMut::new(&mut y, (m, n)).expect("y"));
        let context = Context::new().with_kernel(kernel).with_mode(mode);
        weights.matmul(x, to, &mut context.with_threads(Threads::One)).map(|()| y)
    });
    match products {
        [Ok(a), Ok(b)] if mode.is_integer() => {
            assert!(a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()), "{mode}");
        }
        [a, b] => assert_eq!(a.is_ok(), b.is_ok(), "{mode}"),
    }
}
