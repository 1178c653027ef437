//! The pictures of a report.

use super::record::{Product, Record};
use crate::chart::error::{self, SpeedAndError, Tokens, colour, mark, mode_keys};
use crate::chart::{Figure, GREY, Key, Labels, Line, Panel, Point, Series};
use crate::table::threads as of_threads;

/// Speed against error, with the fewest and with the most tokens.
pub fn by_error(record: &Record) -> Figure {
    let threads = record.fewest_threads();
    let tokens = record.tokens(threads);
    let mut shown: Vec<usize> = tokens.first().into_iter().chain(tokens.last()).copied().collect();
    shown.dedup();
    let (formats, modes) = (record.codings(), record.modes());
    let panels = shown.into_iter().map(|m| {
        let mut products = Vec::new();
        for (format, coding) in formats.iter().enumerate() {
            for (mode, name) in modes.iter().enumerate() {
                let product = record.product(coding, name, m, threads);
                products.extend(product.map(|product| error::Product {
                    format,
                    mode,
                    error: product.product_rel_rms_error,
                    gflops: product.gflops,
                }));
            }
        }
        let others = record.others();
        let others = others.iter().filter(|other| other.m == m && other.threads == threads);
        let others = others.map(|other| error::Other {
            name: other.name.into(),
            error: other.error,
            gflops: other.gflops,
        });
        Tokens { m, products, others: others.collect() }
    });
    let panels = panels.collect();
    let title = format!("Speed and error: {}, {}", record.machine.cpu, of_threads(threads));
    let modes = modes.into_iter().map(str::to_owned).collect();
    SpeedAndError { title, formats, modes, panels }.figure()
}

/// Speed by the number of tokens, for each coding, with what memory and multipliers allow.
pub fn by_tokens(record: &Record) -> Figure {
    let threads = record.fewest_threads();
    let codings = record.codings();
    let panels = codings.iter().enumerate();
    let panels = panels.map(|(i, coding)| panel(record, coding, colour(i), threads)).collect();
    let mut keys: Vec<Key> = mode_keys(&record.modes(), Line::Solid).collect();
    keys.push(Key {
        text: "what read bandwidth and multipliers allow".into(),
        colour: GREY,
        line: Line::Dashed,
        mark: None,
    });
    let title = format!("Speed by tokens: {}, {}", record.machine.cpu, of_threads(threads));
    Figure { title, panels, columns: codings.len().clamp(1, 3), same_y: true, keys }
}

fn panel(record: &Record, coding: &str, colour: usize, threads: usize) -> Panel {
    let tokens = record.tokens(threads);
    let mut series: Vec<Series> = Vec::new();
    for (i, mode) in record.modes().into_iter().enumerate() {
        let products = || tokens.iter().filter_map(|m| record.product(coding, mode, *m, threads));
        let ceiling: Vec<Point> = products().filter_map(ceiling).collect();
        // Modes with the same multipliers have the same ceiling: lines on top of each other.
        let known = series.iter().any(|series| {
            let same = |(a, b): (&Point, &Point)| (a.y / b.y - 1.0).abs() < 0.02;
            series.colour == GREY && series.points.iter().zip(&ceiling).all(same)
        });
        if !known && ceiling.len() > 1 {
            series.push(Series { colour: GREY, line: Line::Dashed, points: ceiling });
        }
        let points = products().map(|product| Point {
            x: product.m as f64,
            y: product.gflops,
            mark: Some(mark(i)),
            text: String::new(),
        });
        series.push(Series { colour, line: Line::Solid, points: points.collect() });
    }
    let ticks = tokens.iter().map(|m| *m as f64).collect();
    let x = Labels { title: "tokens".into(), ticks, percent: false };
    let y = Labels { title: "GFLOP/s".into(), ticks: vec![], percent: false };
    Panel { title: coding.into(), x, y, series }
}

fn ceiling(product: &Product) -> Option<Point> {
    let (x, y) = (product.m as f64, product.ceiling_gflops()?);
    Some(Point { x, y, mark: None, text: String::new() })
}
