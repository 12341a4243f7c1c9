//! Tasks as processes of this machine: a thread waits for each.

use std::io;
use std::sync::mpsc::Sender;
use std::thread::Scope;

use super::process::Cancel;
use super::worker::{Begun, Job, Message, Outcome};
use crate::store::Durable;

/// Where the tasks of a run are run.
pub(super) trait Executor<'a> {
    /// Starts tasks; each of them sends [`Message::Finished`] once, and in no particular order.
    fn launch(&mut self, jobs: Vec<Job<'a>>);
}

/// The executor of this machine.
pub(super) struct Local<'scope, 'env> {
    pub scope: &'scope Scope<'scope, 'env>,
    pub cancel: &'env Cancel,
    pub sender: Sender<Message>,
}

impl<'scope, 'a: 'scope> Executor<'a> for Local<'scope, '_> {
    fn launch(&mut self, jobs: Vec<Job<'a>>) {
        for job in jobs {
            let (cancel, sender) = (self.cancel, self.sender.clone());
            self.scope.spawn(move || {
                let outcome = turn(&job, cancel, &sender);
                let outcome = outcome.unwrap_or_else(|e| Outcome::Failed(e.to_string()));
                job.clear();
                // The scheduler is gone only when the run is being torn down.
                let _ = sender.send(Message::Finished(job.task(), Box::new(outcome)));
            });
        }
    }
}

fn turn(job: &Job<'_>, cancel: &Cancel, sender: &Sender<Message>) -> io::Result<Outcome> {
    let laid = match job.begin(cancel)? {
        Begun::Over(outcome) => return Ok(outcome),
        Begun::Laid(laid) => laid,
    };
    let finished = job.process(cancel, |progress| {
        let _ = sender.send(Message::Progress(job.task(), progress));
    })?;
    job.end(*laid, finished, Durable::Now)
}
