//! Bits: integer modes give the same logits at every number of threads, in every portion, by every kernel.

mod common;

use lutmul::checkpoint::{Checkpoint, Conversion, convert};
use lutmul::{Context, Format, Granularity, Kernel, Mode};
use lutmul_chat::linear::Coding;
use lutmul_chat::model::{Model, PORTION};
use lutmul_chat::options::on_threads;

fn models() -> Vec<(String, Model)> {
    let folder = common::llama();
    let phi3 = tempfile::tempdir().expect("a folder");
    common::write(phi3.path(), &common::config("Phi3ForCausalLM"), &common::tensors(true));
    let codings = [
        (Format::QinsLinear, Granularity::Row),
        (Format::QinsLinear, Granularity::Group(32)),
        (Format::E4m3, Granularity::Block(32, 32)),
    ];
    let mut models = Vec::new();
    for (format, granularity) in codings {
        let coding = Coding::All(format.clone(), granularity);
        for (name, folder) in [("llama", &folder), ("phi3", &phi3)] {
            let name = format!("{name} {format} {granularity}");
            models.push((name, common::load(folder.path(), &coding)));
        }
    }
    models
}

/// Logits of a model with a number of threads.
fn run(
    model: &Model,
    tokens: &[u32],
    portion: usize,
    threads: usize,
    kernel: Kernel,
    mode: Mode,
) -> Vec<u32> {
    let context = || Context::new().with_kernel(kernel).with_mode(mode);
    let logits =
        on_threads(Some(threads), || Ok(common::logits(model, tokens, portion, context())));
    common::bits(&logits.expect("threads"))
}

#[test]
fn integer_modes_give_the_same_bits_however_they_are_computed() {
    let tokens = common::prompt(75);
    for (name, model) in models() {
        for mode in [Mode::A16, Mode::A24, Mode::A8, Mode::A8T] {
            let whole = run(&model, &tokens, PORTION, 1, Kernel::best(), mode);
            assert!(whole.iter().any(|bits| *bits != 0));
            let mut count = 0;
            for kernel in Kernel::available() {
                let one = run(&model, &tokens, PORTION, 1, kernel, mode);
                assert!(whole == one, "{name}, {mode}: {kernel} is not {}", Kernel::best());
                count += 1;
            }
            assert!(count > 1, "the scalar kernel is one of several");
            for (portion, threads) in [(1, 1), (1, 2), (7, 2), (PORTION, 2)] {
                let other = run(&model, &tokens, portion, threads, Kernel::best(), mode);
                assert!(whole == other, "{name}, {mode}: {threads} threads, by {portion} tokens");
            }
        }
    }
}

/// What `lutmul convert` writes is multiplied where it is mapped, and is what loading would have encoded.
#[test]
fn converted_models_give_the_bits_of_those_encoded_on_loading() {
    let folder = common::llama();
    let out = folder.path().join("coded");
    let (format, granularity) = (Format::QinsLinear, Granularity::Row);
    let conversion = Conversion::to_codes(format.clone(), granularity);
    let original = Checkpoint::open(folder.path()).expect("a model");
    convert(&original, &out, &conversion, &mut |_| Ok(())).expect("converted");
    let stored = common::load(&out, &Coding::Stored(Format::Int8, Granularity::Tensor));
    assert_eq!(stored.codings(), [("qins-linear row".to_owned(), 7 * common::LAYERS + 1)]);
    let encoded = common::load(folder.path(), &Coding::Stored(format, granularity));
    let tokens = common::prompt(30);
    let run = |model: &Model| run(model, &tokens, 30, 1, Kernel::best(), Mode::A16);
    assert!(run(&stored) == run(&encoded));
}

/// In a prompt that is longer than a portion, attention is shared by threads, and so are norms.
#[test]
fn long_prompts_have_the_bits_of_tokens() {
    let (_, model) = models().remove(0);
    let tokens = common::prompt(PORTION + 88);
    let whole = run(&model, &tokens, PORTION, 2, Kernel::best(), Mode::A16);
    let single = run(&model, &tokens, 1, 1, Kernel::best(), Mode::A16);
    assert!(whole == single);
}

/// Modes of floats: threads change nothing; the number of tokens and the kernel may.
#[test]
fn threads_change_no_bit_of_float_modes() {
    let tokens = common::prompt(75);
    for (name, model) in models() {
        for mode in [Mode::F32, Mode::Bf16] {
            let [one, two] =
                [1, 2].map(|threads| run(&model, &tokens, 75, threads, Kernel::best(), mode));
            assert!(one == two, "{name}, {mode}");
        }
    }
}
