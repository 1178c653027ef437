//! The subcommands of the program `lutmul`, for it and for other programs that measure as it does.
//!
//! A subcommand is a file here with `Args` and `Args::run`.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use lutmul::MAX_THREADS;

pub mod bench;
pub mod chart;
pub mod convert;
pub mod demo;
pub mod files;
pub mod format;
pub mod inspect;
pub mod kernels;
pub mod measure;
mod performance;
mod product;
pub mod progress;
pub mod synth;
pub mod table;
pub mod verify;

/// Does a program's work, which prints to `out`, and says on standard error how it failed.
pub fn run(work: impl FnOnce(&mut (dyn Write + Send)) -> Result<()>) -> ExitCode {
    // Not locked: a program's work may be another thread's, that of a pool, say.
    let mut out = io::BufWriter::new(io::stdout());
    let result = check_threads("RAYON_NUM_THREADS")
        .and_then(|()| work(&mut out))
        .and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // What was said before the error is still said before it.
            let _ = out.flush();
            // Errors of files name them; one that names nothing is about what was printed.
            let bare = error.is::<io::Error>() && error.chain().count() == 1;
            let place = if bare { "standard output: " } else { "" };
            let _ = writeln!(io::stderr(), "error: {place}{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses an environment variable that asks for more threads than make sense.
pub fn check_threads(variable: &str) -> Result<()> {
    let number = env::var(variable).ok().and_then(|number| number.parse().ok()).unwrap_or(0);
    ensure!(number <= MAX_THREADS, "{variable}: {}", bench::too_many_threads(number));
    Ok(())
}

/// Whether the reader of our output left, as `head` does: no fault of anyone's.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|e| e.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
