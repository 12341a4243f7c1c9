//! A table in Markdown.

use super::{Grid, Mark};
use crate::text;

impl Grid {
    /// The table, with its caption above and what the numbers are below.
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let header: Vec<String> = self.header().iter().map(|h| text::markdown(h)).collect();
        let facts = self.rows.first().map_or(self.spec.rows.len(), Vec::len);
        let rule: Vec<_> =
            (0..header.len()).map(|c| if c < facts { ":--" } else { "--:" }).collect();
        let mut out = line(&header) + &format!("|{}|\n", rule.join("|"));
        for (row, cells) in self.rows.iter().zip(&self.cells) {
            let mut shown: Vec<String> =
                row.iter().map(|v| text::markdown(&text::value(v))).collect();
            for cell in cells {
                shown.push(cell.as_ref().map_or("-".into(), |cell| {
                    let mean = self.text(cell);
                    let number =
                        mean.1.map_or(mean.0.clone(), |half| format!("{} ± {half}", mean.0));
                    match cell.mark {
                        Mark::Plain => number,
                        Mark::Best => format!("**{number}**"),
                        Mark::Close => format!("<u>{number}</u>"),
                    }
                }));
            }
            out += &line(&shown);
        }
        let caption = match self.spec.caption.as_str() {
            "" => String::new(),
            caption => format!("**{}**\n\n", text::markdown(caption)),
        };
        format!("{caption}{out}\n{}\n", self.note(text::markdown))
    }
}
