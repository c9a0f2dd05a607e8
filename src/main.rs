//! The `fetch-content` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    fetch_content::cli::run()
}
