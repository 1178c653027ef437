//! Types of elements, alignments, strides and threads: the bits that the Rust interface gives.

use std::ptr::{null, null_mut};

use lutmul::{Context, Element, Format, Granularity, MatRef, Mode, Threads, bf16, f16};
use lutmul_capi::matrix::lutmul_element::{self, *};
use lutmul_capi::matrix::*;
use lutmul_capi::product::lutmul_matmul;
use lutmul_capi::weights::*;
use testing::capi::*;

const M: usize = 9;
const N: usize = 50;
const K: usize = 70;
const STRIDE: usize = K + 3;

/// Bytes of floats in a type, behind `offset` others.
fn bytes<T: Element>(values: &[f32], offset: usize) -> Vec<u8> {
    let mut typed = vec![T::from_f32(0.0); values.len()];
    T::narrow(values, &mut typed);
    let mut bytes = vec![0xAA; offset];
    bytes.extend_from_slice(bytemuck::cast_slice(&typed));
    bytes
}

fn product<X: Element, Y: Element>(x_type: lutmul_element, y_type: lutmul_element, mode: Mode) {
    let (original, x) = (noise(N * K, 7), noise(M * STRIDE, 3));
    let rust = lutmul::Weights::encode(&original, (N, K), &Format::QinsLinear, Granularity::Row);
    let (rust, weights) = (rust.expect("weights"), Weights::encode(N, K, "qins-linear"));
    let typed = bytes::<X>(&x, 0);
    let elements = bytemuck::pod_collect_to_vec::<u8, X>(&typed);
    let mut expected = vec![Y::from_f32(0.0); M * N];
    let mut context = Context::new().with_mode(mode).with_threads(Threads::One);
    let from = MatRef::with_stride(&elements, (M, K), STRIDE).expect("x");
    rust.matmul(from, &mut expected, &mut context).expect("a product");

    let name = std::ffi::CString::new(mode.name()).expect("a name");
    for (threads, offset) in [(0, 0), (0, 1), (3, 3)] {
        let workspace = Workspace::for_products(&weights, M, &name, threads);
        let x = bytes::<X>(&x, offset);
        let mut y = bytes::<Y>(&[f32::NAN; M * N], offset);
        let data = x[offset..].as_ptr().cast();
        let element = x_type as u32;
        let from = lutmul_matrix { data, rows: M, cols: K, stride: STRIDE, element, reserved: 0 };
        let (data, element) = (y[offset..].as_mut_ptr().cast(), y_type as u32);
        let to = lutmul_matrix_mut { data, rows: M, cols: N, stride: 0, element, reserved: 0 };
        // SAFETY: pointers to what lives here, as in all of this file.
        ok(unsafe { lutmul_matmul(workspace.0, weights.0, &from, &to, null()) });
        let what = format!("{} to {}, {mode}, offset {offset}", X::NAME, Y::NAME);
        assert!(y[offset..] == *bytemuck::cast_slice::<Y, u8>(&expected), "{what}");
    }
}

#[test]
fn products() {
    for mode in Mode::ALL {
        product::<f32, f32>(LUTMUL_F32, LUTMUL_F32, mode);
        product::<f32, f16>(LUTMUL_F32, LUTMUL_F16, mode);
        product::<f32, bf16>(LUTMUL_F32, LUTMUL_BF16, mode);
        product::<f16, f32>(LUTMUL_F16, LUTMUL_F32, mode);
        product::<f16, f16>(LUTMUL_F16, LUTMUL_F16, mode);
        product::<bf16, bf16>(LUTMUL_BF16, LUTMUL_BF16, mode);
    }
}

fn there_and_back<T: Element + PartialEq>(element: lutmul_element) {
    let (floats, element) = (noise(N * K, 7), element as u32);
    for offset in [0, 1] {
        let original = bytes::<T>(&floats, offset);
        let elements = bytemuck::pod_collect_to_vec::<u8, T>(&original[offset..]);
        let format = Format::KMeans;
        let rust = lutmul::Weights::encode(&elements, (N, K), &format, Granularity::Group(32));
        let rust = rust.expect("weights");
        let mut expected = vec![T::from_f32(0.0); N * K];
        rust.decode(&mut expected).expect("decoded");

        let workspace = Workspace::new(c"f32", 2);
        let data = original[offset..].as_ptr().cast();
        let from = lutmul_matrix { data, rows: N, cols: K, stride: K, element, reserved: 0 };
        let (mut weights, mut decoded) = (null_mut(), bytes::<T>(&[0.0; N * K], offset));
        let data = decoded[offset..].as_mut_ptr().cast();
        let to = lutmul_matrix_mut { data, rows: N, cols: K, stride: 0, element, reserved: 0 };
        let (format, group) = (c"kmeans".as_ptr(), c"group:32".as_ptr());
        // SAFETY: all zeros are a report.
        let mut report: lutmul_error_report = unsafe { std::mem::zeroed() };
        report.size = size_of_val(&report);
        // SAFETY: as above.
        unsafe {
            ok(lutmul_weights_encode(&from, format, group, workspace.0, &mut weights));
            ok(lutmul_weights_decode(weights, 0, N, &to, workspace.0));
            ok(lutmul_weights_compare(weights, &from, null_mut(), &mut report));
            ok(lutmul_weights_free(weights));
        }
        assert!(decoded[offset..] == *bytemuck::cast_slice::<T, u8>(&expected), "{}", T::NAME);
        let wanted = rust.error_report(&elements).expect("a report");
        assert_eq!((report.count, report.rms), (wanted.count, wanted.rms));
        assert_eq!((report.max_abs, report.codes_used), (wanted.max_abs, wanted.codes_used));
    }
}

#[test]
fn encoding_and_decoding() {
    there_and_back::<f32>(LUTMUL_F32);
    there_and_back::<f16>(LUTMUL_F16);
    there_and_back::<bf16>(LUTMUL_BF16);
}
