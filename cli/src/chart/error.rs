//! The picture of speed against error: a colour for each format, a mark for each mode, a panel for each number of tokens.

use super::{COLOURS, Figure, GREY, Key, Labels, Line, Mark, Panel, Point, Series};

/// Errors below this are f32's: such products are lines across, not points far to the left.
const EXACT: f64 = 5e-5;

/// What the picture shows.
pub struct SpeedAndError {
    pub title: String,
    pub formats: Vec<String>,
    pub modes: Vec<String>,
    pub panels: Vec<Tokens>,
}

/// Products with the same number of tokens.
pub struct Tokens {
    pub m: usize,
    pub products: Vec<Product>,
    pub others: Vec<Other>,
}

/// A product, by its numbers in the lists of formats and modes.
pub struct Product {
    pub format: usize,
    pub mode: usize,
    pub error: f64,
    pub gflops: f64,
}

/// A product of another library.
pub struct Other {
    pub name: String,
    pub error: f64,
    pub gflops: f64,
}

/// The colour of a format.
pub fn colour(format: usize) -> usize {
    1 + format % COLOURS
}

/// The mark of a mode.
pub fn mark(mode: usize) -> Mark {
    Mark::ALL[mode % Mark::ALL.len()]
}

/// Marks of modes, for the legend.
pub fn mode_keys(modes: &[impl AsRef<str>], line: Line) -> impl Iterator<Item = Key> {
    let modes = modes.iter().enumerate();
    modes.map(move |(i, mode)| Key {
        text: mode.as_ref().into(),
        colour: GREY,
        line,
        mark: Some(mark(i)),
    })
}

impl SpeedAndError {
    /// The picture.
    pub fn figure(&self) -> Figure {
        let formats = self.formats.iter().enumerate();
        let formats = formats.map(|(i, text)| Key {
            text: text.clone(),
            colour: colour(i),
            line: Line::Solid,
            mark: None,
        });
        Figure {
            title: self.title.clone(),
            panels: self.panels.iter().map(Tokens::panel).collect(),
            columns: 2,
            same_y: false,
            keys: formats.chain(mode_keys(&self.modes, Line::None)).collect(),
        }
    }
}

impl Tokens {
    fn panel(&self) -> Panel {
        let mut series = Vec::new();
        for product in &self.products {
            let mark = Some(mark(product.mode));
            let (x, y) = (product.error, product.gflops);
            let points = vec![Point { x, y, mark, text: String::new() }];
            series.push(Series { colour: colour(product.format), line: Line::None, points });
        }
        let (exact, coarse): (Vec<_>, Vec<_>) =
            self.others.iter().partition(|other| other.error < EXACT);
        let points = coarse.iter().map(|other| Point {
            x: other.error,
            y: other.gflops,
            mark: Some(Mark::Circle),
            text: other.name.clone(),
        });
        series.push(Series { colour: GREY, line: Line::None, points: points.collect() });
        let errors = || series.iter().flat_map(|series| &series.points).map(|point| point.x);
        let ends = (errors().fold(f64::INFINITY, f64::min), errors().fold(0.0, f64::max));
        if ends.1 > 0.0 {
            for other in exact {
                let at =
                    |x, text: &str| Point { x, y: other.gflops, mark: None, text: text.into() };
                let points = vec![at(ends.0, &other.name), at(ends.1, "")];
                series.push(Series { colour: GREY, line: Line::Dashed, points });
            }
        }
        let labels = |title: &str, percent| Labels { title: title.into(), ticks: vec![], percent };
        Panel {
            title: of_tokens(self.m),
            x: labels("error of the product, weights included", true),
            y: labels("GFLOP/s", false),
            series,
        }
    }
}

/// `1 token`, `512 tokens`.
pub fn of_tokens(m: usize) -> String {
    if m == 1 { "1 token".into() } else { format!("{m} tokens") }
}
