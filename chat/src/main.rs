//! The program `lutmul-chat`.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use lutmul_chat::{chat, compare, speed};

/// Chat with a decoder model whose every linear is 8-bit codes, multiplied by lutmul.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    chat: chat::Args,
}

#[derive(Subcommand)]
enum Command {
    Compare(Box<compare::Args>),
    Speed(speed::Args),
}

impl Cli {
    fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        match self.command {
            Some(Command::Compare(args)) => args.run(out),
            Some(Command::Speed(args)) => args.run(out),
            None => self.chat.run(out),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    lutmul_cli::run(|out| cli.run(out))
}
