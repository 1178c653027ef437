//! SmolLM2, where `LUTMUL_SMOLLM2` names its GGUF file (`scripts/fetch-models.sh` prints where it is): its tokenizer
//! and template, its answer, and its bits.

mod common;

use std::path::PathBuf;
use std::process::Command;

use lutmul::checkpoint::GgufFile;
use lutmul::{Context, Format, Granularity, Kernel, Mode};
use lutmul_chat::linear::Coding;
use lutmul_chat::load::Files;
use lutmul_chat::options::on_threads;
use lutmul_chat::text::{Message, Text};

fn model() -> Option<PathBuf> {
    let path = std::env::var_os("LUTMUL_SMOLLM2").map(PathBuf::from);
    if path.is_none() {
        eprintln!("LEFT OUT: LUTMUL_SMOLLM2 names no file");
    }
    path
}

fn user(content: &str) -> Vec<Message> {
    vec![Message { role: "user", content: content.into() }]
}

#[test]
fn the_template_and_the_tokens_are_the_model_s() {
    let Some(path) = model() else { return };
    let files = Files::open(&path).expect("a model");
    let text = Text::of(&files).expect("a tokenizer");
    let rendered = text.render(&user("Hi there, 2024!")).expect("rendered");
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nHi there, 2024!<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(rendered, expected);
    let tokens = text.encode(&rendered).expect("tokens");
    assert_eq!(tokens[..2], [1, 9690], "<|im_start|> and system");
    assert_eq!(files.config.ends, [2], "<|im_end|>");
    let vocabulary = GgufFile::open(&path).expect("the file");
    let vocabulary = vocabulary.texts("tokenizer.ggml.tokens").expect("tokens");
    // Digits are tokens by themselves.
    let digits = tokens.iter().map(|token| vocabulary[*token as usize]).filter(|t| t.len() == 1);
    assert_eq!(digits.filter(|t| t.as_bytes()[0].is_ascii_digit()).collect::<String>(), "2024");
    assert_eq!(text.decode(&tokens).expect("text").matches("Hi there, 2024!").count(), 1);
    let hard = "  naïve →\t🙂\r\n'tis  x=1;\n\n";
    assert_eq!(text.decode(&text.encode(hard).expect("tokens")).expect("text"), hard);
}

#[test]
fn it_knows_the_capital_of_france() {
    let Some(path) = model() else { return };
    for more in [&[][..], &["--format", "int8", "--mode", "f32"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_lutmul-chat"))
            .arg(&path)
            .args(["--prompt", "What is the capital of France?"])
            .args(more)
            .output()
            .expect("the program");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "The capital of France is Paris.\n");
    }
}

#[test]
fn a16_gives_the_same_bits_however_it_is_computed() {
    let Some(path) = model() else { return };
    let files = Files::open(&path).expect("a model");
    let model = files.load(&Coding::All(Format::QinsLinear, Granularity::Row)).expect("loaded");
    let text = Text::of(&files).expect("a tokenizer");
    let tokens =
        text.encode(&text.render(&user("Name a color.")).expect("rendered")).expect("tokens");
    let run = |kernel: Kernel, threads: usize, portion: usize| {
        let context = || Context::new().with_kernel(kernel).with_mode(Mode::A16);
        let logits =
            on_threads(Some(threads), || Ok(common::logits(&model, &tokens, portion, context())));
        common::bits(&logits.expect("threads"))
    };
    let whole = run(Kernel::best(), 2, tokens.len());
    assert!(whole == run(Kernel::best(), 1, 1), "1 thread, token by token");
    for kernel in Kernel::available() {
        assert!(whole == run(kernel, 2, tokens.len()), "{kernel}");
    }
}
