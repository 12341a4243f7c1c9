//! What pipeline.yaml says of a cluster: `executors: { slurm: .. }`. Plain data.

use std::time::Duration;

/// `slurm` under `executors:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--time`, for stages without a timeout of their own.
    pub time: Option<Duration>,
    /// `--cpus-per-task`, for stages whose `resources:` do not ask for more.
    pub cpus: u32,
    /// `--mem` in bytes, for stages whose `resources:` do not say; 0 leaves it to the cluster.
    pub memory: u64,
    /// `--gres`, such as `gpu:1`.
    pub gres: Option<String>,
    /// Environment modules that are loaded before a task.
    pub modules: Vec<String>,
    /// Further arguments for sbatch.
    pub extra: Vec<String>,
    /// The most tasks in one job array.
    pub array: u32,
    /// The most cores asked for at once.
    pub at_once: u32,
    /// How often Slurm is asked.
    pub poll: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            partition: None,
            account: None,
            time: None,
            cpus: 1,
            memory: 0,
            gres: None,
            modules: Vec::new(),
            extra: Vec::new(),
            // Slurm's own limit, MaxArraySize, is 1001 where nobody raised it.
            array: 1000,
            at_once: 1000,
            poll: Duration::from_secs(5),
        }
    }
}
