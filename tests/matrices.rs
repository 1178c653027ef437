//! What x and y may be: slices, matrices whose rows lie apart, arrays. All of them give the same bits.

use lutmul::{Activations, Context, Granularity, Lut, MatMut, MatRef, Threads};
use testing::bad::{BEFORE, fails, ones};
use testing::{activations, rng, weights};

const SHAPE: (usize, usize) = (5, 70);
const M: usize = 3;

fn context() -> Context {
    Context::new().with_threads(Threads::One)
}

#[test]
fn slices_are_matrices() {
    let mut rng = rng("slices_are_matrices");
    let (n, k) = SHAPE;
    let w = weights(&mut rng, SHAPE, &Lut::e4m3(), false, Granularity::Row);
    let x = activations(&mut rng, M * k);
    let mut expected = vec![0f32; M * n];
    let (from, to) = (MatRef::new(&x, (M, k)), MatMut::new(&mut expected, (M, n)));
    w.matmul(from.expect("x"), to.expect("y"), &mut context()).expect("a product");

    let array: [f32; M * 70] = x.clone().try_into().expect("as many");
    let mut packed = Activations::new();
    packed.pack(&x[..], &w, &context().options).expect("packed");
    let mut y = [[0f32; M * 5]; 4];
    let [of_slice, of_vec, of_array, of_packed] = &mut y;
    w.matmul(&x[..], &mut of_slice[..], &mut context()).expect("slices");
    let mut vec = of_vec.to_vec();
    w.matmul(&x, &mut vec, &mut context()).expect("vectors");
    of_vec.copy_from_slice(&vec);
    w.matmul(&array, of_array, &mut context()).expect("arrays");
    w.matmul(&packed, of_packed, &mut context()).expect("packed");
    for y in &y {
        assert_eq!(&y[..], &expected[..]);
    }
}

#[test]
fn slices_that_are_no_matrix() {
    let w = ones(5, 70);
    let mut y = [BEFORE; 10];
    let product = |x: &[f32], y: &mut [f32]| w.matmul(x, y, &mut context());
    let of = |y: &mut [f32], len: usize| fails(y, |y| product(&vec![1.0; len], y));
    assert_eq!(of(&mut y, 139), "x: expected 140 elements for 2×70, got 139");
    assert_eq!(of(&mut y, 141), "x: expected 210 elements for 3×70, got 141");
    assert_eq!(of(&mut y[..9], 140), "y: expected 10 elements for 2×5, got 9");
    assert_eq!(of(&mut y, 70), "y: expected 5 elements for 1×5, got 10");
    assert_eq!(of(&mut y, 0), "y: expected 0 elements for 0×5, got 10");
    product(&[], &mut []).expect("no tokens");
    // How many tokens of nothing there are, a slice can't tell.
    let nothing = ones(5, 0);
    assert!(nothing.matmul(&[1f32], &mut y, &mut context()).is_err());
    nothing.matmul(MatRef::<f32>::new(&[], (2, 0)).expect("x"), &mut y, &mut context()).expect("y");
    assert_eq!(y, [0.0; 10]);
}

#[test]
fn a_product_that_is_told_more() {
    let (w, x) = (ones(4, 8), [1f32; 16]);
    let (mut y, bias) = ([1f32; 4], [1f32, 2.0, 3.0, 4.0]);
    let product = w.product().bias(&bias).accumulate().rows(1..3);
    product.matmul(&x, &mut y, &mut context()).expect("a product");
    assert_eq!(y, [11.0, 12.0, 11.0, 12.0]);
    let refused = |product: lutmul::Product<'_>, len: usize| {
        fails(&mut vec![BEFORE; len], |y| product.matmul(&x, y, &mut context()))
    };
    assert_eq!(
        refused(w.product().rows(3..5), 4),
        "rows 3..5 are not within the 4 rows of the weights"
    );
    let message = refused(w.product().bias(&bias[1..]), 8);
    assert_eq!(message, "bias: expected 4 elements for 1×4, got 3");
}

#[cfg(feature = "ndarray")]
#[test]
fn arrays() {
    use lutmul::Error;
    use ndarray::{Array2, Axis, s};
    use testing::bad::text;

    let mut rng = rng("arrays");
    let (n, k) = SHAPE;
    let w = weights(&mut rng, SHAPE, &Lut::int8(), false, Granularity::Row);
    let x = Array2::from_shape_vec((M, k), activations(&mut rng, M * k)).expect("x");
    let mut expected = Array2::from_elem((M, n), BEFORE);
    w.matmul(&x, &mut expected, &mut context()).expect("arrays");

    // A block of a larger array, to read and to write; its surroundings are left alone.
    let mut large = Array2::from_elem((M + 2, k + 9), f32::NAN);
    large.slice_mut(s![1..=M, 4..4 + k]).assign(&x);
    let mut y = Array2::from_elem((M + 2, n + 3), BEFORE);
    let block = s![1..=M, 2..2 + n];
    w.matmul(large.slice(s![1..=M, 4..4 + k]), y.slice_mut(block), &mut context()).expect("blocks");
    assert_eq!(y.slice(block), expected);
    y.slice_mut(block).fill(BEFORE);
    assert!(y.iter().all(|y| *y == BEFORE));

    // One token, by whatever axis it was taken.
    let one = x.slice(s![1..2, ..]);
    let mut y = Array2::from_elem((1, n), BEFORE);
    w.matmul(one, y.view_mut(), &mut context()).expect("a row");
    assert_eq!(y.row(0), expected.row(1));

    let transposed = Array2::<f32>::zeros((k, M)).reversed_axes();
    let message = text(w.matmul(&transposed, &mut expected, &mut context()));
    assert!(message.contains("x: is an array of strides [1, 3]"), "{message}");
    assert!(message.contains("whose rows are not contiguous"), "{message}");
    let mut upside_down = expected.clone();
    upside_down.invert_axis(Axis(0));
    let message = text(w.matmul(&x, upside_down.view_mut(), &mut context()));
    assert!(message.contains("in reverse order"), "{message}");
    let other = w.matmul(&x, &mut Array2::<f32>::zeros((M, n + 1)), &mut context());
    assert!(matches!(other, Err(Error::Shape { what: "y", .. })));
}
