//! The `run-task` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    fetch_content::cli::run_task()
}
