//! Pictures of measurements: panels side by side with logarithmic axes, as SVG for light and dark backgrounds.

mod axis;
pub(crate) mod error;
mod svg;

pub use axis::Axis;
use svg::Svg;

/// Panels, and what their colours and marks mean.
pub struct Figure {
    /// What stands above.
    pub title: String,
    /// Side by side, as many as `columns` in a row.
    pub panels: Vec<Panel>,
    /// Panels in a row.
    pub columns: usize,
    /// Whether speeds of all panels are on the same scale.
    pub same_y: bool,
    /// The legend.
    pub keys: Vec<Key>,
}

/// One of the pictures.
pub struct Panel {
    /// What stands above.
    pub title: String,
    /// The axis below.
    pub x: Labels,
    /// The axis on the left.
    pub y: Labels,
    /// What is drawn.
    pub series: Vec<Series>,
}

/// What stands at an axis.
pub struct Labels {
    /// What is measured.
    pub title: String,
    /// The numbers that are shown; if there are none, round ones.
    pub ticks: Vec<f64>,
    /// Whether numbers are shown as percent.
    pub percent: bool,
}

/// Points that belong together.
pub struct Series {
    /// [`GREY`], or from 1 to [`COLOURS`].
    pub colour: usize,
    /// How points are joined.
    pub line: Line,
    /// In the order in which they are joined.
    pub points: Vec<Point>,
}

/// Whether points are joined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// They are not.
    None,
    /// By a line.
    Solid,
    /// By dashes.
    Dashed,
}

/// A point, how it is marked, if at all, and what is written beside it, if anything.
pub struct Point {
    /// Above 0.
    pub x: f64,
    /// Above 0.
    pub y: f64,
    /// Its mark.
    pub mark: Option<Mark>,
    /// What stands beside it; may be empty.
    pub text: String,
}

/// A line of the legend.
pub struct Key {
    /// What it says.
    pub text: String,
    /// The colour of line and mark.
    pub colour: usize,
    /// The line, if any.
    pub line: Line,
    /// The mark, if any.
    pub mark: Option<Mark>,
}

/// The shape of a point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// ●
    Circle,
    /// ■
    Square,
    /// ◆
    Diamond,
    /// ▲
    Up,
    /// ▼
    Down,
    /// ✕
    Cross,
}

impl Mark {
    /// All shapes.
    pub const ALL: [Self; 6] =
        [Self::Circle, Self::Square, Self::Diamond, Self::Up, Self::Down, Self::Cross];
}

/// The colour of what is not one of the series: peers, ceilings.
pub const GREY: usize = 0;

/// Colours, one for each series, after grey.
pub const COLOURS: usize = svg::COLOURS.len() - 1;

const WIDTH: f64 = 900.0;
const MARGIN: f64 = 12.0;
const LEFT: f64 = 52.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 46.0;
/// Of a panel, without its titles.
const HEIGHT: f64 = 270.0;
const LINE: f64 = 19.0;

impl Figure {
    /// The picture as a file has it. The same figure gives the same bytes.
    pub fn svg(&self) -> String {
        let columns = self.columns.clamp(1, self.panels.len().max(1));
        let rows = self.panels.len().div_ceil(columns);
        let cell = (WIDTH - 2.0 * MARGIN) / columns as f64;
        let head = 34.0;
        let body = rows as f64 * (TOP + HEIGHT + BOTTOM);
        let legend = self.legend_rows().len() as f64 * LINE + 8.0;
        let mut svg = Svg::new(WIDTH, head + body + legend + MARGIN, &self.title);
        svg.text(MARGIN, 23.0, "title", &self.title);
        let values = self.panels.iter().flat_map(Panel::heights);
        let shared = self.same_y.then(|| Axis::around(values));
        for (i, panel) in self.panels.iter().enumerate() {
            let left = MARGIN + (i % columns) as f64 * cell;
            let top = head + (i / columns) as f64 * (TOP + HEIGHT + BOTTOM);
            let y = shared.unwrap_or_else(|| Axis::around(panel.heights()));
            panel.draw(&mut svg, y, (left, top), cell);
        }
        self.legend(&mut svg, head + body + 14.0);
        svg.finish()
    }

    /// Keys, as many in a row as there is room for.
    fn legend_rows(&self) -> Vec<Vec<(f64, &Key)>> {
        let mut rows: Vec<Vec<(f64, &Key)>> = Vec::new();
        let mut at = f64::INFINITY;
        for key in &self.keys {
            let width = 34.0 + svg::width(&key.text) + 16.0;
            if at + width > WIDTH - MARGIN {
                rows.push(Vec::new());
                at = MARGIN + LEFT - 20.0;
            }
            rows.last_mut().expect("a row was begun").push((at, key));
            at += width;
        }
        rows
    }

    fn legend(&self, svg: &mut Svg, top: f64) {
        for (row, keys) in self.legend_rows().into_iter().enumerate() {
            let y = top + row as f64 * LINE;
            for (x, key) in keys {
                svg.line(&[(x, y - 4.0), (x + 24.0, y - 4.0)], key.colour, key.line);
                if let Some(mark) = key.mark {
                    svg.mark(x + 12.0, y - 4.0, key.colour, mark);
                }
                svg.text(x + 30.0, y, "key", &key.text);
            }
        }
    }
}

impl Panel {
    fn points(&self) -> impl Iterator<Item = &Point> {
        self.series.iter().flat_map(|series| &series.points)
    }

    fn heights(&self) -> impl Iterator<Item = f64> {
        self.points().map(|point| point.y)
    }

    fn draw(&self, svg: &mut Svg, y: Axis, (left, top): (f64, f64), cell: f64) {
        let x = Axis::around(self.points().map(|point| point.x));
        let (width, right) = (cell - LEFT - 14.0, left + cell - 14.0);
        let (floor, roof) = (top + TOP + HEIGHT, top + TOP);
        let at =
            |px: f64, py: f64| (left + LEFT + x.place(px) * width, floor - y.place(py) * HEIGHT);
        svg.text(left + LEFT, top + TOP - 9.0, "panel", &self.title);
        for tick in self.x.ticks(x) {
            let (at, _) = at(tick, 1.0);
            svg.rule(at, roof, at, floor);
            svg.middle(at, floor + 16.0, &self.x.text(tick));
        }
        for tick in self.y.ticks(y) {
            let (_, at) = at(1.0, tick);
            svg.rule(left + LEFT, at, right, at);
            svg.end(left + LEFT - 6.0, at + 4.0, &self.y.text(tick));
        }
        svg.middle(left + LEFT + width / 2.0, floor + 34.0, &self.x.title);
        svg.upright(left + 11.0, roof + HEIGHT / 2.0, &self.y.title);
        for series in &self.series {
            let line: Vec<_> = series.points.iter().map(|point| at(point.x, point.y)).collect();
            svg.line(&line, series.colour, series.line);
            for (point, (x, y)) in series.points.iter().zip(line) {
                if let Some(mark) = point.mark {
                    svg.mark(x, y, series.colour, mark);
                }
                // On the side where there is room.
                match x + 10.0 + svg::width(&point.text) > right {
                    _ if point.text.is_empty() => {}
                    true => svg.end(x - 8.0, y - 5.0, &point.text),
                    false => svg.text(x + 8.0, y - 5.0, "", &point.text),
                }
            }
        }
    }
}

impl Labels {
    fn ticks(&self, axis: Axis) -> Vec<f64> {
        if self.ticks.is_empty() { axis.ticks() } else { self.ticks.clone() }
    }

    fn text(&self, value: f64) -> String {
        if self.percent { format!("{} %", number(100.0 * value)) } else { number(value) }
    }
}

/// A number in as few digits as it has, but for what f64 adds to it.
fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.3e}").parse().unwrap_or(value);
    rounded.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let labels = |title: &str, percent| Labels { title: title.into(), ticks: vec![], percent };
        let panel = |title: &str| Panel {
            title: title.into(),
            x: labels("error", true),
            y: labels("GFLOP/s", false),
            series: (0..=COLOURS)
                .map(|colour| Series {
                    colour,
                    line: if colour == GREY { Line::Dashed } else { Line::Solid },
                    points: Mark::ALL
                        .iter()
                        .enumerate()
                        .map(|(i, mark)| Point {
                            x: 0.001 * (i + 1) as f64,
                            y: (100 * (colour + 1)) as f64,
                            mark: Some(*mark),
                            text: if i == 5 { "<peer> & \"co\"".into() } else { String::new() },
                        })
                        .collect(),
                })
                .collect(),
        };
        let keys = (0..30)
            .map(|i| Key {
                text: format!("series {i}"),
                colour: i % 4,
                line: Line::None,
                mark: Some(Mark::ALL[i % 6]),
            })
            .collect();
        let panels = vec![panel("one"), panel("two")];
        Figure { title: "A & B".into(), panels, columns: 2, same_y: true, keys }
    }

    #[test]
    fn pictures_are_whole_and_the_same_each_time() {
        let svg = figure().svg();
        assert_eq!(svg, figure().svg());
        let document = roxmltree::Document::parse(&svg).expect("well-formed XML");
        let root = document.root_element();
        let size = |name: &str| -> f64 { root.attribute(name).expect(name).parse().expect(name) };
        let (width, height) = (size("width"), size("height"));
        let texts: Vec<_> = root.descendants().filter(|node| node.has_tag_name("text")).collect();
        assert!(texts.iter().any(|node| node.text() == Some("<peer> & \"co\"")));
        for node in texts {
            let place = |name: &str| -> f64 {
                node.attribute(name).map_or(1.0, |v| v.parse().expect(name))
            };
            assert!((0.0..=width).contains(&place("x")), "{node:?}");
            assert!((0.0..=height).contains(&place("y")), "{node:?}");
        }
        assert!(svg.contains("prefers-color-scheme: dark") && !svg.contains("NaN"));
    }

    #[test]
    fn numbers() {
        for (value, text) in [(0.02, "2 %"), (0.003, "0.3 %"), (1e-7, "0.00001 %")] {
            let labels = Labels { title: String::new(), ticks: vec![], percent: true };
            assert_eq!(labels.text(value), text);
        }
        assert_eq!((number(1500.0), number(0.30000000000000004)), ("1500".into(), "0.3".into()));
    }
}
