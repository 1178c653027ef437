//! The C code of the README is that of the smallest example.

#[test]
fn the_code_is_that_of_the_smallest_example() {
    let readme = include_str!("../../README.md");
    let example = include_str!("../examples/smallest.c");
    let section = readme.split_once("\n## From C\n").expect("the section").1;
    let section = section.split("\n## ").next().expect("it ends");
    let code = section.split_once("```c\n").and_then(|s| s.1.split_once("```")).expect("code").0;
    let example: Vec<_> = example.lines().map(str::trim).collect();
    let code: Vec<_> = code.lines().map(str::trim).collect();
    assert!(example.windows(code.len()).any(|part| part == code), "capi/examples/smallest.c");
}
