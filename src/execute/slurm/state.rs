//! What Slurm says of jobs, and what that means for a task.

use std::collections::HashMap;

/// One task of an array, as Slurm names it: `12_3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct JobId {
    pub array: u64,
    pub index: u32,
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}", self.array, self.index)
    }
}

impl JobId {
    /// Reads `12_3`.
    pub fn read(text: &str) -> Option<Self> {
        let (array, index) = text.split_once('_')?;
        Some(Self { array: array.parse().ok()?, index: index.parse().ok()? })
    }
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    /// Slurm's word, such as `RUNNING` or `OUT_OF_MEMORY`.
    pub state: String,
    /// Where it runs or ran; empty while it waits.
    pub nodes: String,
    /// `code:signal`; empty where it was not said.
    pub exit: String,
}

/// What the state of a job that left no result means for its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It waits, runs, or will run again.
    Alive,
    /// It says it ended well: its result must be about to appear.
    Completed,
    /// The cluster's fault, not the task's: it is submitted again.
    Again(String),
    /// It failed, in words.
    Failed(String),
}

impl Standing {
    /// `limit` is the job's time limit in words, if one is known.
    pub fn meaning(&self, limit: Option<&str>) -> Meaning {
        // sacct says `CANCELLED by 1000`.
        let word = self.state.split([' ', '+']).next().unwrap_or_default();
        let on = match self.nodes.as_str() {
            "" | "(null)" | "None assigned" => String::new(),
            nodes => format!(" on {nodes}"),
        };
        match word {
            "PENDING" | "RUNNING" | "SUSPENDED" | "CONFIGURING" | "COMPLETING" | "REQUEUED"
            | "REQUEUE_HOLD" | "REQUEUE_FED" | "RESIZING" | "SIGNALING" | "STAGE_OUT"
            | "STOPPED" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => Meaning::Alive,
            "COMPLETED" => Meaning::Completed,
            "NODE_FAIL" => Meaning::Again(format!("its node failed{on}")),
            "BOOT_FAIL" => Meaning::Again(format!("its node did not start{on}")),
            "PREEMPTED" => Meaning::Again(format!("its job was preempted{on}")),
            "TIMEOUT" | "DEADLINE" => {
                let limit = limit.map(|l| format!(" of {l}")).unwrap_or_default();
                Meaning::Failed(format!(
                    "the task was ended: it took longer than the time limit of its job{limit}{on}"
                ))
            }
            "OUT_OF_MEMORY" => Meaning::Failed(format!(
                "the task was killed (OUT_OF_MEMORY){on}: memory ran out; raise `resources.memory`"
            )),
            "CANCELLED" => Meaning::Failed(format!("its job was cancelled in Slurm{on}")),
            "FAILED" => {
                let code = self.exit.split(':').next().unwrap_or_default();
                Meaning::Failed(format!("its job ended with code {code}{on} before it was done"))
            }
            other => Meaning::Failed(format!("its job ended as `{other}`{on}")),
        }
    }
}

/// Lines of `squeue --noheader --array --format "%i|%T|%N"`.
pub(super) fn of_squeue(text: &str) -> HashMap<JobId, Standing> {
    let line = |line: &str| {
        let mut parts = line.trim().split('|');
        let id = JobId::read(parts.next()?)?;
        let state = parts.next()?.to_owned();
        let nodes = parts.next().unwrap_or_default().to_owned();
        Some((id, Standing { state, nodes, exit: String::new() }))
    };
    text.lines().filter_map(line).collect()
}

/// Lines of `sacct --noheader --parsable2 --allocations --format JobID,State,NodeList,ExitCode`.
pub(super) fn of_sacct(text: &str) -> HashMap<JobId, Standing> {
    let line = |line: &str| {
        let mut parts = line.trim().split('|');
        let id = JobId::read(parts.next()?)?;
        let mut next = || parts.next().unwrap_or_default().to_owned();
        Some((id, Standing { state: next(), nodes: next(), exit: next() }))
    };
    text.lines().filter_map(line).collect()
}

/// Lines of `scontrol --oneliner show job`, for clusters without accounting: `ArrayJobId=12
/// ArrayTaskId=3 JobState=FAILED ..`. It remembers a job for five minutes (MinJobAge).
pub(super) fn of_scontrol(text: &str) -> HashMap<JobId, Standing> {
    let line = |line: &str| {
        let field = |name: &str| {
            let of = |word: &str| Some(word.strip_prefix(name)?.strip_prefix('=')?.to_owned());
            line.split_whitespace().find_map(of)
        };
        let array = field("ArrayJobId").or_else(|| field("JobId"))?.parse().ok()?;
        // The part of an array that has not started is one job with a range.
        let index = field("ArrayTaskId")?.parse().ok()?;
        let state = field("JobState")?;
        let (nodes, exit) =
            (field("NodeList").unwrap_or_default(), field("ExitCode").unwrap_or_default());
        Some((JobId { array, index }, Standing { state, nodes, exit }))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_has_a_meaning() {
        let states = [
            "PENDING",
            "RUNNING",
            "REQUEUED",
            "COMPLETED",
            "NODE_FAIL",
            "PREEMPTED",
            "BOOT_FAIL",
            "TIMEOUT",
            "OUT_OF_MEMORY",
            "CANCELLED by 1000",
            "CANCELLED+",
            "FAILED",
            "REVOKED",
        ];
        let told = states.map(|state| {
            let standing = Standing {
                state: state.to_owned(),
                nodes: "n1".to_owned(),
                exit: "2:0".to_owned(),
            };
            format!("{state}: {:?}", standing.meaning(Some("2h 00m")))
        });
        insta::assert_snapshot!(told.join("\n"), @r#"
        PENDING: Alive
        RUNNING: Alive
        REQUEUED: Alive
        COMPLETED: Completed
        NODE_FAIL: Again("its node failed on n1")
        PREEMPTED: Again("its job was preempted on n1")
        BOOT_FAIL: Again("its node did not start on n1")
        TIMEOUT: Failed("the task was ended: it took longer than the time limit of its job of 2h 00m on n1")
        OUT_OF_MEMORY: Failed("the task was killed (OUT_OF_MEMORY) on n1: memory ran out; raise `resources.memory`")
        CANCELLED by 1000: Failed("its job was cancelled in Slurm on n1")
        CANCELLED+: Failed("its job was cancelled in Slurm on n1")
        FAILED: Failed("its job ended with code 2 on n1 before it was done")
        REVOKED: Failed("its job ended as `REVOKED` on n1")
        "#);
    }

    #[test]
    fn what_the_commands_print_is_read() {
        let queue = of_squeue("12_0|RUNNING|n1\n12_1|PENDING|\nnonsense\n13|RUNNING|n2\n");
        assert_eq!(queue.len(), 2);
        assert_eq!(queue[&JobId { array: 12, index: 0 }].nodes, "n1");
        let past = of_sacct("12_0|COMPLETED|n1|0:0\n12_1|CANCELLED by 0|None assigned|0:0\n");
        assert_eq!(
            past[&JobId { array: 12, index: 1 }].meaning(None),
            Meaning::Failed("its job was cancelled in Slurm".to_owned())
        );
        let shown = of_scontrol(
            "JobId=14 ArrayJobId=12 ArrayTaskId=3 JobName=x JobState=FAILED Reason=NonZeroExitCode ExitCode=9:0 NodeList=n2 BatchHost=n2\n\
             JobId=12 ArrayJobId=12 ArrayTaskId=4-9 JobState=PENDING ExitCode=0:0 NodeList=\n",
        );
        assert_eq!(shown.len(), 1);
        let standing = &shown[&JobId { array: 12, index: 3 }];
        assert_eq!(
            (standing.state.as_str(), standing.nodes.as_str(), standing.exit.as_str()),
            ("FAILED", "n2", "9:0")
        );
    }
}
