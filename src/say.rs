//! What is said on stderr. `eprintln!` ends the program where stderr cannot be written: because nobody
//! reads it any more, or because the file it goes to is on a disk that is full.

/// Says a line on stderr; where that cannot be, goes on.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::say::line(format_args!($($text)*))
    };
}

/// A line on stderr.
pub(crate) fn line(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
