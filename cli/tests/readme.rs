//! What the README and docs/ say of commands and figures is so.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Dir, as_str};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").into()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of a folder whose names end so.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| as_str(path).ends_with(end));
    files.sort();
    files
}

#[test]
fn commands_and_options_exist() {
    let root = root();
    let mut documents = vec![root.join("README.md"), root.join("cli/README.md")];
    documents.extend(files(&root.join("docs"), ".md"));
    documents.extend(files(&root.join("docs/performance"), ".md"));
    let text = documents.iter().map(|path| read(path)).collect::<Vec<_>>().join("\n");
    let help = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lutmul")).args([command, "--help"]).output();
        let output = output.expect("the program");
        assert!(output.status.success(), "there is no `lutmul {command}`");
        String::from_utf8(output.stdout).expect("text")
    };
    let mut count = 0;
    for line in text.lines() {
        // A command begins a line, follows a prompt, or stands in backticks.
        let marked = line.split('`').skip(1).step_by(2);
        let whole = line.strip_prefix("$ ").or_else(|| line.strip_prefix("    "));
        let whole = whole.map(|line| line.strip_prefix("target/release/").unwrap_or(line));
        for words in marked.chain(whole).filter_map(|text| text.strip_prefix("lutmul ")) {
            // What follows two spaces explains.
            let mut words = words.split("  ").next().unwrap_or_default().split_whitespace();
            let command = words.next().unwrap_or_default();
            if command.chars().all(|c| c.is_ascii_uppercase()) {
                continue;
            }
            let help = help(command);
            for option in words.filter(|word| word.starts_with("--")) {
                assert!(help.contains(option), "`lutmul {command}` has no {option}");
            }
            count += 1;
        }
    }
    assert!(count > 10, "{count} commands found");
}

/// Pages and pictures are what the command makes of the JSON beside them.
#[test]
fn reports_are_those_of_their_records() {
    let folder = root().join("docs/performance");
    let records = files(&folder, ".json");
    let dir = Dir::new();
    for record in &records {
        dir.succeed(&["bench", "--from", as_str(record), "--report", "made"]);
        for made in files(&dir.path("made"), "") {
            let name = made.file_name().expect("a name");
            let (made, kept) = (read(&made), read(&folder.join(name)));
            assert!(made == kept, "docs/performance/{}: not what --from makes", name.display());
        }
    }
    // And nothing beside them but the page about the pages.
    assert_eq!(files(&folder, ".md").len(), records.len() + 1);
}

/// The README shows the picture of a page, if there are any, and has that page's figures.
#[test]
fn figures_of_the_readme() {
    let readme = read(&root().join("README.md"));
    let picture = readme.split("](").find_map(|part| part.split_once("-error.svg)"));
    let Some((page, _)) = picture else {
        let pages = files(&root().join("docs/performance"), ".json");
        assert!(pages.is_empty(), "README.md shows no picture of {pages:?}");
        return;
    };
    let page = read(&root().join(page).with_extension("md"));
    let short = page.split_once("\n## In short\n\n").expect("a section").1;
    let short = short.split("\n\n## ").next().expect("its end");
    assert!(readme.contains(short), "README.md, section Measured, should have:\n{short}");
}
