//! Unit tests of the scheduler are in its parts; what it does with processes is in tests/engine.rs.

use std::collections::BTreeSet;
use std::sync::Arc;

use dissim_api::Params;
use proptest::prelude::*;

use super::edges::Edges;
use crate::graph::{Need, Study, Task};

/// A study of tasks that need earlier ones; each list of more than one is a group.
fn study(needs: &[Vec<Arc<[usize]>>]) -> Study {
    let task = |(id, lists): (usize, &Vec<Arc<[usize]>>)| Task {
        stage: 0,
        name: format!("t{id}"),
        aliases: Vec::new(),
        axes: Vec::new(),
        params: Params::new(),
        needs: lists
            .iter()
            .map(|l| Need { input: "x".into(), gathered: l.len() != 1, tasks: Arc::clone(l) })
            .collect(),
        files: Vec::new(),
        code: Vec::new(),
    };
    Study {
        name: "x".into(),
        file: "x".into(),
        root: "/".into(),
        profile: None,
        backend: "flex".into(),
        device: dissim_api::Device::Cpu,
        claims: Vec::new(),
        tables: Vec::new(),
        remote: None,
        slurm: None,
        stages: Vec::new(),
        tasks: needs.iter().enumerate().map(task).collect(),
        warnings: Vec::new(),
    }
}

/// Random lists of earlier tasks, the same list often shared.
fn lists(picks: &[Vec<Vec<usize>>]) -> Vec<Vec<Arc<[usize]>>> {
    let mut shared: Vec<Arc<[usize]>> = Vec::new();
    let mut all: Vec<Vec<Arc<[usize]>>> = Vec::new();
    for (id, lists) in picks.iter().enumerate() {
        let mut of_task = Vec::new();
        for pick in lists {
            let known = shared.iter().find(|l| l.iter().all(|&t| t < id) && pick.len() % 2 == 0);
            let list: Arc<[usize]> = match known {
                Some(known) => Arc::clone(known),
                None => {
                    let set: BTreeSet<usize> =
                        pick.iter().filter(|_| id > 0).map(|p| p % id.max(1)).collect();
                    set.into_iter().collect()
                }
            };
            if list.len() > 1 {
                shared.push(Arc::clone(&list));
            }
            of_task.push(list);
        }
        all.push(of_task);
    }
    all
}

proptest! {
    /// Against the plain definition: a task is free when all it needs is done, and its rank is the
    /// longest chain of tasks from it on.
    #[test]
    fn groups_change_nothing_but_the_cost(
        picks in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(0usize..50, 0..5), 0..3), 1..14),
    ) {
        let lists = lists(&picks);
        let study = study(&lists);
        let n = lists.len();
        let mut edges = Edges::new(&study, &(0..n).collect());
        let needs = |task: usize, other: usize| lists[task].iter().any(|l| l.contains(&other));

        let mut chains = vec![0.0; n];
        for task in (0..n).rev() {
            let after = (task + 1..n).filter(|&u| needs(u, task)).map(|u| chains[u]);
            chains[task] = (task + 1) as f64 + after.fold(0.0, f64::max);
        }
        prop_assert_eq!(edges.ranks(|task| (task + 1) as f64), chains);
        let mut depths = vec![0; n];
        for task in 0..n {
            depths[task] = (0..task).filter(|&o| needs(task, o)).map(|o| depths[o] + 1).max().unwrap_or(0);
        }
        prop_assert_eq!(edges.depths(&study), depths);

        let mut free = edges.free();
        let mut done = BTreeSet::new();
        while let Some(task) = free.pop() {
            prop_assert!((0..n).all(|o| !needs(task, o) || done.contains(&o)));
            prop_assert!(done.insert(task), "freed twice");
            free.extend(edges.done(task));
        }
        prop_assert_eq!(done.len(), n);
    }
}
