//! The tables of a comparison, and its picture.

use std::io::Write;

use anyhow::Result;
use lutmul_cli::chart::{COLOURS, Figure, GREY, Key, Labels, Line, Mark, Panel, Point, Series};
use lutmul_cli::table;

use super::quality::Divergence;
use super::{Comparison, Row, Speeds};

/// Prints what was measured.
pub fn print(comparison: &Comparison, out: &mut dyn Write) -> Result<()> {
    let Comparison { model, cpu, kernel, text, tokens, greedy, rows, .. } = comparison;
    writeln!(out, "{model} on {cpu}, kernel {kernel}")?;
    let load = comparison.load.map_or(String::new(), |load| format!(", load {load:.1}"));
    let repetitions = comparison.repetitions;
    writeln!(out, "speeds: the best of {repetitions}, in turns with the f32 model{load}")?;
    writeln!(out, "quality: {tokens} tokens of {text}, against the f32 model")?;
    if comparison.coarse {
        writeln!(
            out,
            "The file's weights have fewer than 8 bits: the f32 model is what they stand for, not the original."
        )?;
    }

    writeln!(out)?;
    let head = [
        "linears",
        "mode",
        "bytes",
        "resident",
        "perplexity",
        "KL",
        "top-1",
        "same tokens",
        "KL of the mode",
        "top-1",
    ];
    let cells: Vec<[String; 10]> = rows.iter().map(|row| quality(row, *greedy)).collect();
    table::write(out, &head, &cells)?;

    for (i, of_threads) in rows.first().map_or(&[][..], |row| &row.speeds).iter().enumerate() {
        writeln!(out)?;
        let prefill = |i: usize| format!("prompt of {}", of_threads.prefill[i].0);
        let head = [
            table::threads(of_threads.threads),
            "mode".into(),
            prefill(0),
            "× f32".into(),
            prefill(1),
            "× f32".into(),
            "decode".into(),
            "× f32".into(),
        ];
        let cells: Vec<[String; 8]> = rows.iter().map(|row| speeds(row, &row.speeds[i])).collect();
        table::write(out, &head, &cells)?;
    }
    writeln!(out, "(tokens a second)")?;
    Ok(())
}

fn quality(row: &Row, greedy: usize) -> [String; 10] {
    let quality = row.quality;
    let kl = |divergence: Divergence| format!("{:.2e}", divergence.kl.max(0.0));
    let top1 = |divergence: Divergence| format!("{:.2} %", 100.0 * divergence.top1);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    let same = match quality.same {
        all if all == greedy => format!("all {all}"),
        some => some.to_string(),
    };
    [
        row.linears.clone(),
        row.mode.clone(),
        table::bytes(row.bytes),
        or_none(row.resident.map(table::bytes)),
        format!("{:.3}", quality.perplexity),
        kl(quality.total),
        top1(quality.total),
        same,
        or_none(quality.arithmetic.map(kl)),
        or_none(quality.arithmetic.map(top1)),
    ]
}

fn speeds(row: &Row, speeds: &Speeds) -> [String; 8] {
    let rate = |rate: f64| format!("{rate:.1}");
    let ratio = |rate: f64, base: f64| format!("{:.2}", rate / base);
    let [(_, few, few_f32), (_, many, many_f32)] = speeds.prefill[..] else {
        return Default::default();
    };
    [
        row.linears.clone(),
        row.mode.clone(),
        rate(few.best),
        ratio(few.best, few_f32.best),
        rate(many.best),
        ratio(many.best, many_f32.best),
        rate(speeds.decode.best),
        ratio(speeds.decode.best, speeds.decode_f32.best),
    ]
}

/// Speed against KL divergence: a colour for each kind of linears, a mark for each mode. Both are ratios to the f32 model,
/// measured in the same minutes.
pub fn figure(comparison: &Comparison) -> Figure {
    let rows = &comparison.rows;
    let mut linears: Vec<&str> = Vec::new();
    let mut modes: Vec<&str> = Vec::new();
    for row in rows.iter().filter(|row| row.mode != "candle") {
        if !linears.contains(&&*row.linears) {
            linears.push(&row.linears);
        }
        if !modes.contains(&&*row.mode) {
            modes.push(&row.mode);
        }
    }
    let colour = |row: &Row| {
        let place = linears.iter().position(|name| *name == row.linears);
        place.map_or(GREY, |place| 1 + place % COLOURS)
    };
    let mark = |row: &Row| {
        let place = modes.iter().position(|name| *name == row.mode);
        Mark::ALL[place.unwrap_or(0) % Mark::ALL.len()]
    };
    let divergences = || rows.iter().map(|row| row.quality.total.kl).filter(|kl| *kl > 0.0);
    let ends = (divergences().fold(f64::INFINITY, f64::min), divergences().fold(0.0, f64::max));
    let panel = |title: String, ratio: &dyn Fn(&Row) -> f64| {
        let mut series: Vec<Series> = rows
            .iter()
            .filter(|row| row.quality.total.kl > 0.0)
            .map(|row| {
                let text = if row.mode == "candle" { row.linears.clone() } else { String::new() };
                let point =
                    Point { x: row.quality.total.kl, y: ratio(row), mark: Some(mark(row)), text };
                Series { colour: colour(row), line: Line::None, points: vec![point] }
            })
            .collect();
        // f32 diverges from itself by nothing, which has no place on a logarithmic axis.
        if ends.1 > 0.0 {
            let end = |x, text: &str| Point { x, y: 1.0, mark: None, text: text.into() };
            let points = vec![end(ends.0, "f32 (candle)"), end(ends.1, "")];
            series.push(Series { colour: GREY, line: Line::Dashed, points });
        }
        let labels = |title: &str| Labels { title: title.into(), ticks: vec![], percent: false };
        let (x, y) = (labels("KL divergence from the f32 model"), labels("speed, × f32"));
        Panel { title, x, y, series }
    };
    let mut panels = Vec::new();
    for (i, of_threads) in rows.first().map_or(&[][..], |row| &row.speeds).iter().enumerate() {
        let threads = table::threads(of_threads.threads);
        panels.push(panel(format!("decode, {threads}"), &|row| {
            row.speeds[i].decode.best / row.speeds[i].decode_f32.best
        }));
        if let Some(last) = of_threads.prefill.len().checked_sub(1) {
            let tokens = of_threads.prefill[last].0;
            panels.push(panel(format!("prompt of {tokens} tokens, {threads}"), &|row| {
                let (_, rate, base) = row.speeds[i].prefill[last];
                rate.best / base.best
            }));
        }
    }
    let key = |text: &str, colour, line, mark| Key { text: text.into(), colour, line, mark };
    let keys = linears.iter().enumerate();
    let keys = keys.map(|(i, name)| key(name, 1 + i % COLOURS, Line::Solid, None));
    let marks = modes.iter().enumerate();
    let marks =
        marks.map(|(i, name)| key(name, GREY, Line::None, Some(Mark::ALL[i % Mark::ALL.len()])));
    let name = comparison.model.rsplit('/').next().unwrap_or(&comparison.model);
    Figure {
        title: format!("{name}: speed against KL divergence"),
        panels,
        columns: 2,
        same_y: false,
        keys: keys.chain(marks).collect(),
    }
}
