//! The program: answers, and what it says to bad input.

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

fn program(args: &[&str], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lutmul-chat"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    // One that ends without reading is no fault of the test's.
    let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_bytes());
    child.wait_with_output().expect("the program's end")
}

/// What it says on standard error, having failed and printed nothing.
fn refused(args: &[&str], stdin: &str) -> String {
    let output = program(args, stdin);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
    assert!(output.stdout.is_empty() && said.starts_with("error: "), "{args:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn answered(args: &[&str], stdin: &str) -> (String, String) {
    let output = program(args, stdin);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(output.status.success(), "{args:?}: {said}");
    (String::from_utf8(output.stdout).expect("whole characters"), said)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}

#[test]
fn answers_are_the_same_each_time() {
    let folder = common::llama();
    let model = text(folder.path());
    let drawn = ["--prompt", "Say something.", "--max-tokens", "40", "--temperature", "1.5"];
    let ask = |more: &[&str]| answered(&[&[model][..], &drawn[..], more].concat(), "").0;
    let first = ask(&["--seed", "5"]);
    assert!(first.chars().count() > 5);
    assert_eq!(first, ask(&["--seed", "5", "--threads", "1"]));
    assert_ne!(first, ask(&["--seed", "6"]));

    let (greedy, figures) = answered(&[model, "--max-tokens", "12"], "Say something.");
    assert_eq!(greedy, answered(&[model, "--max-tokens", "12", "-p", "Say something."], "").0);
    for part in ["prompt: ", "first token after ", "answer: ", "resident memory: "] {
        assert!(figures.contains(part), "{figures}");
    }
    let system = ["--max-tokens", "12", "-p", "Say something.", "--system", "Be brief."];
    answered(&[&[model][..], &system[..]].concat(), "");
}

/// Of a model that knows no end.
#[test]
fn answers_end_with_the_context() {
    let folder = common::llama();
    let mut config = common::config("LlamaForCausalLM");
    config["eos_token_id"] = serde_json::Value::Null;
    fs::write(folder.path().join("config.json"), config.to_string()).expect("written");
    let (_, said) = answered(&[text(folder.path()), "--raw", "-p", "abcde", "--context", "9"], "");
    assert!(said.contains("answer: 5 tokens") && said.contains("the context is full"), "{said}");
}

#[test]
fn prompts_that_cannot_be_answered_are_refused() {
    let folder = common::llama();
    let model = text(folder.path());
    assert!(refused(&[model, "--prompt", ""], "").contains("the prompt is empty"));
    assert!(refused(&[model], "").contains("the prompt is empty"));
    assert!(refused(&[model, "--prompt", " \n"], "").contains("the prompt is empty"));
    let long = refused(&[model], &"x".repeat(common::CONTEXT));
    assert!(long.contains("the context of 1024 has no room"), "{long}");
    let long = refused(&[model, "--context", "2000", "-p", "x"], "");
    assert!(long.contains("made for 1024 tokens"), "{long}");
    assert!(refused(&[model, "--prompt", "x", "--context", "3"], "").contains("--context"));
}

#[test]
fn folders_that_are_no_models_are_refused() {
    let folder = common::llama();
    let (path, model) = (folder.path(), text(folder.path()));
    let ask = || refused(&[model, "--prompt", "x"], "");
    assert!(refused(&["/nowhere/at/all", "-p", "x"], "").contains("/nowhere/at/all: No such file"));
    fs::rename(path.join("tokenizer.json"), path.join("away")).expect("renamed");
    let said = ask();
    assert!(said.contains("tokenizer.json: No such file"), "{said}");
    fs::write(path.join("tokenizer.json"), "{").expect("written");
    assert!(ask().contains("tokenizer.json: "));
    fs::rename(path.join("away"), path.join("tokenizer.json")).expect("renamed");
    fs::write(path.join("tokenizer_config.json"), r#"{"chat_template": "{% for %}"}"#)
        .expect("written");
    assert!(ask().contains("the chat template"));
    fs::remove_file(path.join("tokenizer_config.json")).expect("removed");
    assert!(ask().contains("has no chat template; --raw"));
    answered(&[model, "--raw", "--prompt", "x", "--max-tokens", "2"], "");

    let config = |value: serde_json::Value| {
        fs::write(path.join("config.json"), value.to_string()).expect("written");
        ask()
    };
    let said = config(common::config("MambaForCausalLM"));
    assert!(
        said.contains("\"MambaForCausalLM\" is none of LlamaForCausalLM, Phi3ForCausalLM"),
        "{said}"
    );
    let said = config(common::config("Phi3ForCausalLM"));
    assert!(
        said.contains("model.layers.0.self_attn.qkv_proj.weight is missing, and 3 more"),
        "{said}"
    );
    fs::remove_file(path.join("config.json")).expect("removed");
    assert!(ask().contains("config.json: No such file"));
}

#[test]
fn tensors_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = common::config("LlamaForCausalLM");
    let said = |change: &dyn Fn(&mut common::Tensors)| {
        let mut tensors = common::tensors(false);
        change(&mut tensors);
        common::write(folder.path(), &config, &tensors);
        refused(&[text(folder.path()), "--prompt", "x"], "")
    };
    let missing = said(&|t| drop(t.remove("model.layers.1.mlp.down_proj.weight")));
    assert!(missing.contains("model.layers.1.mlp.down_proj.weight is missing\n"), "{missing}");
    for name in ["model.norm.weight", "model.embed_tokens.weight"] {
        let missing = said(&|t| drop(t.remove(name)));
        assert!(missing.contains(&format!("{name} is missing")), "{missing}");
    }
    let shape = said(&|t| {
        let tensor = t.get_mut("model.layers.0.self_attn.k_proj.weight").expect("a tensor");
        (tensor.0, tensor.1) = (vec![16, 64], vec![0.5; 16 * 64]);
    });
    assert!(shape.contains("is 16×64; by the config it is 32×64"), "{shape}");
    let shape = said(&|t| {
        let tensor = t.get_mut("model.norm.weight").expect("a tensor");
        (tensor.0, tensor.1) = (vec![63], vec![0.5; 63]);
    });
    assert!(shape.contains("has shape [63]; by the config it is [64]"), "{shape}");
    let nan = said(&|t| t.get_mut("lm_head.weight").expect("a tensor").1[70] = f32::NAN);
    assert!(nan.contains("NaN at row 1, column 6"), "{nan}");
}

/// A file with holes for weights, a terabyte of them.
#[cfg(target_os = "linux")]
#[test]
fn models_beyond_memory_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (hidden, vocabulary) = (1usize << 18, 1usize << 21);
    let mut config = common::config("LlamaForCausalLM");
    config["hidden_size"] = hidden.into();
    config["vocab_size"] = vocabulary.into();
    config["head_dim"] = 16.into();
    common::write(folder.path(), &config, &common::Tensors::new());
    let (mut header, mut end) = (serde_json::Map::new(), 0usize);
    for (name, (shape, _)) in common::tensors(false) {
        let grow = |size: &usize| match *size {
            common::HIDDEN if !name.contains("q_proj") && !name.contains("o_proj") => hidden,
            common::VOCABULARY => vocabulary,
            size => size,
        };
        let mut shape: Vec<usize> = shape.iter().map(grow).collect();
        if name.contains("q_proj") {
            shape = vec![64, hidden];
        }
        if name.contains("o_proj") {
            shape = vec![hidden, 64];
        }
        let bytes = 2 * shape.iter().product::<usize>();
        header.insert(
            name,
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [end, end + bytes]}),
        );
        end += bytes;
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = File::create(folder.path().join("model.safetensors")).expect("a file");
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("written");
    file.write_all(header.as_bytes()).expect("written");
    file.set_len((8 + header.len() + end) as u64).expect("a file with holes");
    let said = refused(&[text(folder.path()), "--prompt", "x"], "");
    assert!(said.contains("of memory are needed"), "{said}");
}

#[test]
fn comparing_a_small_model_gives_tables_json_and_a_picture() {
    let folder = common::llama();
    let [json, plot] = ["a.json", "a.svg"].map(|name| folder.path().join(name));
    let args = [
        "compare",
        text(folder.path()),
        "--quick",
        "--threads",
        "1,2",
        "--format",
        "int8,qins-linear/group:32",
        "--mode",
        "f32,a16",
        "--json",
        text(&json),
        "--plot",
        text(&plot),
    ];
    let (table, _) = answered(&args, "");
    for part in
        ["int8/row", "qins-linear/group:32", "perplexity", "top-1", "prompt of 64", "2 threads"]
    {
        assert!(table.contains(part), "{part}: {table}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(&json).expect("JSON")).expect("sound");
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2 + 2 * 2);
    for row in rows {
        let (name, kl) =
            (&row["linears"], row["quality"]["total"]["kl"].as_f64().expect("a number"));
        // int8 holds these weights; the baseline is what is compared with.
        let exact = *name == "f32" || (*name == "int8/row" && row["mode"] == "f32");
        assert!(kl.abs() < if exact { 1e-9 } else { 1e-2 }, "{row}");
        // Two bytes of activations, beside f32's on the same weights.
        match (row["mode"].as_str(), row["quality"]["arithmetic"]["kl"].as_f64()) {
            (Some("a16"), Some(kl)) => assert!(kl.abs() < 1e-6, "{row}"),
            (Some("f32" | "candle"), None) => {}
            _ => panic!("{row}"),
        }
        assert!(row["resident"].as_u64().expect("bytes") > 1 << 20);
        assert_eq!(row["speeds"].as_array().expect("speeds").len(), 2);
    }
    assert!(fs::read_to_string(&plot).expect("a picture").contains("</svg>"));
}
