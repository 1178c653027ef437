//! The page of a report.

use super::record::{Beside, Product, Record};
use super::view::unique;
use crate::chart::error::of_tokens;
use crate::table::threads as of_threads;

/// A table in markdown: the first column flush left, the others flush right.
struct Table(String);

impl Table {
    fn new<S: AsRef<str>>(head: impl IntoIterator<Item = S>) -> Self {
        let head: Vec<_> = head.into_iter().map(|cell| cell.as_ref().to_owned()).collect();
        let rule = "--:|".repeat(head.len().saturating_sub(1));
        let mut table = Self(String::new());
        table.row(&head);
        table.0 += &format!("|---|{rule}\n");
        table
    }

    fn row<S: AsRef<str>>(&mut self, cells: &[S]) {
        // What would end a cell, or a line, is not let through.
        let cells = cells.iter().map(|cell| cell.as_ref().replace(['|', '\n', '\r'], " "));
        self.0 += &format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "));
    }
}

/// A load of the machine above which its figures are not what it can do.
const BUSY: f64 = 0.5;

/// The page.
pub fn markdown(record: &Record) -> String {
    let mut page = String::new();
    let mut add = |part: String| {
        page += part.trim_end();
        page += "\n\n";
    };
    add(heading(record));
    add(in_short(record));
    add(format!(
        "## Speed and error\n\n![GFLOP/s against error, by format and mode]({0}-error.svg)\n\n\
         ![GFLOP/s by tokens, by format and mode]({0}-tokens.svg)",
        record.name
    ));
    add(ceilings(record));
    for threads in record.threads() {
        for coding in record.codings() {
            add(coding_table(record, &coding, threads));
        }
    }
    for kernel in record.kernels().into_iter().skip(1) {
        add(against(record, kernel));
    }
    add(others(record));
    if let Some(beside) = &record.beside {
        add(pytorch(beside));
    }
    page.trim_end().to_owned() + "\n"
}

fn heading(record: &Record) -> String {
    let machine = &record.machine;
    let id = machine.id.as_ref().map_or(String::new(), |id| format!(" ({id})"));
    let mut lines = vec![
        format!("# {}", machine.cpu),
        String::new(),
        format!(
            "Written by `lutmul bench --report` from [{0}.json]({0}.json), never by hand; [README.md](README.md) says \
             how to read it, and why figures fall short where they do.",
            record.name
        ),
        String::new(),
        format!("- CPU: {}{id}, {} at a time", machine.cpu, of_threads(machine.threads)),
        format!(
            "- caches: second level {} KiB a core, last level {} MiB",
            machine.l2_bytes >> 10,
            machine.last_cache_bytes >> 20
        ),
        format!("- date: {}", record.date),
        format!("- lutmul {}, commit {}", record.version, record.commit),
        format!("- kernel: {}", record.kernels().join(", beside it ")),
        format!(
            "- weights: {}, on pages \"{}\"",
            record.shapes().iter().map(|(n, k)| format!("{n}×{k}")).collect::<Vec<_>>().join(", "),
            record.pages().join("\", \"")
        ),
    ];
    if let Some(load) = machine.load {
        let busy = if load > BUSY { ": the machine was busy" } else { "" };
        lines.push(format!("- load when the run began: {load:.1}{busy}"));
    }
    lines.join("\n")
}

/// The few figures that the README shows.
fn in_short(record: &Record) -> String {
    let mut lines = Vec::new();
    let tokens = record.tokens(1);
    let (Some(few), Some(many)) = (tokens.first().copied(), tokens.last().copied()) else {
        return String::new();
    };
    let command = |product: &Product| {
        format!(
            "`lutmul bench --format {} --mode {} --tokens {}`",
            product.format, product.mode, product.m
        )
    };
    for (coding, mode) in [("qins-linear", "f32"), ("e4m3", "f32")] {
        let Some(product) = record.product(coding, mode, few, 1) else { continue };
        let share = share(product.weight_gb_s(), product.read_gb_s);
        let share = share.map(|share| format!(", {} of what one thread reads", percent(share)));
        lines.push(format!(
            "- {}, `{coding}` in `{mode}`: {:.1} GB of weights a second{} ({})",
            of_tokens(few),
            product.weight_gb_s(),
            share.unwrap_or_default(),
            command(product)
        ));
    }
    for (coding, mode) in
        [("int8", "a8t"), ("qins-linear", "a16"), ("e4m3", "bf16"), ("e4m3", "a8t")]
    {
        let Some(product) = record.product(coding, mode, many, 1) else { continue };
        let Some(plain) = record.product(coding, "f32", many, 1) else { continue };
        lines.push(format!(
            "- {}, `{coding}` in `{mode}`: {:.0} GFLOP/s, {:.1} times `f32`, with {} of error ({})",
            of_tokens(many),
            product.gflops,
            product.gflops / plain.gflops,
            percent(product.product_rel_rms_error),
            command(product)
        ));
    }
    lines.truncate(5);
    let Record { machine, commit, date, .. } = record;
    let id = machine.id.as_ref().map_or(String::new(), |id| format!(" ({id})"));
    let busy = machine.load.is_some_and(|load| load > BUSY);
    format!(
        "## In short\n\nOne thread of {}{id}{}, row scales; commit {commit}, {date}:\n\n{}",
        machine.cpu,
        if busy { ", while it was busy" } else { "" },
        lines.join("\n")
    )
}

fn ceilings(record: &Record) -> String {
    let mut table = Table::new(["ceiling", "threads", "best"]);
    for read in &record.ceilings.read {
        let cells =
            ["reading memory".into(), read.threads.to_string(), format!("{:.1} GB/s", read.gb_s)];
        table.row(&cells);
    }
    for peak in &record.ceilings.multiply {
        table.row(&[
            format!("multiplying {}: `{}`", peak.operand, peak.instruction),
            peak.threads.to_string(),
            format!("{:.0} GFLOP/s", peak.gflops),
        ]);
    }
    format!(
        "## Ceilings\n\nMeasured in the same run, in turns with the products. Speeds below are followed by their share of the \
         smaller of two: what these weights take to be read, and what the fastest multiplier for the mode does (for \
         integers that of bytes, though `a16` needs two of its products and `a24` three); by none where the machine was too busy for \
         ceilings to be found.\n\n{}",
        table.0
    )
}

fn coding_table(record: &Record, coding: &str, threads: usize) -> String {
    let tokens = record.tokens(threads);
    let head = ["mode".into(), "error".into(), "of it arithmetic".into()];
    let mut table = Table::new(head.into_iter().chain(tokens.iter().map(|m| of_tokens(*m))));
    for mode in record.modes() {
        let products: Vec<_> =
            tokens.iter().map(|m| record.product(coding, mode, *m, threads)).collect();
        let Some(last) = products.iter().rev().find_map(|product| *product) else { continue };
        let arithmetic = last.rel_rms_error.hypot(last.image_rel_rms_error.unwrap_or(0.0));
        let speeds = products.iter().map(|product| product.map_or("-".into(), speed));
        let cells = [mode.to_owned(), percent(last.product_rel_rms_error), percent(arithmetic)];
        table.row(&cells.into_iter().chain(speeds).collect::<Vec<_>>());
    }
    format!(
        "## {coding}, {}\n\nGFLOP/s, best (share of the ceiling).\n\n{}",
        of_threads(threads),
        table.0
    )
}

/// Another kernel beside the first, on the fewest threads.
fn against(record: &Record, kernel: &str) -> String {
    let threads = record.fewest_threads();
    let tokens = record.tokens(threads);
    let head = ["weights".into(), "mode".into()];
    let mut table = Table::new(head.into_iter().chain(tokens.iter().map(|m| of_tokens(*m))));
    for coding in record.codings() {
        for mode in record.modes() {
            let times = tokens.iter().map(|m| {
                let product = record.product(&coding, mode, *m, threads);
                let times = product.and_then(|product| record.times_as_fast(product, kernel));
                times.map_or("-".into(), |times| format!("{times:.2}"))
            });
            let cells = [coding.clone(), mode.to_owned()];
            table.row(&cells.into_iter().chain(times).collect::<Vec<_>>());
        }
    }
    let first = record.kernels().first().copied().unwrap_or_default();
    format!(
        "## {first} against {kernel}\n\nHow many times as fast, {}, by the best of both. Tables and pictures are of \
         `{first}`.\n\n{}",
        of_threads(threads),
        table.0
    )
}

fn speed(product: &Product) -> String {
    let share = share(product.gflops, product.ceiling_gflops());
    let share = share.map_or(String::new(), |share| format!(" ({share:.2})"));
    format!("{}{share}", three_digits(product.gflops))
}

/// A rate as a share of its ceiling. Where the machine held up what measures the ceiling, and not the product, it says nothing.
fn share(rate: f64, ceiling: Option<f64>) -> Option<f64> {
    ceiling.map(|ceiling| rate / ceiling).filter(|share| *share < 1.1)
}

/// Other libraries that were measured in the same run.
fn others(record: &Record) -> String {
    let peers: Vec<&Product> =
        record.products.iter().filter(|product| product.peer.is_some()).collect();
    if peers.is_empty() {
        return String::new();
    }
    let tokens = record.tokens(1);
    let head = ["library".into(), "weights".into(), "threads".into(), "error".into()];
    let mut table = Table::new(head.into_iter().chain(tokens.iter().map(|m| of_tokens(*m))));
    let keys = unique(peers.iter().map(|product| (product.peer.clone(), product.threads)));
    for (peer, threads) in keys {
        let of =
            || peers.iter().filter(|product| product.peer == peer && product.threads == threads);
        let Some(last) = of().next_back() else { continue };
        let speeds = tokens.iter().map(|m| {
            let product = of().find(|product| product.m == *m);
            product.map_or("-".into(), |product| three_digits(product.gflops))
        });
        let cells = [
            peer.clone().unwrap_or_default(),
            last.format.clone(),
            threads.to_string(),
            percent(last.product_rel_rms_error),
        ];
        table.row(&cells.into_iter().chain(speeds).collect::<Vec<_>>());
    }
    format!(
        "## Other libraries\n\nIn the same process, by `lutmul-peers`. GFLOP/s, best.\n\n{}",
        table.0
    )
}

/// PyTorch, beside lutmul in a run of their own.
fn pytorch(beside: &Beside) -> String {
    let tokens = unique(beside.products.iter().map(|product| product.tokens));
    let head = ["product".into(), "error".into()];
    let mut table = Table::new(head.into_iter().chain(tokens.iter().map(|m| of_tokens(*m))));
    for name in unique(beside.products.iter().map(|product| &product.product)) {
        let of = || beside.products.iter().filter(|product| product.product == *name);
        let Some(last) = of().next_back() else { continue };
        let speeds = tokens.iter().map(|m| {
            let product = of().find(|product| product.tokens == *m);
            product.map_or("-".into(), |product| three_digits(product.best_gflops))
        });
        let cells = [name.clone(), percent(last.error)];
        table.row(&cells.into_iter().chain(speeds).collect::<Vec<_>>());
    }
    format!(
        "## PyTorch\n\nBy `peers/pytorch.py`, a run of its own, in which lutmul's products took turns with those of PyTorch {}: {}, \
         {}×{}, one thread. GFLOP/s, best; compare within this table.\n\n{}",
        beside.pytorch, beside.machine, beside.n, beside.k, table.0
    )
}

fn three_digits(value: f64) -> String {
    if value >= 99.5 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A share in percent with two digits that count.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    let digits = match percent {
        p if p == 0.0 || p >= 10.0 => 0,
        p => (1 - p.log10().floor() as i32).clamp(0, 9) as usize,
    };
    format!("{percent:.digits$} %")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (share, text) in [(0.0, "0 %"), (0.00451, "0.45 %"), (0.731, "73 %"), (0.0269, "2.7 %")]
        {
            assert_eq!(percent(share), text);
        }
        assert_eq!(percent(8e-8), "0.0000080 %");
        assert_eq!((three_digits(12.34), three_digits(1012.3)), ("12.3".into(), "1012".into()));
        let mut table = Table::new(["a", "b"]);
        table.row(&["x|y\nz", "1"]);
        assert_eq!(table.0, "| a | b |\n|---|--:|\n| x y z | 1 |\n");
    }
}
