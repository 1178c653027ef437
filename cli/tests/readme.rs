//! The commands that the READMEs name exist.

use std::process::Command;

#[test]
fn commands_and_options_exist() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = [root, concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")]
        .map(|path| std::fs::read_to_string(path).expect("a README"))
        .join("\n");
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
