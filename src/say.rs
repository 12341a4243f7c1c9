//! What is said on stderr. `eprintln!` ends the program where stderr cannot be written: because nobody
//! reads it any more, or because the file it goes to is on a disk that is full.
//!
//! A program's log and a name in a pipeline may hold what a terminal obeys: it is shown text, and nothing
//! else.

use std::borrow::Cow;

/// Says a line on stderr; where that cannot be, goes on.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::line(format_args!($($text)*))
    };
}

/// A line on stderr.
pub(crate) fn line(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let text = text.to_string();
    let _ = writeln!(std::io::stderr().lock(), "{}", calm(&text));
}

/// Whether a terminal does more with it than show it, beside the end of a line and a tab.
pub(crate) fn obeyed(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c.is_control() && c != '\n' && c != '\t') || turns
}

/// Text that a terminal only shows: escape sequences go, as does what a carriage return would have had
/// written over; any other control character is written out.
pub(crate) fn calm(text: &str) -> Cow<'_, str> {
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut line = 0;
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            '\u{9b}' => skip_until(&mut chars, |c| ('@'..='~').contains(&c)),
            '\r' if matches!(chars.peek(), Some('\n') | None) => {}
            '\r' => shown.truncate(line),
            c if obeyed(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
        if c == '\n' {
            line = shown.len();
        }
    }
    Cow::Owned(shown)
}

/// The same on one line.
pub(crate) fn one_line(text: &str) -> Cow<'_, str> {
    match calm(text) {
        calm if calm.contains(['\n', '\t']) => {
            Cow::Owned(calm.replace('\n', "\\n").replace('\t', "\\t"))
        }
        calm => calm,
    }
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What an escape character begins, which is gone already.
fn skip_sequence(chars: &mut Chars<'_>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            skip_until(chars, |c| ('@'..='~').contains(&c));
        }
        // Text for the terminal itself: a title, a link, the clipboard.
        Some(']' | 'P' | 'X' | '^' | '_') => skip_until(chars, |c| c == '\u{7}' || c == '\u{9c}'),
        Some(c) if (' '..='/').contains(c) => skip_until(chars, |c| ('0'..='~').contains(&c)),
        Some(c) if ('0'..='~').contains(c) => drop(chars.next()),
        _ => {}
    }
}

/// Skips what is before `last`, and that; but not beyond the line, nor another escape sequence.
fn skip_until(chars: &mut Chars<'_>, last: impl Fn(char) -> bool) {
    while let Some(&c) = chars.peek() {
        if c == '\n' || c == '\u{1b}' {
            return;
        }
        chars.next();
        if last(c) {
            return;
        }
    }
}

/// A word that a shell takes as it is.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_terminal_obeys_nothing_that_a_program_says() {
        for (raw, shown) in [
            ("plain\ttext\nß 漢", "plain\ttext\nß 漢"),
            ("\u{1b}[31mred\u{1b}[0m", "red"),
            ("\u{1b}[2J\u{1b}[Hgone", "gone"),
            ("\u{1b}]0;title\u{7}after", "after"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}P1$r\u{9c}x", "x"),
            ("\u{9b}5mx", "x"),
            ("\u{1b}(Bx\u{1b}cy\u{1b}", "xy"),
            ("10 %\r50 %\r100 %\r\nnext\r", "100 %\nnext"),
            ("a\u{8}b\u{7}\u{0}", "a\\u{8}b\\u{7}\\u{0}"),
            ("a\u{202e}b", "a\\u{202e}b"),
            ("\u{1b}[31\nnext", "\nnext"),
        ] {
            assert_eq!(calm(raw), shown, "{raw:?}");
        }
        assert_eq!(one_line("a\nb\tc\u{1b}[1m"), "a\\nb\\tc");
    }

    proptest! {
        #[test]
        fn nothing_is_left_to_obey(text in "[\u{0}-\u{ff}\u{2060}-\u{206f}\\[\\]m;\r\n]{0,40}") {
            prop_assert!(!calm(&text).contains(obeyed));
            let quiet = calm(&text).into_owned();
            prop_assert_eq!(calm(&quiet), quiet.as_str());
            prop_assert_eq!(one_line(&text).lines().count() <= 1, true);
        }
    }
}
