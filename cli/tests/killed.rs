//! Conversions that are killed or interrupted, and carried on with.

#![cfg(unix)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Dir, text};
use serde_json::Value;
use testing::files::{File, weights};

/// A conversion, which is killed if the test fails.
struct Conversion(Child);

impl Conversion {
    fn start(dir: &Dir, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lutmul"));
        command.args(["convert", "in", "out", "--format", "kmeans"]).args(options);
        command.env("RAYON_NUM_THREADS", "1");
        command.current_dir(dir.0.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Waits until so many tensors are noted as done.
    fn wait(&mut self, dir: &Dir, tensors: usize) {
        let start = Instant::now();
        // A head, and a line for each of them.
        while fs::read_to_string(journal(dir)).map_or(0, |text| text.lines().count()) <= tensors {
            assert!(self.0.try_wait().unwrap().is_none(), "it is done already");
            assert!(start.elapsed() < Duration::from_secs(120), "it has noted nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: &str) {
        let kill = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Whether it succeeded, and what it said.
    fn end(mut self) -> (bool, String) {
        let mut error = self.0.stderr.take().unwrap();
        let status = self.0.wait().unwrap();
        let mut said = Vec::new();
        std::io::Read::read_to_end(&mut error, &mut said).unwrap();
        (status.success(), text(&said))
    }
}

impl Drop for Conversion {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn journal(dir: &Dir) -> PathBuf {
    dir.path("out.partial/.lutmul-journal")
}

/// Its tensors.
const COUNT: u64 = 24;

/// A model for which a conversion takes a few seconds.
fn model() -> Dir {
    let dir = Dir::new();
    let values = weights(1024 * 1024);
    let file = (0..COUNT).fold(File::default(), |file, i| {
        file.with_f32(&format!("layer.{i}.weight"), &[1024, 1024], &values)
    });
    dir.put("in", &file.bytes());
    dir
}

fn resumed(dir: &Dir, options: &[&str]) -> u64 {
    let args = [&["convert", "in", "out", "--format", "kmeans", "--json"], options].concat();
    let summary: Value = serde_json::from_str(&dir.succeed(&args)).unwrap();
    summary["bytes_resumed"].as_u64().unwrap()
}

#[test]
fn what_is_done_is_not_done_again() {
    let dir = model();
    dir.succeed(&["convert", "in", "whole", "--format", "kmeans"]);
    let whole = fs::read(dir.path("whole")).unwrap();
    for (signal, killed) in [("-KILL", true), ("-INT", false), ("-TERM", false)] {
        let mut conversion = Conversion::start(&dir, &[]);
        conversion.wait(&dir, 1);
        conversion.signal(signal);
        let (success, said) = conversion.end();
        assert!(!success && !dir.path("out").exists(), "{signal}: {said}");
        assert!(killed || said.contains("out: interrupted"), "{signal}: {said}");

        // Other options, and other models, are not what was begun.
        let other = |args: &[&str], words: &[&str]| {
            let words = [&["out.partial", "unfinished"], words].concat();
            dir.fail(&[&["convert", "in", "out", "--format", "kmeans"], args].concat(), &words);
        };
        other(&["--scales", "tensor"], &["kmeans with scales per row, not", "per tensor"]);
        other(&["--exclude", "layer.3.weight"], &["other tensors"]);
        let modified = dir.path("in").metadata().unwrap().modified().unwrap();
        let touch =
            |time| fs::File::options().write(true).open(dir.path("in")).unwrap().set_modified(time);
        touch(modified + Duration::from_secs(1)).unwrap();
        other(&[], &["\"in\" has changed"]);
        touch(modified).unwrap();

        // A last line that was not written to its end.
        let mut noted = fs::read_to_string(journal(&dir)).unwrap();
        noted.push_str("0 2");
        fs::write(journal(&dir), noted).unwrap();
        let bytes = resumed(&dir, &[]);
        assert!((4 << 20..COUNT * (4 << 20)).contains(&bytes), "{signal}: {bytes}");
        assert!(fs::read(dir.path("out")).unwrap() == whole, "{signal}");
        assert!(!dir.path("out.partial").exists());
        fs::remove_file(dir.path("out")).unwrap();
    }
}

#[test]
fn beginning_anew() {
    let dir = model();
    let mut conversion = Conversion::start(&dir, &["--scales", "tensor"]);
    conversion.wait(&dir, 1);
    // While it is at work nobody else is.
    conversion.signal("-STOP");
    let words = ["out.partial", "another process"];
    for option in ["--force", "--restart"] {
        let output = dir.run(&["convert", "in", "out", "--format", "kmeans", option]);
        let said = text(&output.stderr);
        assert!(!output.status.success() && words.iter().all(|word| said.contains(word)), "{said}");
    }
    conversion.signal("-KILL");
    assert!(!conversion.end().0);
    assert_eq!(resumed(&dir, &["--restart"]), 0);
    dir.succeed(&["verify", "in", "out"]);
    // Of what was begun and never noted nothing is left to carry on with; what is no conversion's is left alone.
    fs::remove_file(dir.path("out")).unwrap();
    fs::create_dir(dir.path("out.partial")).unwrap();
    fs::write(journal(&dir), b"").unwrap();
    assert_eq!(resumed(&dir, &[]), 0);
    fs::remove_file(dir.path("out")).unwrap();
    fs::create_dir(dir.path("out.partial")).unwrap();
    dir.put("out.partial/precious", b"precious");
    for option in ["--force", "--restart"] {
        let args = ["convert", "in", "out", "--format", "kmeans", option];
        dir.fail(&args, &["out.partial", "no conversion has left it"]);
    }
    assert_eq!(fs::read(dir.path("out.partial/precious")).unwrap(), b"precious");
    fs::write(journal(&dir), b"precious, too\n").unwrap();
    dir.fail(&["convert", "in", "out", "--format", "kmeans"], &["out.partial", "no journal"]);
}

/// What was written is looked at before it is taken for done.
#[test]
fn files_that_were_lost_are_made_anew() {
    let dir = model();
    let mut conversion = Conversion::start(&dir, &[]);
    conversion.wait(&dir, 1);
    conversion.signal("-KILL");
    assert!(!conversion.end().0);
    fs::write(dir.path("out.partial/in.safetensors"), b"short").unwrap();
    assert_eq!(resumed(&dir, &[]), 0);
    dir.succeed(&["verify", "in", "out"]);
}
