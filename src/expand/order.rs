//! The order of stages: each after those it needs.

use std::collections::HashMap;

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::DiGraph;

use crate::parse::{Document, PipelineError, suggest_or_list};

/// Indexes into `document.stages`, each after those it needs.
pub(crate) fn order(document: &Document, errors: &mut Vec<PipelineError>) -> Vec<usize> {
    let names: Vec<&str> = document.stages.iter().map(|s| s.key.name.as_str()).collect();
    let index: HashMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    let mut graph = DiGraph::<(), ()>::new();
    let nodes: Vec<_> = names.iter().map(|_| graph.add_node(())).collect();
    for (at, stage) in document.stages.iter().enumerate() {
        for (text, place) in stage.needs.iter().flat_map(|need| &need.refers) {
            let name = text.split('[').next().unwrap_or_default().trim();
            match index.get(name) {
                Some(&needed) => drop(graph.update_edge(nodes[needed], nodes[at], ())),
                None => {
                    let error = PipelineError::new(place.clone(), format!("no stage `{name}`"));
                    errors.push(error.help(suggest_or_list(name, &names)));
                }
            }
        }
    }
    if let Ok(sorted) = toposort(&graph, None) {
        return sorted.into_iter().map(|n| n.index()).collect();
    }
    for mut circle in tarjan_scc(&graph) {
        circle.sort_unstable();
        let own_loop = graph.contains_edge(circle[0], circle[0]);
        if circle.len() > 1 || own_loop {
            let first = circle[0];
            let mut path = vec![first];
            // Walk along needs within the component until something repeats.
            let last = loop {
                let here = path[path.len() - 1];
                let mut needed: Vec<_> = graph
                    .neighbors_directed(here, petgraph::Incoming)
                    .filter(|n| circle.contains(n))
                    .collect();
                needed.sort_unstable();
                let next = needed[0];
                if let Some(at) = path.iter().position(|n| *n == next) {
                    path.drain(..at);
                    break next;
                }
                path.push(next);
            };
            let words: Vec<_> = path.iter().chain([&last]).map(|n| names[n.index()]).collect();
            let message = format!("stages need each other in a circle: {}", words.join(" -> "));
            let place = document.stages[path[0].index()].key.place.clone();
            errors.push(PipelineError::new(place, message));
        }
    }
    Vec::new()
}
