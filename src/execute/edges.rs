//! Who waits for whom in a run. A join over many tasks is one group that its users share: a group of
//! n with m users costs n + m, not n times m.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::graph::{Study, TaskId};

/// The wanted tasks and what waits for them.
#[derive(Debug)]
pub(super) struct Edges {
    pub wanted: Vec<bool>,
    /// Tasks that need one task, by that task.
    users: Vec<Vec<TaskId>>,
    /// Groups a task is a member of.
    member_of: Vec<Vec<usize>>,
    groups: Vec<Group>,
    /// Tasks and groups that a task still waits for.
    pending: Vec<usize>,
}

#[derive(Debug)]
struct Group {
    users: Vec<TaskId>,
    pending: usize,
}

impl Edges {
    pub fn new(study: &Study, targets: &BTreeSet<TaskId>) -> Self {
        let n = study.tasks.len();
        let mut edges = Self {
            wanted: wanted(study, targets),
            users: vec![Vec::new(); n],
            member_of: vec![Vec::new(); n],
            groups: Vec::new(),
            pending: vec![0; n],
        };
        let mut known: HashMap<*const TaskId, usize> = HashMap::new();
        for task in (0..n).filter(|&t| edges.wanted[t]).collect::<Vec<_>>() {
            let (mut single, mut shared) = (Vec::new(), Vec::new());
            for need in &study.tasks[task].needs {
                match &need.tasks[..] {
                    [one] => single.push(*one),
                    _ => shared.push(edges.group(&need.tasks, &mut known)),
                }
            }
            single.sort_unstable();
            single.dedup();
            shared.sort_unstable();
            shared.dedup();
            // A group without members holds nobody up.
            shared.retain(|&group| edges.groups[group].pending > 0);
            edges.pending[task] = single.len() + shared.len();
            single.into_iter().for_each(|need| edges.users[need].push(task));
            shared.into_iter().for_each(|group| edges.groups[group].users.push(task));
        }
        edges
    }

    fn group(&mut self, tasks: &Arc<[TaskId]>, known: &mut HashMap<*const TaskId, usize>) -> usize {
        // Equal lists that are not shared make two groups, which is only slower.
        *known.entry(tasks.as_ptr()).or_insert_with(|| {
            let group = self.groups.len();
            self.groups.push(Group { users: Vec::new(), pending: tasks.len() });
            tasks.iter().for_each(|&member| self.member_of[member].push(group));
            group
        })
    }

    /// Wanted tasks that wait for nothing.
    pub fn free(&self) -> Vec<TaskId> {
        (0..self.wanted.len()).filter(|&t| self.wanted[t] && self.pending[t] == 0).collect()
    }

    /// A task is done: these wait for nothing any more.
    pub fn done(&mut self, task: TaskId) -> Vec<TaskId> {
        let mut freed = Vec::new();
        let mut release = |user: TaskId, pending: &mut Vec<usize>| {
            pending[user] -= 1;
            if pending[user] == 0 {
                freed.push(user);
            }
        };
        for &user in &self.users[task] {
            release(user, &mut self.pending);
        }
        for &group in &self.member_of[task] {
            let group = &mut self.groups[group];
            group.pending -= 1;
            if group.pending == 0 {
                group.users.iter().for_each(|&user| release(user, &mut self.pending));
            }
        }
        freed
    }

    /// What needs a task, directly or through a group.
    pub fn users(&self, task: TaskId) -> impl Iterator<Item = TaskId> + '_ {
        let groups = self.member_of[task].iter().flat_map(|&g| &self.groups[g].users);
        self.users[task].iter().chain(groups).copied()
    }

    /// For each task the time until the end of the run if everything else had a machine of its own:
    /// what is on the longest path comes first.
    pub fn ranks(&self, duration_s: impl Fn(TaskId) -> f64) -> Vec<f64> {
        let n = self.wanted.len();
        let mut ranks = vec![0.0f64; n];
        let mut of_group: Vec<Option<f64>> = vec![None; self.groups.len()];
        let longest = |users: &[TaskId], ranks: &[f64]| {
            users.iter().map(|&user| ranks[user]).fold(0.0, f64::max)
        };
        // Users stand after what they need, so theirs are known.
        for task in (0..n).rev().filter(|&t| self.wanted[t]) {
            let mut after = longest(&self.users[task], &ranks);
            for &group in &self.member_of[task] {
                let users = &self.groups[group].users;
                after = after.max(*of_group[group].get_or_insert_with(|| longest(users, &ranks)));
            }
            ranks[task] = duration_s(task) + after;
        }
        ranks
    }

    /// For each wanted task the length of the longest chain of tasks that leads to it.
    pub fn depths(&self, study: &Study) -> Vec<u32> {
        let mut depths = vec![0u32; self.wanted.len()];
        let mut of_list: HashMap<*const TaskId, u32> = HashMap::new();
        for task in (0..depths.len()).filter(|&t| self.wanted[t]) {
            // What a task needs stands before it, so the depths of it are known.
            let below = |need: &Arc<[TaskId]>| {
                let deepest = || need.iter().map(|&t| depths[t] + 1).max().unwrap_or(0);
                *of_list.entry(need.as_ptr()).or_insert_with(deepest)
            };
            depths[task] =
                study.tasks[task].needs.iter().map(|n| &n.tasks).map(below).max().unwrap_or(0);
        }
        depths
    }
}

/// The targets and all that they need.
pub(crate) fn wanted(study: &Study, targets: &BTreeSet<TaskId>) -> Vec<bool> {
    let mut wanted = vec![false; study.tasks.len()];
    let mut seen = BTreeSet::new();
    for task in (0..wanted.len()).rev() {
        wanted[task] |= targets.contains(&task);
        if wanted[task] {
            for need in &study.tasks[task].needs {
                if need.tasks.len() == 1 || seen.insert(need.tasks.as_ptr()) {
                    need.tasks.iter().for_each(|&need| wanted[need] = true);
                }
            }
        }
    }
    wanted
}
