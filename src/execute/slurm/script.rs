//! What is handed to sbatch: its arguments, and the script that every task of an array runs.

use std::path::Path;
use std::time::Duration;

use super::Settings;
use super::array::Array;
use crate::policy::Policy;
use crate::say::quoted;

/// A job's time limit is so much longer than the task's timeout: the timeout is what ends it.
const MARGIN: Duration = Duration::from_secs(60);

/// The arguments of sbatch for an array of `tasks` tasks; the script comes after them.
pub(super) fn arguments(
    settings: &Settings,
    policy: &Policy,
    name: &str,
    tasks: usize,
    array: &Array,
) -> Vec<String> {
    let mut arguments = vec![
        "--parsable".to_owned(),
        format!("--job-name={name}"),
        format!("--array=0-{}", tasks.saturating_sub(1)),
        format!("--comment={}", array.comment()),
        format!("--output={}/%a.out", array.folder().display()),
        "--open-mode=append".to_owned(),
        // A job whose node failed, or that was preempted, goes on from its last checkpoint.
        "--requeue".to_owned(),
        format!("--cpus-per-task={}", cpus(settings, policy)),
    ];
    let mut add = |option: &str, value: Option<String>| {
        arguments.extend(value.map(|value| format!("--{option}={value}")));
    };
    let first = |stage: &Option<String>, all: &Option<String>| stage.clone().or(all.clone());
    add("partition", first(&policy.cluster.partition, &settings.partition));
    add("account", settings.account.clone());
    add("gres", first(&policy.cluster.gres, &settings.gres));
    add("time", policy.timeout.map(|t| t + MARGIN).or(settings.time).map(minutes));
    let memory =
        if policy.resources.memory > 0 { policy.resources.memory } else { settings.memory };
    add("mem", (memory > 0).then(|| format!("{}M", memory.div_ceil(1 << 20))));
    arguments.extend(settings.extra.iter().cloned());
    arguments
}

/// Cores of one task.
pub(super) fn cpus(settings: &Settings, policy: &Policy) -> u32 {
    settings.cpus.max(policy.resources.cpus)
}

/// Whole minutes, rounded up, as `--time` takes them.
fn minutes(time: Duration) -> String {
    time.as_secs().div_ceil(60).max(1).to_string()
}

/// The script: line n of `list` is the folder of array task n.
pub(super) fn script(settings: &Settings, program: &Path, list: &Path) -> String {
    let mut text = "#!/bin/bash\n".to_owned();
    for module in &settings.modules {
        text += &format!("module load {} || exit 1\n", quoted(module));
    }
    text + &format!(
        "folder=$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" {}) || exit 1\nexec {} job \"$folder\"\n",
        quoted(&list.to_string_lossy()),
        quoted(&program.to_string_lossy())
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{ClusterWishes, Resources};
    use crate::store::Store;

    #[test]
    fn what_sbatch_is_told() {
        let store = tempfile::tempdir().unwrap();
        let store = Store::open(store.path()).unwrap();
        let array = Array::named(&store, "a1");
        let plain = arguments(&Settings::default(), &Policy::default(), "n", 3, &array);
        let settings = Settings {
            partition: Some("gpu".to_owned()),
            account: Some("lab".to_owned()),
            gres: Some("gpu:1".to_owned()),
            time: Some(Duration::from_secs(7200)),
            cpus: 2,
            memory: 4_000_000_000,
            modules: vec!["cuda/12".to_owned(), "it's".to_owned()],
            extra: vec!["--nice=100".to_owned()],
            ..Settings::default()
        };
        let full = arguments(&settings, &Policy::default(), "n", 1, &array);
        let policy = Policy {
            timeout: Some(Duration::from_secs(61)),
            resources: Resources { cpus: 8, memory: 1 },
            cluster: ClusterWishes {
                gres: Some("gpu:2".to_owned()),
                partition: Some("fast".to_owned()),
            },
            ..Policy::default()
        };
        let stage = arguments(&settings, &policy, "n", 1, &array);
        let told = [plain, full, stage].map(|a| a.join(" ")).join("\n");
        let told = told.replace(&array.folder().display().to_string(), "/f");
        insta::assert_snapshot!(told, @"
        --parsable --job-name=n --array=0-2 --comment=dissim:a1 --output=/f/%a.out --open-mode=append --requeue --cpus-per-task=1
        --parsable --job-name=n --array=0-0 --comment=dissim:a1 --output=/f/%a.out --open-mode=append --requeue --cpus-per-task=2 --partition=gpu --account=lab --gres=gpu:1 --time=120 --mem=3815M --nice=100
        --parsable --job-name=n --array=0-0 --comment=dissim:a1 --output=/f/%a.out --open-mode=append --requeue --cpus-per-task=8 --partition=fast --account=lab --gres=gpu:2 --time=3 --mem=1M --nice=100
        ");
        let text = script(&settings, Path::new("/opt/my tools/dissim"), Path::new("/f/list"));
        insta::assert_snapshot!(text, @r##"
        #!/bin/bash
        module load 'cuda/12' || exit 1
        module load 'it'\''s' || exit 1
        folder=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" '/f/list') || exit 1
        exec '/opt/my tools/dissim' job "$folder"
        "##);
    }
}
