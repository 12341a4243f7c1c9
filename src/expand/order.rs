//! The order of stages: each after those it needs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::parse::{Document, PipelineError, suggest_or_list};

/// The order in which stages are expanded.
pub(crate) struct Order {
    /// Indexes into `document.stages`, each after those it needs; those in a circle, and behind one, last.
    pub sorted: Vec<usize>,
    /// Stages that need something that is not there, or that are in a circle or behind one.
    pub broken: HashSet<usize>,
}

/// The stage in `stage[axis=value]`.
pub(crate) fn stage_name(text: &str) -> &str {
    text.split('[').next().unwrap_or_default().trim()
}

pub(crate) fn order(document: &Document, errors: &mut Vec<PipelineError>) -> Order {
    let names: Vec<&str> = document.stages.iter().map(|s| s.key.name.as_str()).collect();
    let index: HashMap<&str, usize> = names.iter().enumerate().map(|(i, n)| (*n, i)).collect();
    let mut broken = HashSet::new();
    let mut graph = DiGraph::<(), ()>::new();
    let nodes: Vec<_> = names.iter().map(|_| graph.add_node(())).collect();
    for (at, stage) in document.stages.iter().enumerate() {
        for (text, place) in stage.needs.iter().flat_map(|need| &need.refers) {
            let name = stage_name(text);
            match index.get(name) {
                Some(&needed) => drop(graph.update_edge(nodes[needed], nodes[at], ())),
                None => {
                    let error = PipelineError::new(place.clone(), format!("no stage `{name}`"));
                    errors.push(error.help(suggest_or_list(name, &names)));
                    broken.insert(at);
                }
            }
        }
    }
    let mut sorted = in_order(&graph);
    if sorted.len() == nodes.len() {
        return Order { sorted, broken };
    }
    let left_out: Vec<usize> = (0..nodes.len()).filter(|at| !sorted.contains(at)).collect();
    sorted.extend(&left_out);
    broken.extend(left_out);
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
    Order { sorted, broken }
}

/// Each node after those it needs, and otherwise as in the file; those in or behind a circle are left out.
fn in_order(graph: &DiGraph<(), ()>) -> Vec<usize> {
    let needs = |node: NodeIndex| graph.neighbors_directed(node, petgraph::Incoming).count();
    let mut open: Vec<usize> = graph.node_indices().map(needs).collect();
    let free = graph.node_indices().filter(|node| open[node.index()] == 0);
    let mut free: BinaryHeap<_> = free.map(Reverse).collect();
    let mut sorted = Vec::new();
    while let Some(Reverse(node)) = free.pop() {
        sorted.push(node.index());
        for user in graph.neighbors(node) {
            open[user.index()] -= 1;
            if open[user.index()] == 0 {
                free.push(Reverse(user));
            }
        }
    }
    sorted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The oracle: again and again the first in the file of those whose needs are all there.
        #[test]
        fn needs_come_first_and_the_file_decides_otherwise(
            n in 1usize..12, edges in prop::collection::btree_set((0usize..12, 0usize..12), 0..20),
        ) {
            let edges: Vec<(usize, usize)> =
                edges.into_iter().filter(|&(a, b)| a < n && b < n).collect();
            let mut graph = DiGraph::<(), ()>::new();
            let nodes: Vec<_> = (0..n).map(|_| graph.add_node(())).collect();
            for &(needed, user) in &edges {
                graph.update_edge(nodes[needed], nodes[user], ());
            }
            let mut expected: Vec<usize> = Vec::new();
            let ready = |done: &[usize], node: usize| {
                !done.contains(&node)
                    && edges.iter().all(|&(needed, user)| user != node || done.contains(&needed))
            };
            while let Some(next) = (0..n).find(|&node| ready(&expected, node)) {
                expected.push(next);
            }
            prop_assert_eq!(in_order(&graph), expected);
        }
    }
}
