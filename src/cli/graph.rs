//! `dissim graph`.

use clap::{Args, ValueEnum};

use super::{Cli, Result, Selection, print};
use crate::graph::Study;
use crate::registry::Registry;

#[derive(Debug, Args)]
pub(super) struct GraphArgs {
    #[command(flatten)]
    selection: Selection,
    /// The language.
    #[arg(long, value_enum, default_value = "mermaid")]
    format: Format,
    /// Every task, in place of every stage.
    #[arg(long)]
    tasks: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Mermaid,
    Dot,
}

pub(super) fn graph(cli: &Cli, args: &GraphArgs, registry: &Registry) -> Result<()> {
    let (study, _) = cli.open(&args.selection, registry)?;
    let (labels, edges) = if args.tasks { tasks(&study) } else { stages(&study) };
    let mut text = String::new();
    match args.format {
        Format::Mermaid => {
            text += "flowchart LR\n";
            for (i, label) in labels.iter().enumerate() {
                text += &format!("  n{i}[\"{}\"]\n", in_mermaid(label));
            }
            for (from, to) in edges {
                text += &format!("  n{from} --> n{to}\n");
            }
        }
        Format::Dot => {
            text += "digraph pipeline {\n  rankdir=LR\n  node [shape=box]\n";
            for (i, label) in labels.iter().enumerate() {
                text += &format!("  n{i} [label={label:?}]\n");
            }
            for (from, to) in edges {
                text += &format!("  n{from} -> n{to}\n");
            }
            text += "}\n";
        }
    }
    print(&text)
}

/// A label as mermaid shows it: as text, whatever it holds.
fn in_mermaid(label: &str) -> String {
    let entity = |c: char| match c {
        '"' | '#' | '&' | '<' | '>' | '`' | '\\' => format!("#{};", u32::from(c)),
        c if c.is_control() => " ".to_owned(),
        c => c.to_string(),
    };
    label.chars().map(entity).collect()
}

type Labelled = (Vec<String>, Vec<(usize, usize)>);

fn stages(study: &Study) -> Labelled {
    let label = |node: &crate::graph::StageNode| match node.tasks.len() {
        1 => format!("{}: {}", node.name, node.stage.kind()),
        n => format!("{}: {}, {n} tasks", node.name, node.stage.kind()),
    };
    let edges = study
        .stages
        .iter()
        .enumerate()
        .flat_map(|(to, node)| node.needs.iter().map(move |&from| (from, to)));
    (study.stages.iter().map(label).collect(), edges.collect())
}

fn tasks(study: &Study) -> Labelled {
    let needs = |task: &crate::graph::Task| {
        task.needs.iter().flat_map(|n| n.tasks.iter().copied()).collect::<Vec<_>>()
    };
    let edges = study
        .tasks
        .iter()
        .enumerate()
        .flat_map(|(to, task)| needs(task).into_iter().map(move |from| (from, to)));
    (study.tasks.iter().map(|t| t.name.clone()).collect(), edges.collect())
}

#[cfg(test)]
mod tests {
    use super::in_mermaid;

    #[test]
    fn a_label_cannot_leave_its_node() {
        let label = "t[x=\"]\n click n0 href \"javascript:x\"<b>&#34;`\\]";
        insta::assert_snapshot!(in_mermaid(label), @"t[x=#34;]  click n0 href #34;javascript:x#34;#60;b#62;#38;#35;34;#96;#92;]");
    }
}
