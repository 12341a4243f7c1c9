//! Text in CSV and Markdown files, so that nothing in it is obeyed by the program that shows it.

use std::borrow::Cow;

/// Text as a cell of a CSV file. Spreadsheets run a cell that begins with `=`, `+`, `-` or `@` as a
/// formula, also behind a tab or a line break; an apostrophe in front makes it text. A number is
/// left as it is.
#[must_use]
pub fn csv(text: &str) -> Cow<'_, str> {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    if formula && text.parse::<f64>().is_err() {
        return Cow::Owned(format!("'{text}"));
    }
    Cow::Borrowed(text)
}

/// Text as a cell of a Markdown table: no bar, line break, emphasis, code, link or HTML. [`plain`]
/// is its inverse, but for line breaks and other control characters, which become spaces.
#[must_use]
pub fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            // Before a bar a backslash would undo the escape of the bar.
            '\\' => out += "&#92;",
            '|' | '`' | '*' | '[' | ']' | '~' | '@' => out.extend(['\\', c]),
            // Between letters it is no emphasis.
            '_' if !before.is_alphanumeric()
                || !rest.peek().is_some_and(|n| n.is_alphanumeric()) =>
            {
                out += "\\_";
            }
            // What would make an address a link.
            ':' if rest.peek() == Some(&'/') => out += "\\:",
            '.' if out.ends_with("www") => out += "\\.",
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
        before = c;
    }
    out
}

/// The text of a Markdown cell that [`markdown`] wrote.
#[must_use]
pub fn plain(markdown: &str) -> String {
    let mut out = String::with_capacity(markdown.len());
    let mut rest = markdown;
    while let Some(at) = rest.find(['\\', '&']) {
        out += &rest[..at];
        rest = &rest[at..];
        let entities = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&#92;", '\\')];
        let found = entities.into_iter().find_map(|(e, c)| Some((c, rest.strip_prefix(e)?)));
        if let Some((c, tail)) = found {
            out.push(c);
            rest = tail;
        } else {
            // The character after a backslash, or an ampersand that begins no entity.
            let tail = rest.strip_prefix('\\').unwrap_or(rest);
            let length = tail.chars().next().map_or(0, char::len_utf8);
            out += &tail[..length];
            rest = &tail[length..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formula_becomes_text_and_a_number_stays() {
        for formula in
            ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "\n="]
        {
            assert_eq!(csv(formula), format!("'{formula}"));
        }
        for harmless in ["-1.5", "+2", "-1e-7", "0", "", "a=b", "label_above_threshold", " =1"] {
            assert_eq!(csv(harmless), harmless);
        }
    }

    #[test]
    fn markdown_is_escaped() {
        insta::assert_snapshot!(
            markdown("a|b\\|c `x` [t](http://e.org) <b>&amp; *i* _u_ n_bg ~~s~~ www.e.org a@b.org\n\u{1b}[2J"),
            @r"a\|b&#92;\|c \`x\` \[t\](http\://e.org) &lt;b&gt;&amp;amp; \*i\* \_u\_ n_bg \~\~s\~\~ www\.e.org a\@b.org  \[2J"
        );
    }

    #[test]
    fn plain_undoes_markdown() {
        for text in ["", "a|b\\", "&lt; & &amp; \\\\ _a_ a_b", "[x](://) `c` www.x ~@*", "é λ|漢\\"]
        {
            assert_eq!(plain(&markdown(text)), text);
        }
    }
}
