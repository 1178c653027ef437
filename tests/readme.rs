//! What the README and docs/ say of kernels, formats, modes and code is so.

use std::path::Path;

use lutmul::{
    Activation, Context, Format, Granularity, Kernel, KernelInfo, Lut, Mode, Threads, Weights,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(file)).expect(file)
}

/// The cells of the rows of the table that begins with that head, head and rule left out.
fn table(text: &str, head: &str) -> Vec<Vec<String>> {
    let rows = text.split_once(&format!("\n{head}")).expect(head).1;
    let rows = rows.lines().skip(2).map_while(|line| line.strip_prefix('|')?.strip_suffix('|'));
    rows.map(|row| row.split('|').map(|cell| cell.trim().into()).collect()).collect()
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
    let rows = table(&read("docs/formats.md"), "| kernel | CPU |");
    let found: Vec<_> = rows.iter().filter(here).map(|row| line(row)).collect();
    assert!(
        found == expected,
        "docs/formats.md, section Kernels: the rows of {} and of any CPU should be, in this order:\n{}",
        std::env::consts::ARCH,
        expected.join("\n")
    );
}

#[test]
fn the_table_of_formats() {
    let rows = table(&read("docs/formats.md"), "| name | table |");
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
    let rows = table(&read("docs/formats.md"), "| | |");
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

/// Kernels of this build for one CPU or for any, as the README's heads name them, and those that this CPU runs.
fn kernels(any: bool) -> (String, Vec<Kernel>) {
    let all = KernelInfo::all().filter(|info| !info.name().ends_with("-gather"));
    let of_kind: Vec<_> = all.filter(|info| info.features().is_empty() == any).collect();
    let names: Vec<_> = of_kind.iter().map(|info| format!("`{}`", info.name())).collect();
    (names.join(", "), of_kind.into_iter().filter_map(KernelInfo::kernel).collect())
}

#[test]
fn all_formats_by_all_kernels_in_all_modes() {
    let readme = read("README.md");
    let head = readme.lines().find(|line| line.starts_with("| format | bits")).expect("a head");
    let own = if cfg!(target_arch = "x86_64") { "x86-64" } else { std::env::consts::ARCH };
    let columns: Vec<(usize, Vec<Kernel>)> = [(own, false), ("any", true)]
        .map(|(cpu, any)| {
            let (names, kernels) = kernels(any);
            let cell = format!("{cpu}: {names}");
            let at = head.split('|').map(str::trim).position(|found| found == cell);
            (at.unwrap_or_else(|| panic!("no {cell:?} in {head}")) - 1, kernels)
        })
        .into();
    let (n, k, m) = (5, 70, 3);
    let w: Vec<f32> = (0..n * k).map(|i| (i as f32 * 0.37).sin()).collect();
    let x: Vec<f32> = (0..m * k).map(|i| (i as f32 * 0.11).cos()).collect();
    let own = Lut::new(&std::array::from_fn(|c| (c as f32 * 0.1).sin())).expect("a table");
    let formats = Format::NAMED.into_iter().chain([Format::Table(own)]);
    let rows = table(&readme, "| format | bits");
    assert_eq!(rows.len(), Format::NAMED.len() + 1);
    for (format, row) in formats.zip(rows) {
        let named = !matches!(format, Format::Table(_));
        let name = if named { format.name() } else { "table:FILE" };
        assert_eq!(row[0], format!("`{name}`"));
        assert!(!named || row[1] == format.bits().to_string(), "{name}");
        let weights = Weights::encode(&w, (n, k), &format, Granularity::Row).expect("weights");
        for (column, kernels) in &columns {
            assert_eq!(row[*column], "all modes", "{name}");
            for (kernel, mode) in kernels.iter().flat_map(|k| Mode::ALL.map(|mode| (*k, mode))) {
                let context = Context::new().with_kernel(kernel).with_mode(mode);
                let mut context = context.with_threads(Threads::One);
                let mut y = vec![f32::NAN; m * n];
                weights.matmul(&x, &mut y, &mut context).expect("a product");
                assert!(y.iter().all(|y| y.is_finite()), "{name}, {kernel}, {mode}");
            }
        }
    }
    let modes: Vec<_> =
        table(&readme, "| mode | activations |").iter().map(|r| r[0].clone()).collect();
    assert_eq!(modes, Mode::ALL.map(|mode| format!("`{mode}`")));
}

#[test]
fn the_code_is_that_of_the_smallest_example() {
    let example = include_str!("../examples/smallest.rs");
    let example = example.split_once("\n\n").expect("opening comment").1;
    let readme = read("README.md");
    let code = readme.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```"));
    assert!(code.is_some_and(|(code, _)| code == example), "README.md should have:\n{example}");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 200, "README.md has {lines} lines");
}

/// Files that links of documents lead to are there.
#[test]
fn links() {
    let mut files: Vec<_> = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "kernels/README.md"]
        .map(String::from)
        .into();
    for folder in ["docs", "docs/performance"] {
        for entry in std::fs::read_dir(Path::new(ROOT).join(folder)).expect(folder) {
            let name = entry.expect(folder).file_name().into_string().expect("a name");
            files.extend(name.ends_with(".md").then(|| format!("{folder}/{name}")));
        }
    }
    let mut count = 0;
    for file in &files {
        let folder = Path::new(ROOT).join(file).parent().expect("a folder").to_owned();
        for link in read(file).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") {
                continue;
            }
            assert!(folder.join(path).exists(), "{file}: {link} leads nowhere");
            count += 1;
        }
    }
    assert!(count > 10, "{count} links found");
}
