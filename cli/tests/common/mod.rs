//! Running the program on files made by hand.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A directory of its own, with files in it.
pub struct Dir(pub tempfile::TempDir);

impl Dir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// Everything in it.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), fs::read(&path).unwrap_or_default())).collect()
    }

    /// Runs `lutmul` in it.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command(Command::new(env!("CARGO_BIN_EXE_lutmul")).args(args))
    }

    pub fn command(&self, command: &mut Command) -> Output {
        command.current_dir(self.0.path()).output().unwrap()
    }

    /// Runs `lutmul`, which must succeed, and returns what it printed.
    pub fn succeed(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "lutmul {args:?}: {err}");
        assert_eq!(err, "", "lutmul {args:?} says something on stderr");
        out
    }

    /// Runs `lutmul`, which must fail with an error that has all the `words`, print no panic, and
    /// leave every file in the directory as it was and none besides.
    pub fn fail(&self, args: &[&str], words: &[&str]) {
        let before = self.contents();
        let output = self.run(args);
        self.check_failure(&output, &before, &format!("lutmul {args:?}"), words);
    }

    pub fn check_failure(
        &self,
        output: &Output,
        before: &BTreeMap<PathBuf, Vec<u8>>,
        what: &str,
        words: &[&str],
    ) {
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {err}");
        assert_eq!(text(&output.stdout), "", "{what}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{what}: {err}");
        assert!(!err.contains("panic"), "{what}: {err}");
        for word in words {
            assert!(err.contains(word), "{what}: no {word:?} in {err}");
        }
        let after = self.contents();
        let (names, were) = (after.keys(), before.keys());
        assert!(after == *before, "{what}: files are {names:?} and were {were:?}");
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn as_str(path: &Path) -> &str {
    path.to_str().unwrap()
}
