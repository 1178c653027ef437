//! What a process that is killed leaves behind, and who tidies up.

#![cfg(unix)]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Dir, File, model, weights};
use serde_json::json;

/// Temporary files and directories.
fn temporary(dir: &Dir) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir.0.path()).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.to_str().unwrap().contains("/.lutmul-")).collect()
}

/// Starts a conversion, which is killed if the test fails.
struct Conversion(Child);

impl Conversion {
    /// Begins, and waits until there is one temporary file more.
    fn start(dir: &Dir, from: &str, to: &str) -> Self {
        let before = temporary(dir).len();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lutmul"));
        command.args(["convert", from, to, "--format", "kmeans"]).current_dir(dir.0.path());
        let mut child = Self(command.stdout(Stdio::null()).spawn().unwrap());
        let start = Instant::now();
        while temporary(dir).len() == before {
            assert!(child.0.try_wait().unwrap().is_none(), "it is done already");
            assert!(start.elapsed() < Duration::from_secs(60), "it has begun nothing");
            std::thread::sleep(Duration::from_micros(200));
        }
        child
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    fn ends(mut self) -> bool {
        self.0.wait().unwrap().success()
    }
}

impl Drop for Conversion {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A large model as a file and as shards, for which conversions take a moment, and a small one.
fn models() -> Dir {
    let dir = Dir::new();
    let large = File::default().with_f32("w.weight", &[2048, 1024], &weights(2048 * 1024)).bytes();
    dir.put("large", &large);
    std::fs::create_dir(dir.path("shards")).unwrap();
    dir.put("shards/1.safetensors", &large);
    let index = json!({ "weight_map": { "w.weight": "1.safetensors" } });
    dir.put("shards/model.safetensors.index.json", index.to_string().as_bytes());
    dir.put("small", &model().bytes());
    dir
}

#[test]
fn the_next_one_removes_what_a_killed_one_left() {
    let dir = models();
    for from in ["large", "shards"] {
        for next in ["small", "shards"] {
            let conversion = Conversion::start(&dir, from, "never");
            conversion.signal("-KILL");
            assert!(!conversion.ends());
            assert_eq!(temporary(&dir).len(), 1, "what {from} left");
            dir.succeed(&["convert", next, "out"]);
            assert!(temporary(&dir).is_empty(), "after {next}");
            assert!(!dir.path("never").exists());
            let out = dir.path("out");
            if out.is_dir() { std::fs::remove_dir_all(out) } else { std::fs::remove_file(out) }
                .unwrap();
        }
    }
}

#[test]
fn the_living_are_left_alone() {
    let dir = models();
    let file = Conversion::start(&dir, "large", "file-out");
    file.signal("-STOP");
    let shards = Conversion::start(&dir, "shards", "shards-out");
    shards.signal("-STOP");
    let live = temporary(&dir);
    assert_eq!(live.len(), 2);
    dir.succeed(&["convert", "small", "small-out"]);
    dir.succeed(&["convert", "shards", "other-out"]);
    assert_eq!(temporary(&dir).len(), 2);
    assert!(live.iter().all(|path| path.exists()));
    for conversion in [file, shards] {
        conversion.signal("-CONT");
        assert!(conversion.ends());
    }
    assert!(temporary(&dir).is_empty());
    dir.succeed(&["verify", "large", "file-out"]);
    dir.succeed(&["verify", "shards", "shards-out"]);
}
