//! What opening takes: of models that are large, and of headers that are. Memory is tested; time is printed, as it is another
//! under an emulator, and anything worse than linear would not end.
#![cfg(all(feature = "checkpoint", target_os = "linux"))]

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use lutmul::checkpoint::Checkpoint;
use serde_json::{Map, json};

/// Bytes of this process that are in memory: now, or at most so far.
fn memory(what: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    1024 * line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap()
}

/// A file of this header and so many bytes of data, none of which is on disk.
fn sparse(header: &str, data: u64) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".safetensors").tempfile().unwrap();
    let mut out = file.as_file();
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(header.as_bytes()).unwrap();
    let file_size = 8 + header.len() as u64 + data;
    File::options().write(true).open(file.path()).unwrap().set_len(file_size).unwrap();
    file
}

/// One test, so that nothing else is in memory meanwhile.
#[test]
fn opening_takes_little_memory() {
    // Phi-3.5-mini's size, a layer of QINS at a time: codes, signs, table, scales.
    let (n, k, layers) = (16384, 8192, 29);
    let (mut header, mut record, mut end) = (Map::new(), Map::new(), 0u64);
    let mut add = |name: String, dtype: &str, shape: Vec<usize>, bytes: usize| {
        let offsets = [end, end + bytes as u64];
        end += bytes as u64;
        header.insert(name, json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets }));
    };
    for layer in 0..layers {
        let name = format!("model.layers.{layer}.proj");
        add(format!("{name}.codes"), "U8", vec![n, k], n * k);
        add(format!("{name}.signs"), "U8", vec![n, k / 8], n * k / 8);
        add(format!("{name}.scales"), "F32", vec![n], 4 * n);
        add(format!("{name}.table"), "F32", vec![256], 1024);
        let layer = json!({ "tensor": format!("{name}.weight"), "dtype": "BF16", "shape": [n, k],
                            "format": "qins-linear", "scales": "row", "signs": true });
        record.insert(name, layer);
    }
    let metadata = json!({ "lutmul": json!({ "version": 1, "layers": record }).to_string() });
    header.insert("__metadata__".into(), metadata);
    let file = sparse(&serde_json::Value::from(header).to_string(), end);
    let (before, start) = (memory("VmRSS"), Instant::now());
    let model = Checkpoint::open(file.path()).unwrap();
    for linear in model.linears() {
        assert_eq!(model.weights(linear).unwrap().codes().len(), n * k);
    }
    let (time, grown) = (start.elapsed(), memory("VmRSS") - before);
    println!("{:.1} GB: {time:.1?}, {:.1} MB", end as f64 / 1e9, grown as f64 / 1e6);
    assert!(end > 4_300_000_000 && model.linears().len() == layers);
    assert!(grown < 50_000_000, "{grown} bytes");
    drop(model);

    // A million tensors. The text of their header is in the map, and counts as memory of this process.
    let mut header = String::from("{");
    for i in 0..1_000_000 {
        let comma = if i == 0 { "" } else { "," };
        let shape = if i % 2 == 0 { "[1]" } else { "[1,1]" };
        let entry = format!(
            r#"{comma}"layers.{i:07}.weight":{{"dtype":"U8","shape":{shape},"data_offsets":[{i},{}]}}"#,
            i + 1
        );
        header.push_str(&entry);
    }
    header.push('}');
    let length = header.len();
    let file = sparse(&header, 1_000_000);
    drop(header);
    // Has the system count the peak from here on.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let (before, start) = (memory("VmRSS"), Instant::now());
    let model = Checkpoint::open(file.path()).unwrap();
    assert_eq!(model.others().len(), 1_000_000);
    let (time, peak) = (start.elapsed(), memory("VmHWM").saturating_sub(before));
    println!("{:.1} MB of header: {time:.1?}, {:.1} MB", length as f64 / 1e6, peak as f64 / 1e6);
    assert!(peak < 4 * length, "{peak} bytes for a header of {length}");
}
