//! A table in LaTeX, for `\input`: booktabs, the best in bold, those within its interval underlined.

use super::{Grid, Mark};
use crate::text;

impl Grid {
    /// The table as a float; it needs `\usepackage{booktabs}`.
    pub fn latex(&self) -> String {
        let facts = self.spec.rows.len();
        let align = "l".repeat(facts) + &"r".repeat(self.columns.len());
        let line = |cells: &[String]| format!("    {} \\\\\n", cells.join(" & "));
        let header: Vec<String> = self.header().iter().map(|h| text::latex(h)).collect();
        let mut body = String::new();
        for (row, cells) in self.rows.iter().zip(&self.cells) {
            let mut shown: Vec<String> = row.iter().map(|v| text::latex(&text::value(v))).collect();
            shown.extend(cells.iter().map(|cell| match cell {
                None => "--".to_owned(),
                Some(cell) => {
                    let (mean, half) = self.text(cell);
                    let half = half.map(|h| format!(" $\\pm$ {h}")).unwrap_or_default();
                    let mean = match cell.count {
                        Some(_) => text::latex(&mean),
                        None => mean.replacen('-', "$-$", 1),
                    };
                    match cell.mark {
                        Mark::Plain => mean + &half,
                        Mark::Best => format!("\\textbf{{{mean}}}{half}"),
                        Mark::Close => format!("\\underline{{{mean}}}{half}"),
                    }
                }
            }));
            body += &line(&shown);
        }
        format!(
            "% Needs \\usepackage{{booktabs}}.\n\\begin{{table}}[ht]\n  \\centering\n  \\caption{{{}. {}}}\n  \\label{{tab:{}}}\n  \\begin{{tabular}}{{{align}}}\n    \\toprule\n{}    \\midrule\n{body}    \\bottomrule\n  \\end{{tabular}}\n\\end{{table}}\n",
            text::latex(&self.spec.caption),
            text::latex(&self.note(str::to_owned)),
            self.spec.name,
            line(&header),
        )
    }
}
