//! `version`: which program, which format.

use dbvault_format::header::FORMAT_VERSION;
use serde_json::json;

use crate::context::Context;
use crate::error::Result;
use crate::output;

/// Version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(super) fn run(context: &Context) -> Result<()> {
    if context.global.json {
        return output::json(&json!({ "version": VERSION, "format_version": FORMAT_VERSION }));
    }
    output::text(&format!("dbvault {VERSION}\nrepository format {FORMAT_VERSION}\n"))
}
