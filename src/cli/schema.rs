//! `dissim schema`.

use clap::Args;

use super::{Result, print, print_json};
use crate::registry::Registry;
use crate::schema;

#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The reference of pipeline.yaml as markdown, in place of the JSON Schema.
    #[arg(long)]
    markdown: bool,
}

pub(super) fn schema(args: &SchemaArgs, registry: &Registry) -> Result<()> {
    if args.markdown {
        return print(&schema::reference(registry));
    }
    print_json(&schema::schema(registry))
}
