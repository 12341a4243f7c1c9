//! What is wrong with a pipeline.yaml: where, what, and what to do.

use std::fmt;

use crate::say::{calm, obeyed};
use crate::secret::mask_setting;

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Place {
    /// In no particular place of the file.
    #[default]
    Nowhere,
    /// In the file: line and column from 1, length in characters.
    File {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// Characters.
        length: usize,
    },
    /// On the command line: the text after `--set`.
    Set(String),
}

/// One error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineError {
    /// Where.
    pub place: Place,
    /// What, as one sentence without a full stop.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl PipelineError {
    /// An error at a place.
    pub fn new(place: Place, message: impl Into<String>) -> Self {
        Self { place, message: message.into(), help: None }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Every error of a file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PipelineErrors {
    /// The file's name, as the user gave it.
    pub file: String,
    /// Its text; empty where it could not be read.
    pub text: String,
    /// The errors, sorted by place, without repeats.
    pub errors: Vec<PipelineError>,
}

impl PipelineErrors {
    pub(crate) fn new(file: String, text: String, mut errors: Vec<PipelineError>) -> Self {
        // A stable sort: of errors at one place, the first found comes first.
        errors.sort_by(|a, b| a.place.cmp(&b.place));
        let mut seen = Vec::new();
        errors.retain(|e| {
            let new = !seen.contains(e);
            if new {
                seen.push(e.clone());
            }
            new
        });
        Self { file, text, errors }
    }

    /// All errors as a person reads them, with the text underlined.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let count = self.errors.len();
        let noun = if count == 1 { "error" } else { "errors" };
        format!(
            "{}\n{count} {noun} in {}; nothing was run\n",
            self.listed(colour),
            calm(&self.file)
        )
    }

    /// The errors alone.
    pub(crate) fn listed(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        let render = |error: &PipelineError| {
            let mut out =
                format!("{}: {}\n", paint("1;31", "error"), paint("1", &calm(&error.message)));
            out += &self.locate(&error.place, &paint);
            if let Some(help) = &error.help {
                out += &format!("  {} {}\n", paint("1;36", "help:"), calm(help));
            }
            out
        };
        self.errors.iter().map(render).collect::<Vec<_>>().join("\n")
    }

    fn locate(&self, place: &Place, paint: &dyn Fn(&str, &str) -> String) -> String {
        match place {
            Place::Nowhere => format!("  {} {}\n", paint("1;34", "-->"), calm(&self.file)),
            Place::Set(text) => {
                format!("  {} --set {}\n", paint("1;34", "-->"), calm(&mask_setting(text)))
            }
            Place::File { line, column, length } => {
                let arrow = paint("1;34", "-->");
                let mut out = format!("  {arrow} {}:{line}:{column}\n", calm(&self.file));
                let Some(text) = self.text.lines().nth(line.saturating_sub(1)) else { return out };
                // One column a character, whatever a terminal would make of it.
                let text: String =
                    text.chars().map(|c| if obeyed(c) || c == '\t' { ' ' } else { c }).collect();
                let number = line.to_string();
                let bar = paint("1;34", "|");
                let indent = " ".repeat(column.saturating_sub(1));
                let room = text.chars().count().saturating_sub(column.saturating_sub(1));
                let under = "^".repeat((*length).clamp(1, room.max(1)));
                out += &format!("{} {bar} {text}\n", paint("1;34", &number));
                out + &format!(
                    "{} {bar} {indent}{}\n",
                    " ".repeat(number.len()),
                    paint("1;31", &under)
                )
            }
        }
    }
}

impl fmt::Display for PipelineErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for PipelineErrors {}

/// `did you mean ..`, if one of the names is close to what was written.
pub(crate) fn suggestion<'a>(
    written: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(written, name), name))
        .filter(|(distance, name)| {
            let length = name.len().max(written.len());
            *distance <= 1 + length / 4 && *distance < length
        })
        .min()
        .map(|(_, name)| format!("did you mean `{name}`?"))
}

/// The suggestion, or else the list of what there is.
pub(crate) fn suggest_or_list(written: &str, names: &[&str]) -> String {
    suggestion(written, names.iter().copied()).unwrap_or_else(|| match names {
        [] => "there are none".to_owned(),
        names => format!("there are: {}", names.join(", ")),
    })
}
