//! What the README says of kernels, formats and code is so.

use lutmul::{Activation, Format, Granularity, KernelInfo, Lut, Mode, Weights};

fn readme() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    std::fs::read_to_string(path).expect("the README")
}

/// The cells of the rows of the table under a heading, without its head.
fn table(readme: &str, heading: &str) -> Vec<Vec<String>> {
    let section = readme.split_once(&format!("\n## {heading}\n")).expect("the heading").1;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.skip(2).map(|row| row.split('|').map(|cell| cell.trim().into()).collect()).collect()
}

/// The row of a kernel as it should be.
fn row(info: KernelInfo) -> Vec<String> {
    let w: Vec<f32> = (0..4000).map(|i| (i as f32 * 0.37).sin()).collect();
    let own = Lut::new(&std::array::from_fn(|c| (c as f32 * 0.1).sin())).expect("a table");
    let (mut cells, mut others) = (Vec::new(), Vec::new());
    for format in Format::NAMED.into_iter().chain([Format::Table(own)]) {
        let encoded = Weights::encode(&w, (40, 100), &format, Granularity::Row).expect("weights");
        let decoder = info.decoder(&encoded).to_string();
        let column =
            matches!(format, Format::QinsLinear | Format::E4m3 | Format::E5m2 | Format::Int8);
        match column {
            true => cells.push(decoder),
            false if others.contains(&decoder) => {}
            false => others.push(decoder),
        }
    }
    let arch = if info.features().is_empty() { "any" } else { std::env::consts::ARCH };
    let needs = info.features().join(", ");
    let needs = if needs.is_empty() { "nothing".into() } else { needs };
    let modes = Mode::ALL.map(Mode::name).join(", ");
    let head = [format!("`{}`", info.name()), arch.into(), needs];
    head.into_iter().chain(cells).chain([others.join("; "), modes]).collect()
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

#[test]
fn the_table_of_kernels() {
    // Kernels that exist for comparison only are not in the table.
    let kernels = KernelInfo::all().filter(|info| !info.name().ends_with("-gather"));
    let expected: Vec<_> = kernels.map(|info| line(&row(info))).collect();
    // Rows of other architectures are for their own builds to check.
    let here = |row: &&Vec<String>| ["any", std::env::consts::ARCH].contains(&row[1].as_str());
    let found: Vec<_> =
        table(&readme(), "Kernels").iter().filter(here).map(|row| line(row)).collect();
    assert!(
        found == expected,
        "README.md, section Kernels: the rows of {} and of any CPU should be, in this order:\n{}",
        std::env::consts::ARCH,
        expected.join("\n")
    );
}

#[test]
fn the_table_of_formats() {
    let rows = table(&readme(), "Formats");
    let (last, rows) = rows.split_last().expect("rows");
    assert_eq!(last[0], "`table:FILE`");
    let of_format = |format: &Format| {
        let signs = if format.has_signs() { "yes" } else { "no" };
        [format!("`{format}`"), signs.into(), format.bits().to_string()]
    };
    let expected: Vec<_> = Format::NAMED.iter().map(of_format).collect();
    let found: Vec<_> =
        rows.iter().map(|row| [row[0].clone(), row[2].clone(), row[3].clone()]).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_names() {
    let rows = table(&readme(), "Names");
    let row = |name: &str| rows.iter().find(|row| row[0] == name).expect("a row")[1].clone();
    let list = |names: &mut dyn Iterator<Item = &str>| {
        names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    let formats = Format::NAMED.map(|format| format.name());
    assert_eq!(row("formats"), list(&mut formats.into_iter().chain(["table:FILE"])));
    assert_eq!(row("modes"), list(&mut Mode::ALL.into_iter().map(Mode::name)));
    assert_eq!(row("activations"), list(&mut Activation::ALL.into_iter().map(Activation::name)));
    for name in ["tensor", "row", "group:32", "block:128x128"] {
        name.parse::<Granularity>().expect("a granularity");
    }
    assert_eq!(row("scales"), "`tensor`, `row`, `group:N`, `block:RxC`");
}

#[test]
fn the_code_is_that_of_the_quickstart() {
    let example = include_str!("../examples/quickstart.rs");
    let example = example.split_once("\n\n").expect("opening comment").1;
    let readme = readme();
    let code = readme.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```"));
    assert!(code.is_some_and(|(code, _)| code == example), "README.md should have:\n{example}");
}
