//! SVG: shapes by class, so that one file suits both kinds of background.

use std::fmt::Write;

use super::{Line, Mark};

/// Colours on light and on dark: grey, and those of series. They differ in lightness too, for those who see few hues.
pub const COLOURS: [(&str, &str); 11] = [
    ("#6b7280", "#9aa4b0"),
    ("#0b62c4", "#64b5ff"),
    ("#c2410c", "#ff9d5c"),
    ("#117a37", "#63d689"),
    ("#9d1fa8", "#e391f2"),
    ("#8a6100", "#e8c34d"),
    ("#0d7480", "#57d3df"),
    ("#c01048", "#ff8fab"),
    ("#4b4b9e", "#b3b0ff"),
    ("#5c7a00", "#b5d84a"),
    ("#7a4a2b", "#d3a583"),
];

/// About as wide as a text is in the small font.
pub fn width(text: &str) -> f64 {
    6.3 * text.chars().count() as f64
}

/// A picture being made.
pub struct Svg(String);

impl Svg {
    /// An empty one.
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{}</title>\n<style>\n",
            escape(title)
        );
        text += "text { font: 11.5px system-ui, sans-serif; fill: #1f2328 }\n\
                 .title { font-size: 16px; font-weight: 600 }\n\
                 .panel { font-size: 13px; font-weight: 600 }\n\
                 .back { fill: #ffffff }\n.rule { stroke: #d9dee4; stroke-width: 1 }\n\
                 .line { fill: none; stroke-width: 1.6 }\n.dashed { stroke-dasharray: 5 4 }\n\
                 .mark { stroke-width: 1 }\n";
        let colours =
            |text: &mut String, pick: fn(&(&'static str, &'static str)) -> &'static str| {
                for (i, colour) in COLOURS.iter().enumerate() {
                    let colour = pick(colour);
                    let _ =
                        writeln!(text, ".c{i} {{ stroke: {colour} }} .f{i} {{ fill: {colour} }}");
                }
            };
        colours(&mut text, |colour| colour.0);
        text += "@media (prefers-color-scheme: dark) {\ntext { fill: #e6edf3 }\n.back { fill: #0d1117 }\n\
                 .rule { stroke: #2d343d }\n";
        colours(&mut text, |colour| colour.1);
        text += "}\n</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\"/>\n";
        Self(text)
    }

    /// Its text.
    pub fn finish(self) -> String {
        self.0 + "</svg>\n"
    }

    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = self.0.write_fmt(element);
        self.0.push('\n');
    }

    /// A text from there on.
    pub fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let text = escape(text);
        self.add(format_args!("<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>"));
    }

    /// A text around there.
    pub fn middle(&mut self, x: f64, y: f64, text: &str) {
        self.anchored(x, y, "middle", text);
    }

    /// A text up to there.
    pub fn end(&mut self, x: f64, y: f64, text: &str) {
        self.anchored(x, y, "end", text);
    }

    fn anchored(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// A text around there, from the bottom to the top.
    pub fn upright(&mut self, x: f64, y: f64, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text text-anchor=\"middle\" transform=\"translate({x:.1} {y:.1}) rotate(-90)\">{text}</text>"
        ));
    }

    /// A line of the grid.
    pub fn rule(&mut self, x: f64, y: f64, to_x: f64, to_y: f64) {
        self.add(format_args!("<path class=\"rule\" d=\"M{x:.1} {y:.1}L{to_x:.1} {to_y:.1}\"/>"));
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], colour: usize, line: Line) {
        if line == Line::None || points.len() < 2 {
            return;
        }
        let mut path = String::new();
        for (i, (x, y)) in points.iter().enumerate() {
            let _ = write!(path, "{}{x:.1} {y:.1}", if i == 0 { 'M' } else { 'L' });
        }
        let dashed = if line == Line::Dashed { " dashed" } else { "" };
        self.add(format_args!("<path class=\"line{dashed} c{colour}\" d=\"{path}\"/>"));
    }

    /// A point.
    pub fn mark(&mut self, x: f64, y: f64, colour: usize, mark: Mark) {
        let path = match mark {
            Mark::Circle => "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z",
            Mark::Square => "m-3.6 -3.6h7.2v7.2h-7.2z",
            Mark::Diamond => "m0 -5l5 5l-5 5l-5 -5z",
            Mark::Up => "m0 -4.8l4.6 8h-9.2z",
            Mark::Down => "m0 4.8l4.6 -8h-9.2z",
            Mark::Cross => {
                "m-4 -2.4l1.6 -1.6l2.4 2.4l2.4 -2.4l1.6 1.6l-2.4 2.4l2.4 2.4l-1.6 1.6l-2.4 -2.4l-2.4 2.4\
                            l-1.6 -1.6l2.4 -2.4z"
            }
        };
        self.add(format_args!("<path class=\"f{colour}\" d=\"M{x:.1} {y:.1}{path}\"/>"));
    }
}

/// Text that XML does not take for its own.
fn escape(text: &str) -> String {
    // XML 1.0 has no place for control characters.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
