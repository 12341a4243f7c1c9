//! After a first error of syntax: what else of the file is no YAML.
//!
//! The parser stops at its first error, and that may stand far below the mistake. So each part of the
//! file, a key at the top or a stage, is parsed alone: a bracket that is not closed in one stage says
//! nothing of the next.

use super::errors::{PipelineError, Place};
use super::yaml;

/// The errors of every part of `text`; `first`, what the whole file gave, where there is no other.
pub(super) fn errors(text: &str, first: PipelineError) -> Vec<PipelineError> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for part in parts(&lines) {
        // The lines before are left out but counted, so that places are those of the file.
        let alone = "\n".repeat(part.start) + &lines[part].join("\n") + "\n";
        if let Err(error) = yaml::parse(&alone) {
            found.push(error);
        }
    }
    // An anchor may stand in another part, and a place at the end of a part may be beyond the file.
    found.retain(|error| !error.message.contains("anchor") && !error.message.contains("alias"));
    let across = |error: &PipelineError| error.message.contains("stands twice");
    // Of one error the parser that sees the whole file knows more.
    if found.len() < 2 && !across(&first) {
        return vec![first];
    }
    if across(&first) && !found.contains(&first) {
        found.push(first);
    }
    for error in &mut found {
        if let Place::File { line, .. } = &mut error.place {
            *line = (*line).min(lines.len().max(1));
        }
    }
    found
}

/// The lines of each part: from a key at the top to the next, and of `stages:` each stage.
fn parts(lines: &[&str]) -> Vec<std::ops::Range<usize>> {
    let heads = heads(lines, 0..lines.len(), 0);
    let mut parts = Vec::new();
    for (at, &start) in heads.iter().enumerate() {
        let end = heads.get(at + 1).copied().unwrap_or(lines.len());
        let below = start + 1..end;
        let indent = below.clone().map(|i| lines[i]).find(|l| is_content(l)).map(indent_of);
        let inner = match indent {
            Some(indent) if indent > 0 && lines[start].trim_end() == "stages:" => {
                self::heads(lines, below, indent)
            }
            _ => Vec::new(),
        };
        match inner.as_slice() {
            [] => parts.push(start..end),
            inner => {
                parts.push(start..inner[0]);
                let ends = inner[1..].iter().copied().chain([end]);
                parts.extend(inner.iter().copied().zip(ends).map(|(start, end)| start..end));
            }
        }
    }
    parts
}

/// The lines with a key at an indentation.
fn heads(lines: &[&str], range: std::ops::Range<usize>, indent: usize) -> Vec<usize> {
    let word = |line: &str| {
        let name: String = line.chars().take_while(|c| *c != ':').collect();
        let good = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        name.len() < line.len() && !name.is_empty() && name.chars().all(good)
    };
    range.filter(|&i| indent_of(lines[i]) == indent && word(lines[i].trim_start())).collect()
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

fn is_content(line: &str) -> bool {
    let text = line.trim();
    !text.is_empty() && !text.starts_with('#')
}
