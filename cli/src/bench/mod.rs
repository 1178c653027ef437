//! `lutmul bench`: how fast products are, and how close to what the machine can do.

mod layers;
mod peers;
mod plan;
mod report;
mod run;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use lutmul::{Granularity, MAX_THREADS, Mode};

use crate::format::FormatArg;
use crate::measure::{Dims, Pages, Peer};
use plan::Plan;

/// Measure products of made-up weights or of a model's, this machine's read bandwidth in the same run, and the error.
///
/// Every option but the last few is a list: its values separated by commas, or the option repeated;
/// all combinations are measured. Products of up to 8 tokens read weights from memory (copies of them
/// in turn, four times the last cache in all) unless --warm. Whatever is compared is measured
/// in turns, several times.
#[derive(clap::Args)]
pub struct Args {
    /// A model whose largest layers to take, of any layout that `convert` reads. What is coded is multiplied as it is;
    /// floats are encoded as --format and --scales say
    #[arg(long)]
    model: Option<PathBuf>,
    /// How many layers of the model: the largest, each of another shape or format
    #[arg(long, default_value_t = 1, requires = "model", value_parser = positive)]
    layers: usize,
    /// Shapes of W: out features x in features [default: 16384x3072]
    #[arg(long, value_name = "NxK", value_delimiter = ',', conflicts_with = "model")]
    shape: Vec<Dims>,
    /// Tokens (rows of x) [default: 1,512; with --all: 1,4,8,16,64,512]
    #[arg(long, value_name = "M", value_delimiter = ',', value_parser = positive)]
    tokens: Vec<usize>,
    /// Formats, or table:FILE [default: qins-linear,e4m3,kmeans-signed; with --all: those with a name]
    #[arg(long, value_delimiter = ',')]
    format: Vec<FormatArg>,
    /// What shares a scale: tensor, row, group:N, block:RxC [default: row]
    #[arg(long, value_delimiter = ',')]
    scales: Vec<Granularity>,
    /// Compute modes [default: f32]
    #[arg(long, value_delimiter = ',')]
    mode: Vec<Mode>,
    /// The most bytes of a table's fixed-point image, in integer modes: 2, or 3 for those that two don't
    /// hold exactly [default: 2]
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = clap::value_parser!(u8).range(2..=3))]
    image: Vec<u8>,
    /// Kernels by name (see `lutmul kernels`); best: the one products would take; all: those this CPU
    /// can run [default: best; with --all: all]
    #[arg(long, value_delimiter = ',')]
    kernel: Vec<String>,
    /// Numbers of threads [default: 1]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = threads)]
    threads: Vec<usize>,
    /// Pages that weights lie on: 4k, 2m (transparent huge pages), file (a mapped file) [default: 2m
    /// where there are any]
    #[arg(long, value_delimiter = ',')]
    pages: Vec<Pages>,
    /// For up to 8 tokens, take only as many rows of W as half a core's second-level cache holds
    #[arg(long)]
    warm: bool,
    /// Make one activation in 200 fifty times larger
    #[arg(long)]
    outliers: bool,
    /// Every format, every kernel, more tokens (takes long)
    #[arg(long)]
    all: bool,
    /// How many times to go through everything
    #[arg(long, value_name = "TIMES", default_value_t = 8, value_parser = positive)]
    repetitions: usize,
    /// Seconds to measure for, shared evenly by all products; each is measured once in any case
    #[arg(long, value_name = "SECONDS", default_value_t = 150)]
    seconds: u64,
    /// The seed of weights and activations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON: an object for each product, a line each
    #[arg(long)]
    json: bool,
}

/// Reads a number from 1 on.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("{text:?} is no number from 1 on")),
        Ok(number) => Ok(number),
    }
}

/// Reads a number of threads.
pub fn threads(text: &str) -> Result<usize, String> {
    match positive(text)? {
        number if number > MAX_THREADS => Err(too_many_threads(number)),
        number => Ok(number),
    }
}

/// What is wrong with a number of threads.
pub fn too_many_threads(number: usize) -> String {
    format!("{number} threads are more than {MAX_THREADS}")
}

impl Args {
    /// Measures, and prints a table or JSON.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        #[cfg(feature = "peers")]
        let peers: Vec<Box<dyn Peer>> = vec![Box::new(crate::measure::GemmF32)];
        #[cfg(not(feature = "peers"))]
        let peers = Vec::new();
        self.print(peers, false, out)
    }

    /// The same beside products of peers, which are printed too.
    pub fn run_beside(self, peers: Vec<Box<dyn Peer>>, out: &mut dyn Write) -> Result<()> {
        self.print(peers, true, out)
    }

    fn print(self, peers: Vec<Box<dyn Peer>>, list_peers: bool, out: &mut dyn Write) -> Result<()> {
        let json = self.json;
        let mut rows = run::run(&Plan::new(self, peers)?)?;
        rows.retain(|row| list_peers || row.label.peer.is_none());
        if json { report::json(&rows, out) } else { report::table(&rows, out) }
    }

    /// The numbers of threads.
    pub fn threads(&self) -> &[usize] {
        if self.threads.is_empty() { &[1] } else { &self.threads }
    }
}

impl Plan {
    fn new(args: Args, peers: Vec<Box<dyn Peer>>) -> Result<Self> {
        fn or<T>(list: Vec<T>, default: impl FnOnce() -> Vec<T>) -> Vec<T> {
            if list.is_empty() { default() } else { list }
        }
        let (all, threads) = (args.all, args.threads().to_vec());
        let formats = or(args.format, || plan::formats(all))
            .iter()
            .map(FormatArg::load)
            .collect::<Result<_>>()?;
        let default_tokens: &[usize] = if all { &[1, 4, 8, 16, 64, 512] } else { &[1, 512] };
        let kernel = if all { "all" } else { "best" };
        let layers = args.model.as_deref().map(|path| layers::largest(path, args.layers));
        let shapes = if layers.is_some() { Vec::new() } else { vec![Dims { n: 16384, k: 3072 }] };
        Ok(Self {
            layers: layers.transpose()?.unwrap_or_default(),
            shapes: or(args.shape, || shapes),
            tokens: or(args.tokens, || default_tokens.to_vec()),
            formats,
            scales: or(args.scales, || vec![Granularity::Row]),
            modes: or(args.mode, || vec![Mode::F32]),
            images: or(args.image, || vec![2]),
            kernels: plan::kernels(&or(args.kernel, || vec![kernel.into()]))?,
            threads,
            pages: or(args.pages, || vec![Pages::best()]),
            warm: args.warm,
            outliers: args.outliers,
            repetitions: args.repetitions,
            time: Duration::from_secs(args.seconds),
            seed: args.seed,
            peers,
        })
    }
}
