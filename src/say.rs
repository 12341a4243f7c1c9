//! The one way to stdout and stderr. Nothing else in `src/` writes to them, which a test checks.
//!
//! A program's log, a name in a pipeline, a record and the answer of a remote may hold control sequences
//! that a terminal obeys. A terminal is shown their text and nothing else; a file or a pipe gets results
//! byte for byte.
//!
//! `eprintln!` would end the program if stderr cannot be written: because nobody reads it any more, or
//! because the file it goes to is on a full disk.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Says a line on stderr; if that fails, goes on.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::line(format_args!($($text)*))
    };
}

/// Whether this process has said a warning.
static WARNED: AtomicBool = AtomicBool::new(false);

/// A line on stderr.
pub(crate) fn line(text: fmt::Arguments<'_>) {
    message(&format!("{text}\n"));
}

/// Text on stderr, as it is but for what a terminal would obey; if that fails, goes on.
pub(crate) fn message(text: &str) {
    let text = calm(text);
    note_warning(&text);
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The same for text with colours of our own, in which everything from elsewhere is calm already.
pub(crate) fn coloured_message(text: &str) {
    note_warning(&calm(text));
    let _ = io::stderr().lock().write_all(calm_with_colours(text).as_bytes());
}

fn note_warning(text: &str) {
    if text.lines().any(|line| line.starts_with("warning:")) {
        WARNED.store(true, Ordering::Relaxed);
    }
}

/// Whether this process has said a warning so far. A run that warned must warn again if nothing changes.
pub(crate) fn has_warned() -> bool {
    WARNED.load(Ordering::Relaxed)
}

/// Whether messages on stderr are coloured.
pub(crate) fn stderr_has_colour() -> bool {
    io::stderr().is_terminal() && colour_is_wanted()
}

/// Whether results on stdout are coloured.
pub(crate) fn stdout_has_colour() -> bool {
    io::stdout().is_terminal() && colour_is_wanted()
}

fn colour_is_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a result to stdout.
///
/// # Errors
/// Returns an error if stdout cannot be written.
pub(crate) fn out(text: &str) -> io::Result<()> {
    let stdout = io::stdout().lock();
    let shown = if stdout.is_terminal() { calm(text) } else { text.into() };
    write_all(stdout, &shown)
}

/// The same for text with colours of our own, in which everything from elsewhere is calm already.
///
/// # Errors
/// Returns an error if stdout cannot be written.
pub(crate) fn coloured_out(text: &str) -> io::Result<()> {
    let stdout = io::stdout().lock();
    let shown = if stdout.is_terminal() { calm_with_colours(text) } else { text.to_owned() };
    write_all(stdout, &shown)
}

/// Writes JSON and a line end to stdout. Control characters are escaped, for a terminal and for a file:
/// the JSON means the same.
///
/// # Errors
/// Returns an error if stdout cannot be written.
pub(crate) fn json_out(json: &str) -> io::Result<()> {
    write_all(io::stdout().lock(), &format!("{}\n", calm_json(json)))
}

fn write_all(mut stdout: io::StdoutLock<'_>, text: &str) -> io::Result<()> {
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// The longest line that is held in memory; a longer one is shown in pieces.
const MAX_LINE_BYTES: u64 = 1 << 16;

/// Copies what a program wrote to stdout, of any length: byte for byte to a file or a pipe, and as text
/// to a terminal.
///
/// # Errors
/// Returns an error if `source` cannot be read or stdout cannot be written.
pub(crate) fn copy_out(mut source: impl Read) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if stdout.is_terminal() {
        calm_lines(source, &mut stdout)?;
    } else {
        io::copy(&mut source, &mut stdout)?;
    }
    stdout.flush()
}

fn calm_lines(source: impl Read, target: &mut impl Write) -> io::Result<()> {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        if source.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        target.write_all(calm(&String::from_utf8_lossy(&line)).as_bytes())?;
    }
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

/// The same as [`calm`], but colours of the form that this program writes stay.
fn calm_with_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let (mut calmed, mut looked) = (0, 0);
    while let Some(found) = text[looked..].find("\u{1b}[") {
        let start = looked + found;
        let digits = text[start + 2..].find(|c: char| !c.is_ascii_digit() && c != ';');
        looked = start + 2 + digits.unwrap_or(text.len() - start - 2);
        if text[looked..].starts_with('m') {
            looked += 1;
            shown += &calm(&text[calmed..start]);
            shown += &text[start..looked];
            calmed = looked;
        }
    }
    shown + &calm(&text[calmed..])
}

/// JSON whose strings hold nothing that a terminal obeys. Outside of strings JSON has none of it.
fn calm_json(json: &str) -> Cow<'_, str> {
    if !json.contains(obeyed) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        if obeyed(c) {
            // All of them are below U+10000: one unit of UTF-16 each.
            shown += &format!("\\u{:04x}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
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

    #[test]
    fn colours_of_our_own_stay() {
        for (raw, shown) in [
            ("\u{1b}[1;31merror\u{1b}[0m: x", "\u{1b}[1;31merror\u{1b}[0m: x"),
            ("\u{1b}[2J\u{1b}[32mok\u{1b}]0;t\u{7}", "\u{1b}[32mok"),
            ("\u{1b}[31", ""),
            ("\u{1b}[\u{1b}[1mx\u{1b}[5", "\u{1b}[1mx"),
        ] {
            assert_eq!(calm_with_colours(raw), shown, "{raw:?}");
        }
    }

    #[test]
    fn escaped_json_means_the_same() {
        let value = serde_json::json!({ "a\u{9b}2J": ["\u{7f}\u{202e}\n\t\u{1b}[2J", "ü"] });
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let shown = calm_json(&text);
            assert!(!shown.contains(obeyed), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        }
    }

    #[test]
    fn a_long_line_is_calm_in_pieces() {
        let text = "\u{1b}[2Jx".repeat(100_000) + "\n\u{9b}5mlast \u{1b}]0;title\u{7}word";
        let mut shown = Vec::new();
        calm_lines(text.as_bytes(), &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.contains(obeyed) && shown.ends_with("x\nlast word"));
    }

    proptest! {
        #[test]
        fn nothing_is_left_to_obey(text in "[\u{0}-\u{ff}\u{2060}-\u{206f}\\[\\]m;\r\n]{0,40}") {
            prop_assert!(!calm(&text).contains(obeyed));
            let quiet = calm(&text).into_owned();
            prop_assert_eq!(calm(&quiet), quiet.as_str());
            prop_assert_eq!(one_line(&text).lines().count() <= 1, true);
            prop_assert!(!calm_json(&text).contains(obeyed));
            let coloured = calm_with_colours(&text);
            let mut pieces = coloured.split('\u{1b}');
            prop_assert!(!pieces.next().unwrap_or_default().contains(obeyed));
            for piece in pieces {
                let codes = piece.strip_prefix('[').unwrap_or_default();
                let rest = codes.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
                prop_assert!(rest.starts_with('m') && !rest.contains(obeyed), "{coloured:?}");
            }
        }
    }
}
