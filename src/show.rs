//! Names, shapes and messages as people are shown them, whole unless they are far longer than any that mean
//! something: files and callers may hold names of megabytes.

use std::borrow::Cow;

/// Characters of a name that are shown at most, about.
pub(crate) const NAME: usize = 256;
/// Of a message that may repeat something.
pub(crate) const MESSAGE: usize = 1024;
/// Of all that is said of a file. Paths that systems take are not longer.
pub(crate) const TEXT: usize = 4096;

/// The ends of a text of more than `most` characters, and how many it has.
fn ends(text: &str, most: usize) -> Option<(String, usize)> {
    // Bytes are no fewer than characters.
    if text.len() <= most {
        return None;
    }
    let count = text.chars().count();
    let at = |i: usize| text.char_indices().nth(i).map_or(text.len(), |(at, _)| at);
    let ends = || format!("{}…{}", &text[..at(most / 2)], &text[at(count - most / 4)..]);
    (count > most).then(|| (ends(), count))
}

/// A text, or its head and tail with its length if it has more than `most` characters; on one line, and so that it
/// cannot command the terminal.
pub(crate) fn shortened(text: &str, most: usize) -> Cow<'_, str> {
    let text = match ends(text, most) {
        None => Cow::Borrowed(text),
        Some((ends, count)) => format!("{ends} ({count} characters)").into(),
    };
    if !text.contains(char::is_control) {
        return text;
    }
    let escape = |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.into() };
    text.chars().map(escape).collect()
}

#[cfg(feature = "checkpoint")]
mod of_files {
    use std::fmt::Display;

    use super::{MESSAGE, NAME, ends, shortened};

    /// A name out of a file: shortened, and escaped so that it cannot command the terminal.
    ///
    /// ```
    /// use lutmul::checkpoint::show;
    ///
    /// assert_eq!(show::name("layer.0\n"), "layer.0\\n");
    /// assert_eq!(show::name(&"x".repeat(1 << 20)).chars().count(), 128 + 1 + 64 + 21);
    /// ```
    pub fn name(name: &str) -> String {
        match ends(name, NAME) {
            None => name.escape_debug().to_string(),
            Some((ends, count)) => format!("{} ({count} characters)", ends.escape_debug()),
        }
    }

    /// The same in quotes.
    pub fn quoted(name: &str) -> String {
        match ends(name, NAME) {
            None => format!("{name:?}"),
            Some((ends, count)) => format!("{ends:?} ({count} characters)"),
        }
    }

    /// A tensor's sizes, with something between them; of many, the first and the last few.
    pub fn sizes(shape: &[usize], between: &str) -> String {
        const MOST: usize = 16;
        let join =
            |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(between);
        if shape.len() <= MOST {
            return join(shape);
        }
        let (head, tail) = (join(&shape[..MOST / 2]), join(&shape[shape.len() - MOST / 4..]));
        format!("{head}{between}…{between}{tail} ({} dimensions)", shape.len())
    }

    /// The same in brackets.
    pub fn shape(shape: &[usize]) -> String {
        format!("[{}]", sizes(shape, ", "))
    }

    /// What another library says of a file, which may repeat a part of it.
    pub(crate) fn message(text: impl Display) -> String {
        shortened(&text.to_string(), MESSAGE).into()
    }
}

#[cfg(feature = "checkpoint")]
pub(crate) use of_files::message;
#[cfg(feature = "checkpoint")]
pub use of_files::{name, quoted, shape, sizes};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_texts_are_whole_and_long_ones_have_ends() {
        for (short, most) in [("", 0), ("abc", 3), ("äöüß", 4), ("αβγδ", 7)] {
            assert_eq!(shortened(short, most), short);
        }
        assert_eq!(shortened("a\x1b\nb", 8), "a\\u{1b}\\nb");
        assert_eq!(shortened("abcdefghi", 8), "abcd…hi (9 characters)");
        assert_eq!(shortened("äbcdefghß", 8), "äbcd…hß (9 characters)");
        let long = "ß".repeat(100_000);
        assert!(shortened(&long, TEXT).chars().count() < TEXT);
        assert!(shortened(&long, NAME).ends_with("ß (100000 characters)"));
    }

    #[test]
    #[cfg(feature = "checkpoint")]
    fn names_and_shapes() {
        assert_eq!(
            (name("a\x1b\"b"), quoted("a\x1b")),
            ("a\\u{1b}\\\"b".into(), "\"a\\u{1b}\"".into())
        );
        let long = "\x1b".repeat(1 << 20);
        for shown in [name(&long), quoted(&long), message(&long)] {
            assert!(shown.len() < 8 * MESSAGE && !shown.contains('\x1b'), "{}", shown.len());
            assert!(shown.contains("(1048576 characters)"), "{shown}");
        }
        assert_eq!(
            (shape(&[]), shape(&[3, 4]), sizes(&[3, 4], "×")),
            ("[]".into(), "[3, 4]".into(), "3×4".into())
        );
        assert_eq!(shape(&[1; 16]), format!("{:?}", [1; 16]));
        let many: Vec<usize> = (0..1_000_000).collect();
        let expected =
            "[0, 1, 2, 3, 4, 5, 6, 7, …, 999996, 999997, 999998, 999999 (1000000 dimensions)]";
        assert_eq!(shape(&many), expected);
    }
}
