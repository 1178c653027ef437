//! The program `lutmul`.
//!
//! A subcommand is a file here with `Args` and `Args::run`, and a line in [`Command`] and
//! [`Command::run`].

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod bench;
mod convert;
mod demo;
mod format;
mod inspect;
mod kernels;
mod measure;
mod model;
mod product;
mod progress;
mod table;
mod verify;

/// Matrix products straight from 8-bit weight codes: QINS, FP8, int8, k-means, any 256-entry table.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Convert(convert::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Kernels(kernels::Args),
    Bench(bench::Args),
    Demo(demo::Args),
}

impl Command {
    fn run(self, out: &mut dyn Write) -> Result<()> {
        match self {
            Self::Convert(args) => args.run(out),
            Self::Inspect(args) => args.run(out),
            Self::Verify(args) => args.run(out),
            Self::Kernels(args) => args.run(out),
            Self::Bench(args) => args.run(out),
            Self::Demo(args) => args.run(out),
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = command.run(&mut out).and_then(|()| Ok(out.flush()?));
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

/// Whether the reader of our output left, as `head` does: no fault of anyone's.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|e| e.downcast_ref::<io::Error>());
    io.is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
