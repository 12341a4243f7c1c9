//! Stage kind `letters`: counts a letter in the files of its input. The worked example of
//! docs/new-stage-kind.md.

use std::fs;
use std::path::PathBuf;

use dissim_api::{
    Code, Context, Input, IoContext, ParamError, Params, Stage, StageError, files, resolve,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `with:` of a `letters` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LettersParams {
    /// The letter that is counted.
    pub letter: char,
    /// The file or files of the project to read; a folder or a glob, too.
    pub text: String,
    /// Whether `A` counts as `a`.
    #[serde(default)]
    pub any_case: bool,
}

/// The stage kind `letters`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Letters;

impl Stage for Letters {
    fn kind(&self) -> &'static str {
        "letters"
    }

    fn summary(&self) -> &'static str {
        "Counts a letter in text files."
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        &[]
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<LettersParams>()
    }

    /// What the user wrote, complete: every default filled in, so that two ways to write one task
    /// are one task. Errors name the parameter, and the runner shows where it stands.
    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        let (params, map) = resolve::<LettersParams>(given)?;
        if params.letter.is_whitespace() {
            let message = "`letter` is white space, and must be a letter";
            return Err(vec![ParamError::new("letter", message)]);
        }
        Ok(map)
    }

    /// Project files that the task reads: when one changes, the task runs again.
    fn files(&self, params: &Params) -> Vec<PathBuf> {
        params.get("text").and_then(Value::as_str).map(PathBuf::from).into_iter().collect()
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let params: LettersParams = context.params()?;
        let project = context.project().to_path_buf();
        let texts = files::expand(&project, params.text.as_ref())?;
        let mut count = 0usize;
        for (done, file) in texts.iter().enumerate() {
            let path = project.join(file);
            let text = fs::read_to_string(&path).or_fail("cannot read the text", &path)?;
            let same =
                |c: char| c == params.letter || params.any_case && eq_in_any_case(c, params.letter);
            count += text.chars().filter(|&c| same(c)).count();
            context.progress(done as u64 + 1, texts.len() as u64, "file", "");
        }
        let output = context.output().join("count.txt");
        fs::write(&output, format!("{count}\n")).or_fail("cannot write", &output)?;
        context.metric("count", count as f64);
        Ok(())
    }
}

fn eq_in_any_case(a: char, b: char) -> bool {
    a.to_lowercase().eq(b.to_lowercase())
}
