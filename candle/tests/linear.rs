//! Layers: what they compute, and what they refuse.

use std::sync::Arc;
use std::thread;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{Linear, Module};
use half::{bf16, f16};
use lutmul::{
    Activation, Context, Element, Format, Granularity, Lut, Mode, Options, Scales, Threads, Weights,
};
use lutmul_candle::{Loader, LutLinear, Rooms};

const N: usize = 37;
const K: usize = 96;

fn noise(count: usize, step: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * step).sin()).collect()
}

fn tensor(shape: &[usize], step: f32) -> Tensor {
    let values = noise(shape.iter().product(), step);
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

fn linear() -> Linear {
    Linear::new(tensor(&[N, K], 0.37), Some(tensor(&[N], 0.71)))
}

fn layer(format: Format, mode: Mode) -> LutLinear {
    let layer = LutLinear::from_linear(&linear(), &format, Granularity::Row).expect("a layer");
    layer.with_options(Options::new().with_mode(mode))
}

/// What lutmul itself gives.
fn expected<T: Element>(layer: &LutLinear, x: &[T], activation: Activation) -> Vec<T> {
    let mut y = vec![T::zeroed(); x.len() / K * N];
    let product =
        layer.weights().product().bias(layer.bias().expect("a bias")).activation(activation);
    product.matmul(x, &mut y, &mut Context::from(*layer.options())).expect("a product");
    y
}

#[test]
fn bits_are_those_of_lutmul() -> Result<()> {
    for mode in Mode::ALL {
        let layer = layer(Format::E4m3, mode).with_activation(Activation::Silu);
        let x = tensor(&[2, 3, K], 0.11);
        let values = x.flatten_all()?.to_vec1::<f32>()?;
        let y = layer.forward(&x)?;
        assert_eq!(y.dims(), [2, 3, N]);
        assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, expected(&layer, &values, Activation::Silu));

        let halves: Vec<f16> = values.iter().map(|x| f16::from_f32(*x)).collect();
        let y = layer.forward(&x.to_dtype(DType::F16)?)?;
        assert_eq!(y.flatten_all()?.to_vec1::<f16>()?, expected(&layer, &halves, Activation::Silu));
        let halves: Vec<bf16> = values.iter().map(|x| bf16::from_f32(*x)).collect();
        let y = layer.forward(&x.to_dtype(DType::BF16)?)?;
        assert_eq!(
            y.flatten_all()?.to_vec1::<bf16>()?,
            expected(&layer, &halves, Activation::Silu)
        );
    }
    Ok(())
}

#[test]
fn near_the_layer_of_floats() -> Result<()> {
    let (x, layer) = (tensor(&[5, K], 0.11), layer(Format::QinsLinear, Mode::A16));
    let error =
        (layer.forward(&x)? - linear().forward(&x)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
    // Half a step of each weight, 1/508 of the largest, and x of magnitudes up to 1.
    assert!(error <= K as f32 / 508.0 && error > 0.0, "{error}");
    Ok(())
}

#[test]
fn any_leading_dimensions_and_views() -> Result<()> {
    let layer = layer(Format::Int8, Mode::A16);
    let x = tensor(&[3, 4, K], 0.11);
    let rows = layer.forward(&x.reshape((12, K))?)?;
    for shape in [&[12, K][..], &[3, 4, K], &[2, 1, 3, 2, K]] {
        let y = layer.forward(&x.reshape(shape)?)?;
        assert_eq!(y.dims(), [&shape[..shape.len() - 1], &[N]].concat());
        assert_eq!(y.reshape((12, N))?.to_vec2::<f32>()?, rows.to_vec2::<f32>()?);
    }
    let token = layer.forward(&x.reshape((12, K))?.get(7)?)?;
    assert_eq!(token.dims(), [N]);
    assert_eq!(token.to_vec1::<f32>()?, rows.get(7)?.to_vec1::<f32>()?);
    // Columns of a wider matrix, and rows in another order.
    let wide = Tensor::cat(&[&x, &x], 2)?;
    for view in [wide.narrow(2, K, K)?, x.transpose(0, 1)?.contiguous()?.transpose(0, 1)?] {
        assert!(!view.is_contiguous());
        assert_eq!(
            layer.forward(&view)?.reshape((12, N))?.to_vec2::<f32>()?,
            rows.to_vec2::<f32>()?
        );
    }
    // No tokens.
    assert_eq!(layer.forward(&tensor(&[0, K], 0.1))?.dims(), [0, N]);
    Ok(())
}

#[test]
fn layers_that_share_x() -> Result<()> {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        // The third takes x in another way, the last in another mode.
        let layers = [
            layer(Format::E4m3, Mode::A16),
            layer(Format::E4m3, Mode::A16).with_activation(Activation::Relu),
            layer(Format::QinsLinear, Mode::A16),
            layer(Format::E4m3, Mode::A8),
        ];
        let x = tensor(&[2, 3, K], 0.11).to_dtype(dtype)?;
        let all = LutLinear::forward_all(&layers.each_ref(), &x)?;
        for (layer, y) in layers.iter().zip(all) {
            let alone = layer.forward(&x)?;
            assert_eq!((y.dims(), y.dtype()), (alone.dims(), dtype));
            let bits = |y: Tensor| y.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
            assert_eq!(bits(y)?, bits(alone)?);
        }
    }
    assert!(LutLinear::forward_all(&[], &tensor(&[2, K], 0.1))?.is_empty());
    Ok(())
}

#[test]
fn threads_share_layers() -> Result<()> {
    let rooms = Rooms::new();
    let layer = layer(Format::QinsLinear, Mode::A16).sharing(&rooms);
    let x = tensor(&[20, K], 0.11);
    let expected = layer.forward(&x)?.to_vec2::<f32>()?;
    thread::scope(|scope| {
        let product =
            || (0..50).all(|_| layer.forward(&x).unwrap().to_vec2::<f32>().unwrap() == expected);
        let threads = [(); 4].map(|()| scope.spawn(product));
        for thread in threads {
            assert!(thread.join().expect("no panic"));
        }
    });
    assert!(rooms.bytes() > 0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
    assert_eq!(pool.install(|| layer.forward(&x))?.to_vec2::<f32>()?, expected);
    let alone = layer.clone().with_options(layer.options().with_threads(Threads::One));
    assert_eq!(alone.forward(&x)?.to_vec2::<f32>()?, expected);
    Ok(())
}

#[test]
fn what_is_refused() -> Result<()> {
    let coded = layer(Format::QinsLinear, Mode::A16);
    let says = |result: Result<Tensor>, what: &str| {
        let error = result.expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    };
    says(coded.forward(&tensor(&[2, K + 1], 0.1)), "x: expected […, 96], got [2, 97]");
    says(coded.forward(&Tensor::new(1f32, &Device::Cpu)?), "a scalar");
    says(coded.forward(&tensor(&[2, K], 0.1).to_dtype(DType::F64)?), "F64");
    let all = LutLinear::forward_all(&[&coded], &tensor(&[2, K], 0.1).to_dtype(DType::U8)?);
    says(all.map(|mut all| all.remove(0)), "U8");
    let bias = coded.clone().with_bias(&tensor(&[N + 1], 0.1));
    says(bias.map(|_| tensor(&[1], 0.1)), "bias: expected the shape [37], got [38]");
    let nan = Linear::new((tensor(&[N, K], 0.1) * f64::NAN)?, None);
    let nan = LutLinear::from_linear(&nan, &Format::Int8, Granularity::Row);
    says(nan.map(|_| tensor(&[1], 0.1)), "NaN at row 0, column 0");
    // A code that stands for NaN.
    let scales = Scales::tensor(1.0, (1, 2)).expect("scales");
    let weights = Weights::new(vec![1, 0x7F], (1, 2), Lut::e4m3(), scales).expect("weights");
    says(
        LutLinear::new(Arc::new(weights)).forward(&tensor(&[1, 2], 0.1)),
        "NaN at row 0, column 1",
    );
    Ok(())
}

#[test]
fn a_loader() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    let tensors = [
        ("block.0.q.weight", tensor(&[N, K], 0.37)),
        ("block.0.q.bias", tensor(&[N], 0.71)),
        ("block.0.k.weight", tensor(&[N, K], 0.53).to_dtype(DType::BF16)?),
        ("block.0.norm.weight", tensor(&[K], 0.3)),
        ("embed_tokens.weight", tensor(&[7, K], 0.3).to_dtype(DType::F16)?),
    ];
    candle_core::safetensors::save(&tensors.iter().cloned().collect(), &path)?;
    let loader =
        Loader::open(&path)?.with_format(Format::QinsLinear, Granularity::Row).with_mode(Mode::A16);
    let block = loader.pp("block").pp(0);

    let (x, q) = (tensor(&[3, K], 0.11), block.linear("q")?);
    assert_eq!(
        q.forward(&x)?.to_vec2::<f32>()?,
        layer(Format::QinsLinear, Mode::A16).forward(&x)?.to_vec2::<f32>()?
    );
    assert!(block.linear("k")?.bias().is_none() && block.linear_no_bias("q")?.bias().is_none());
    assert_eq!(q.options().mode, Mode::A16);
    for (name, tensor) in &tensors {
        assert!(loader.contains(name), "{name}");
        let read = loader.get(tensor.dims(), name)?;
        assert_eq!((read.dtype(), read.dims()), (tensor.dtype(), tensor.dims()), "{name}");
        let values = |t: &Tensor| t.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>();
        assert_eq!(values(&read)?, values(tensor)?, "{name}");
    }
    assert!(!block.contains("v"));
    let error = |what: Result<LutLinear>| what.expect_err("an error").to_string();
    assert!(error(block.linear("v")).contains("there is no matrix \"block.0.v\""));
    assert!(error(block.linear("norm.weight")).contains("is no matrix of weights"));
    let shape = block.get(&[K + 1], "norm.weight").expect_err("a shape").to_string();
    assert!(shape.contains("expected [97], got [96]"), "{shape}");
    assert!(block.tensor("v").expect_err("none").to_string().contains("there is no tensor"));
    assert!(Loader::open(folder.path().join("none")).is_err());

    // lutmul's own files: codes stay as they lie, and give the same bits.
    let coded = folder.path().join("coded.safetensors");
    let conversion = lutmul::checkpoint::Conversion::to_codes(Format::E4m3, Granularity::Row);
    let done =
        lutmul::checkpoint::convert(loader.checkpoint(), &coded, &conversion, &mut |_| Ok(()));
    done.expect("a file");
    let coded = Loader::open(&coded)?.with_mode(Mode::A16);
    let q = coded.pp("block.0").linear("q")?;
    assert_eq!(*q.weights().lut(), Lut::e4m3());
    assert_eq!(
        q.forward(&x)?.to_vec2::<f32>()?,
        layer(Format::E4m3, Mode::A16).forward(&x)?.to_vec2::<f32>()?
    );
    // As a tensor it is what codes stand for.
    let mut decoded = vec![0f32; N * K];
    q.weights().decode(&mut decoded).expect("floats");
    assert_eq!(coded.tensor("block.0.q")?.flatten_all()?.to_vec1::<f32>()?, decoded);
    Ok(())
}
