//! The way of a task into Slurm: locked, claimed, laid out, and submitted with others of its stage.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use rayon::prelude::*;

use super::super::worker::{Begun, Job, Laid, Outcome, Tried};
use super::array::{Array, Whereabouts};
use super::client::{self, Why};
use super::state::JobId;
use super::{BUSY, Out, Server, job, script};
use crate::remote::Claimed;

impl<'a> Server<'a> {
    /// Takes the lock of a task's key; lays the task out, or takes up the job that has it.
    pub(super) fn begin(&mut self, job: Job<'a>) {
        match job.try_begin() {
            Err(error) => self.over(&job, Outcome::Failed(error.to_string())),
            Ok(Tried::Over(outcome)) => self.over(&job, outcome),
            Ok(Tried::Busy) => self.blocked.push(job),
            Ok(Tried::Locked(lock)) => {
                let Some((array, index)) = job::array_of(self.store, job.folder()) else {
                    return self.locked.push((job, lock));
                };
                let ended = job::has_ended(job.folder());
                match (self.whereabouts(&array), job.laid_before()) {
                    (Whereabouts::Sent(id), Some(spec)) => {
                        // Its claim is that of the runner that died; a new one is made in time.
                        let laid = job.taken_up(spec, lock);
                        self.sent(array, id, [(index, job, laid)]);
                    }
                    // The number of a job that is over is of no use any more.
                    (_, Some(spec)) if ended => {
                        let laid = job.taken_up(spec, lock);
                        self.sent(array, 0, [(index, job, laid)]);
                    }
                    (Whereabouts::Unknown(what), Some(_)) => {
                        self.tell_silent(&what);
                        self.blocked.push(job);
                    }
                    _ => self.locked.push((job, lock)),
                }
            }
        }
    }

    /// Whether Slurm has the array of an earlier runner; asked once for all of its tasks.
    fn whereabouts(&mut self, array: &Array) -> Whereabouts {
        let known = self.earlier.entry(array.clone()).or_insert_with(|| array.whereabouts());
        known.clone()
    }

    /// Tasks of an array are out.
    fn sent(
        &mut self,
        array: Array,
        id: u64,
        tasks: impl IntoIterator<Item = (u32, Job<'a>, Laid)>,
    ) {
        for (index, job, laid) in tasks {
            *self.left.entry(array.clone()).or_default() += 1;
            let id = JobId { array: id, index };
            let array = array.clone();
            self.out.push(Out { job, laid, array, id, state: String::new(), gone: None });
        }
    }

    /// Claims what is locked, and lays it out.
    pub(super) fn claim(&mut self) {
        let locked = std::mem::take(&mut self.locked);
        let keys: Vec<_> = locked.iter().map(|(job, _)| job.to_claim()).collect();
        let claimed: Vec<Claimed> = match self.remote {
            Some(remote) if !keys.is_empty() => remote.claim_all(&keys),
            _ => keys.iter().map(|_| Claimed::Unknown).collect(),
        };
        for ((job, lock), claimed) in locked.into_iter().zip(claimed) {
            let claim = match job.claimed(claimed) {
                Ok(claim) => claim,
                Err(outcome) => {
                    self.over(&job, *outcome);
                    continue;
                }
            };
            let cpus = script::cpus(&self.cluster.settings, job.policy());
            match job.lay_out(lock, claim) {
                Ok(Begun::Laid(laid)) => match job::order(job.folder(), job.policy(), cpus) {
                    Ok(()) => self.laid.push((job, *laid)),
                    Err(error) => self.over(&job, Outcome::Failed(error.to_string())),
                },
                Ok(Begun::Over(outcome)) => self.over(&job, outcome),
                Err(error) => self.over(&job, Outcome::Failed(error.to_string())),
            }
        }
    }

    /// Claims the keys of jobs that were taken up from a runner that died, once its claim is dead.
    pub(super) fn claim_taken_up(&mut self) {
        let Some(remote) = self.remote else { return };
        let mut bare: Vec<&mut Out<'a>> =
            self.out.iter_mut().filter(|out| out.laid.claim.is_none()).collect();
        let keys: Vec<_> = bare.iter().map(|out| out.job.to_claim()).collect();
        if keys.is_empty() {
            return;
        }
        for (out, claimed) in bare.iter_mut().zip(remote.claim_all(&keys)) {
            if let Claimed::Ours(claim) = claimed {
                out.laid.claim = Some(claim);
            }
        }
    }

    /// Submits what is laid out: an array for each stage, or more where it would be too long.
    pub(super) fn submit(&mut self) {
        for (array, tasks) in std::mem::take(&mut self.unsure) {
            match array.whereabouts() {
                Whereabouts::Sent(id) => self.array_sent(array, id, tasks),
                Whereabouts::Unsent => self.submit_array(array, tasks),
                Whereabouts::Unknown(what) => self.not_sure(array, tasks, &what),
            }
        }
        let mut stages: BTreeMap<usize, Vec<(Job<'a>, Laid)>> = BTreeMap::new();
        for (job, laid) in self.laid.drain(..) {
            stages.entry(job.stage()).or_default().push((job, laid));
        }
        let most = self.cluster.settings.array.max(1) as usize;
        for (_, mut tasks) in stages {
            while !tasks.is_empty() {
                let rest = tasks.split_off(tasks.len().min(most));
                let tasks = std::mem::replace(&mut tasks, rest);
                match self.write_array(&tasks) {
                    Ok(array) => self.submit_array(array, tasks),
                    Err(error) => {
                        self.refused(
                            &tasks,
                            &format!("the job array could not be written: {error}"),
                        );
                    }
                }
            }
        }
    }

    fn submit_array(&mut self, array: Array, tasks: Vec<(Job<'a>, Laid)>) {
        let (first, _) = &tasks[0];
        let name = format!("dissim-{}", first.stage_name());
        let settings = &self.cluster.settings;
        let arguments = script::arguments(settings, first.policy(), &name, tasks.len(), &array);
        match client::submit(arguments, &array.script()) {
            Ok(id) => {
                array.note(id);
                self.array_sent(array, id, tasks);
            }
            Err(Why::Silent(what)) => self.not_sure(array, tasks, &what),
            Err(Why::Refused(what)) => {
                array.clear();
                self.refused(&tasks, &what);
            }
        }
    }

    fn array_sent(&mut self, array: Array, id: u64, tasks: Vec<(Job<'a>, Laid)>) {
        let indexed = (0..).zip(tasks).map(|(index, (job, laid))| (index, job, laid));
        self.sent(array, id, indexed);
    }

    /// Slurm did not answer a submission, and may have the array all the same.
    fn not_sure(&mut self, array: Array, tasks: Vec<(Job<'a>, Laid)>, what: &str) {
        self.tell_silent(what);
        self.submit_from = Instant::now() + BUSY;
        self.unsure.push((array, tasks));
    }

    fn refused(&self, tasks: &[(Job<'a>, Laid)], what: &str) {
        for (job, _) in tasks {
            self.over(job, Outcome::Failed(what.to_owned()));
        }
    }

    /// Writes down an array, and in every task's folder that the task is in it.
    fn write_array(&self, tasks: &[(Job<'a>, Laid)]) -> io::Result<Array> {
        let array = Array::new(self.store)?;
        let settings = &self.cluster.settings;
        array.write(tasks.iter().map(|(job, _)| job.folder()), |list| {
            script::script(settings, &self.program, list)
        })?;
        tasks.par_iter().enumerate().try_for_each(|(index, (job, _))| {
            job::note_array(job.folder(), &array, index as u32)
        })?;
        Ok(array)
    }
}
