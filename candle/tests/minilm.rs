//! Models whose linears are codes, beside those of floats: a small random BERT always, the real MiniLM where the
//! variable `LUTMUL_MINILM` names its model.safetensors (`scripts/fetch-models.sh` prints the path).

mod common;

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Result, Tensor};
use common::{Bert, Layers, cosine};
use lutmul::{Format, Granularity, Mode};
use lutmul_candle::Loader;

const CASES: [(Format, Mode); 9] = [
    (Format::QinsLinear, Mode::A16),
    (Format::QinsLinear, Mode::A8),
    (Format::QinsLinear, Mode::A8T),
    (Format::E4m3, Mode::A16),
    (Format::E4m3, Mode::A8),
    (Format::E4m3, Mode::A8T),
    (Format::Int8, Mode::A16),
    (Format::Int8, Mode::A8),
    (Format::Int8, Mode::A8T),
];

/// The smallest cosine over all sentences, for each case.
fn compare(path: &Path, heads: usize, sentences: &[Vec<u32>]) -> Result<HashMap<String, f64>> {
    let loader = Loader::open(path)?;
    let floats = Bert::new(&loader, heads, Layers::Floats)?;
    let expected: Vec<_> = sentences.iter().map(|ids| floats.embed(ids)).collect::<Result<_>>()?;
    let mut found = HashMap::new();
    for (format, mode) in CASES {
        let name = format!("{format} {mode}");
        let loader = loader.clone().with_format(format, Granularity::Row).with_mode(mode);
        let coded = Bert::new(&loader, heads, Layers::Codes)?;
        let mut least = 1f64;
        for (ids, expected) in sentences.iter().zip(&expected) {
            least = least.min(cosine(&coded.embed(ids)?, expected)?);
        }
        println!("{name}: cosine of embeddings ≥ {least:.6}");
        found.insert(name, least);
    }
    Ok(found)
}

#[test]
fn a_random_bert() -> Result<()> {
    let (hidden, wide, vocabulary, layers) = (64, 128, 50, 2);
    let cpu = &Device::Cpu;
    let mut tensors = HashMap::new();
    let mut seed = 1u64;
    // Noise of our own, the same in every run.
    let mut noise = |shape: &[usize], spread: f32, mean: f32| {
        let next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            mean + spread * ((seed >> 40) as f32 / (1 << 23) as f32 - 1.0)
        };
        let values: Vec<f32> = std::iter::repeat_with(next).take(shape.iter().product()).collect();
        Tensor::from_vec(values, shape, cpu)
    };
    let mut add = |name: String, shape: &[usize], spread, mean| -> Result<()> {
        tensors.insert(name, noise(shape, spread, mean)?);
        Ok(())
    };
    for (name, rows) in [("word", vocabulary), ("position", 32), ("token_type", 2)] {
        add(format!("embeddings.{name}_embeddings.weight"), &[rows, hidden], 1.0, 0.0)?;
    }
    let mut norms = vec!["embeddings.LayerNorm".into()];
    for i in 0..layers {
        let layer = format!("encoder.layer.{i}");
        for (name, n, k) in [
            ("attention.self.query", hidden, hidden),
            ("attention.self.key", hidden, hidden),
            ("attention.self.value", hidden, hidden),
            ("attention.output.dense", hidden, hidden),
            ("intermediate.dense", wide, hidden),
            ("output.dense", hidden, wide),
        ] {
            add(format!("{layer}.{name}.weight"), &[n, k], 0.2, 0.0)?;
            add(format!("{layer}.{name}.bias"), &[n], 0.1, 0.0)?;
        }
        norms.extend(["attention.output", "output"].map(|of| format!("{layer}.{of}.LayerNorm")));
    }
    for name in norms {
        add(format!("{name}.weight"), &[hidden], 0.1, 1.0)?;
        add(format!("{name}.bias"), &[hidden], 0.1, 0.0)?;
    }
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("model.safetensors");
    candle_core::safetensors::save(&tensors, &path)?;

    let sentences: Vec<Vec<u32>> = (1..=4)
        .map(|i| (0..5 * i).map(|j| (i * j * 7 + j) % vocabulary as u32).collect())
        .collect();
    let found = compare(&path, 4, &sentences)?;
    assert!(found["qins-linear a16"] >= 0.9999, "{found:?}");
    // Coarser formats and modes, not other models.
    assert!(found.values().all(|cosine| *cosine >= 0.99), "{found:?}");
    assert!(found.values().any(|cosine| *cosine < 0.99999), "codes were not used: {found:?}");
    Ok(())
}

/// Words into pieces as BERT has them: the longest one that is in the vocabulary, then the rest, `##` before it.
fn tokens(vocabulary: &HashMap<&str, u32>, sentence: &str) -> Vec<u32> {
    let spaced = sentence.to_lowercase().replace(|c: char| c.is_ascii_punctuation(), " $0 ");
    let mut ids = vec![vocabulary["[CLS]"]];
    for word in spaced.split_whitespace().map(|word| if word == "$0" { "." } else { word }) {
        let mut rest = word.to_string();
        while !rest.trim_start_matches("##").is_empty() {
            let piece = (1..=rest.len())
                .rev()
                .find_map(|end| Some((*vocabulary.get(rest.get(..end)?)?, end)));
            let Some((id, end)) = piece else {
                ids.push(vocabulary["[UNK]"]);
                break;
            };
            ids.push(id);
            rest = format!("##{}", &rest[end..]);
        }
    }
    ids.push(vocabulary["[SEP]"]);
    ids
}

#[test]
fn minilm() -> Result<()> {
    let Some(path) = std::env::var_os("LUTMUL_MINILM") else {
        eprintln!("LEFT OUT: the real MiniLM: LUTMUL_MINILM names no model.safetensors");
        return Ok(());
    };
    let path = Path::new(&path);
    let words = std::fs::read_to_string(path.with_file_name("vocab.txt"))?;
    let vocabulary = words.lines().zip(0u32..).collect();
    let sentences = [
        "The cat sits on the mat.",
        "A kitten is lying on a rug.",
        "Matrix products straight from eight-bit codes.",
        "Interest rates rose again in the third quarter, to nobody's surprise.",
    ];
    let sentences = sentences.map(|sentence| tokens(&vocabulary, sentence));
    assert!(sentences[0].len() == 9, "{:?}", sentences[0]);
    let floats = Bert::new(&Loader::open(path)?, 12, Layers::Floats)?;
    let near =
        |a: usize, b: usize| cosine(&floats.embed(&sentences[a])?, &floats.embed(&sentences[b])?);
    // That it is MiniLM, and computed right: what means the same is near.
    assert!(near(0, 1)? > 0.5 && near(0, 3)? < 0.2, "{} {}", near(0, 1)?, near(0, 3)?);

    let found = compare(path, 12, &sentences)?;
    assert!(found["qins-linear a16"] >= 0.999, "{found:?}");
    assert!(found.values().all(|cosine| *cosine >= 0.9), "{found:?}");
    Ok(())
}
