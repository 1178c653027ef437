//! The program `lutmul`.
//!
//! A subcommand is a file of the library with `Args` and `Args::run`, and a line in [`Command`] and
//! [`Command::run`].

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use lutmul_cli::{bench, convert, demo, inspect, kernels, synth, verify};

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
    Bench(Box<bench::Args>),
    Demo(demo::Args),
    Synth(synth::Args),
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
            Self::Synth(args) => args.run(out),
        }
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    lutmul_cli::run(|out| command.run(out))
}
