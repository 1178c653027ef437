//! The program `lutmul-peers`: products by lutmul and by other libraries, timed in turns in one process.
//!
//! A peer is a file here that implements [`Peer`], and a line in [`peers`].

mod candle;
mod rten;

use std::env;
use std::process::{self, ExitCode};

use anyhow::{Context, Result};
use clap::builder::PossibleValuesParser;
use clap::{CommandFactory, FromArgMatches, Parser};
use lutmul_cli::bench;
use lutmul_cli::measure::{GemmF32, Peer};

/// Measure products by lutmul and by other libraries in turns, as `lutmul bench` does, and set them side
/// by side.
///
/// Peers get the same made-up weights, in their own formats, on the heap; where few tokens are multiplied,
/// copies in turn, as lutmul has. `error` is what activations and arithmetic add, with weights as each
/// stores them.
#[derive(Parser)]
#[command(name = "lutmul-peers", version)]
struct Cli {
    #[command(flatten)]
    bench: bench::Args,
    /// Who to measure beside lutmul. gemm-f32: the f32 GEMM of the crate gemm, which packs the weights
    /// again each time. rten-u8i8: rten-gemm's u8·i8 with weights packed beforehand, neither quantising x
    /// nor scaling y. candle-q8-0: candle's QMatMul of Q8_0; its number of threads is the first of
    /// --threads, or CANDLE_NUM_THREADS [default: all]
    #[arg(
        long = "peer",
        value_name = "PEER",
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(peers().map(|peer| peer.name())),
        hide_possible_values = true
    )]
    peers: Vec<String>,
}

/// All that there are.
fn peers() -> [Box<dyn Peer>; 3] {
    [Box::new(GemmF32), Box::new(rten::U8I8), Box::new(candle::Q8_0)]
}

impl Cli {
    /// Options of `lutmul bench`, whose help says what is measured here if none are named.
    fn parse_arguments() -> Self {
        let command = Self::command()
            .mut_arg("tokens", |arg| arg.help("Tokens (rows of x) [default: 1,4,16,64,512]"))
            .mut_arg("format", |arg| {
                arg.help("Formats of lutmul's, or table:FILE [default: qins-linear; with --report: more]")
            })
            .mut_arg("mode", |arg| arg.help("Compute modes of lutmul's [default: all]"))
            .mut_arg("all", |arg| arg.help("Every kernel of lutmul's (takes long)"));
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }

    fn wants(&self, peer: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|name| name == peer)
    }
}

fn main() -> ExitCode {
    let args = Cli::parse_arguments();
    if args.wants(candle::NAME) && env::var_os(candle::THREADS).is_none() {
        return lutmul_cli::run(|_| restart(args.bench.threads()[0]));
    }
    let chosen = peers().into_iter().filter(|peer| args.wants(peer.name())).collect();
    lutmul_cli::run(|out| {
        lutmul_cli::check_threads(candle::THREADS)?;
        args.bench.run_beside(chosen, out)
    })
}

/// Starts this program again with as many threads for candle, which reads their number from the
/// environment, once; and ends as that one does.
fn restart(threads: usize) -> Result<()> {
    let what = "starting again to set the number of candle's threads";
    let program = env::current_exe().context(what)?;
    let mut command = process::Command::new(program);
    command.args(env::args_os().skip(1)).env(candle::THREADS, threads.to_string());
    let status = command.status().context(what)?;
    process::exit(status.code().unwrap_or(1));
}
