//! `lutmul bench`: how fast products are, and how close to what the machine can do.

mod layers;
mod peers;
mod plan;
mod report;
mod run;
mod whole;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use lutmul::{Format, Granularity, MAX_THREADS, Mode};

use crate::format::FormatArg;
use crate::measure::{self, Dims, Pages, Peer};
use crate::performance::{self, Record};
pub use plan::KINDS;
use plan::{Plan, Purpose};
pub(crate) use report::Row;

/// Measure products of made-up weights or of a model's, this machine's read bandwidth in the same run, and the error.
///
/// Every option but the last few is a list: its values separated by commas, or the option repeated;
/// all combinations are measured. Products of up to 8 tokens read weights from memory (copies of them
/// in turn, four times the last cache in all) unless --warm. Whatever is compared is measured
/// in turns, several times.
///
/// --report DIR writes a page about this machine: what it can do at most, formats by modes by tokens beside
/// that, and pictures. It is made of the JSON beside it, and can be made of that again, with --from.
#[derive(clap::Args)]
pub struct Args {
    /// A model whose largest layers to take, of any layout that `convert` reads. What is coded is multiplied as it is;
    /// floats are encoded as --format and --scales say
    #[arg(long)]
    model: Option<PathBuf>,
    /// How many layers of the model: the largest, each of another shape or format
    #[arg(long, default_value_t = 1, requires = "model", value_parser = positive)]
    layers: usize,
    /// Measure one pass through all coded layers of the model, in turn, as a program that runs it makes: tokens a
    /// second, and memory
    #[arg(long, requires = "model", conflicts_with_all = NO_WHOLE)]
    whole: bool,
    /// Shapes of W: out features x in features [default: 16384x3072]
    #[arg(long, value_name = "NxK", value_delimiter = ',', conflicts_with = "model")]
    shape: Vec<Dims>,
    /// Tokens (rows of x) [default: 1,512; with --all: 1,4,8,16,64,512; with --report:
    /// 1,4,16,64,512]
    #[arg(long, value_name = "M", value_delimiter = ',', value_parser = positive)]
    tokens: Vec<usize>,
    /// Formats, or table:FILE [default: qins-linear,e4m3,kmeans-signed; with --all: those with a name; with
    /// --report: int8 too]
    #[arg(long, value_delimiter = ',')]
    format: Vec<FormatArg>,
    /// What shares a scale: tensor, row, group:N, block:RxC [default: row; with --report also blocks with
    /// e4m3 and groups with int8]
    #[arg(long, value_delimiter = ',')]
    scales: Vec<Granularity>,
    /// Compute modes [default: f32; with --report: all]
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
    /// Numbers of threads [default: 1; with --report: 1, and as many as the machine runs at a time]
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
    /// Seconds to measure for, shared evenly by all products; each is measured once in any case [default: 150;
    /// with --report: 360]
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// The seed of weights and activations
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON: an object for each product, a line each
    #[arg(long)]
    json: bool,
    /// Write a page about this machine into a folder, which is made if need be: NAME.json (what was measured),
    /// and of it NAME.md and two pictures
    #[arg(long, value_name = "DIR", conflicts_with_all = NO_REPORT)]
    report: Option<PathBuf>,
    /// What the report's files are called [default: the CPU's name]
    #[arg(long, value_name = "NAME", requires = "report", conflicts_with_all = NO_REPORT)]
    name: Option<String>,
    /// Measure nothing: write the report of a JSON file of an earlier one
    #[arg(long, value_name = "FILE", requires = "report", conflicts_with_all = MEASURING)]
    from: Option<PathBuf>,
    /// Put figures of PyTorch's into the report, as `peers/pytorch.py --json FILE` has written them on this
    /// machine
    #[arg(long, value_name = "FILE", requires = "report", conflicts_with_all = NO_REPORT)]
    beside: Option<PathBuf>,
}

/// Options that mean nothing for a report.
const NO_REPORT: [&str; 4] = ["json", "warm", "all", "model"];

/// Options that mean nothing for all layers of a model: they are as the file has them.
const NO_WHOLE: [&str; 10] =
    ["report", "layers", "shape", "format", "scales", "image", "pages", "warm", "all", "seconds"];

/// Options that mean nothing where nothing is measured.
const MEASURING: [&str; 15] = [
    "json", "warm", "all", "shape", "tokens", "format", "scales", "mode", "image", "kernel",
    "threads", "pages", "outliers", "seconds", "seed",
];

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

    fn print(
        mut self,
        peers: Vec<Box<dyn Peer>>,
        list_peers: bool,
        out: &mut dyn Write,
    ) -> Result<()> {
        if let Some(dir) = self.report.take() {
            return self.write_report(peers, &dir, out);
        }
        let json = self.json;
        if self.whole {
            let model = self.model.take().unwrap_or_default();
            return whole::run(
                &model,
                &Plan::new(self, peers, Purpose::Table { all: false })?,
                json,
                out,
            );
        }
        let all = self.all;
        let purpose = if list_peers { Purpose::Peers { all } } else { Purpose::Table { all } };
        let (mut rows, _) = run::run(&Plan::new(self, peers, purpose)?)?;
        rows.retain(|row| list_peers || row.label.peer.is_none());
        if json { report::json(&rows, out) } else { report::table(&rows, out) }
    }

    fn write_report(
        self,
        peers: Vec<Box<dyn Peer>>,
        dir: &Path,
        out: &mut dyn Write,
    ) -> Result<()> {
        let (name, beside) = (self.name.clone(), self.beside.clone());
        let mut record = match &self.from {
            Some(file) => Record::read(file)?,
            None => {
                let plan = Plan::new(self, peers, Purpose::Report)?;
                let begun = Record::begin(name.as_deref())?;
                performance::check(&begun, dir)?;
                writeln!(out, "{}", plan.announcement())?;
                out.flush()?;
                let (rows, ceilings) = run::run(&plan)?;
                begun.with(&rows, &ceilings)?
            }
        };
        if let Some(name) = name {
            record.rename(&name)?;
        }
        if let Some(file) = beside {
            record.set_beside(&file)?;
        }
        for file in performance::write(&record, dir)? {
            writeln!(out, "{}", file.display())?;
        }
        Ok(())
    }

    /// The numbers of threads.
    pub fn threads(&self) -> &[usize] {
        if self.threads.is_empty() { &[1] } else { &self.threads }
    }
}

impl Plan {
    /// What the options say, and where they say nothing what suits a report, a comparison with peers, or neither.
    fn new(args: Args, peers: Vec<Box<dyn Peer>>, purpose: Purpose) -> Result<Self> {
        fn or<T>(list: Vec<T>, default: impl FnOnce() -> Vec<T>) -> Vec<T> {
            if list.is_empty() { default() } else { list }
        }
        let overview = purpose == Purpose::Report;
        let named = |formats: &[Format]| formats.iter().cloned().map(FormatArg::Named).collect();
        let codings = if overview && args.format.is_empty() && args.scales.is_empty() {
            plan::overview()
        } else {
            let formats = or(args.format, || match purpose {
                Purpose::Table { all: true } => named(&Format::NAMED),
                Purpose::Table { all: false } => named(&plan::SOME),
                Purpose::Peers { .. } => named(&[Format::QinsLinear]),
                Purpose::Report => named(&KINDS),
            });
            let scales = or(args.scales, || vec![Granularity::Row]);
            let mut codings = Vec::new();
            for format in &formats {
                let format = format.load()?;
                codings.extend(scales.iter().map(|scales| (format.clone(), *scales)));
            }
            codings
        };
        let tokens: &[usize] = match purpose {
            Purpose::Table { all: true } => &[1, 4, 8, 16, 64, 512],
            Purpose::Table { all: false } => &[1, 512],
            _ => &[1, 4, 16, 64, 512],
        };
        let modes = || match purpose {
            Purpose::Table { .. } => vec![Mode::F32],
            // Those that multiply fastest come first.
            Purpose::Peers { .. } => Mode::ALL.into_iter().rev().collect(),
            Purpose::Report => Mode::ALL.to_vec(),
        };
        let threads = || if overview { one_and_all() } else { vec![1] };
        let kernel = if args.all { "all" } else { "best" };
        let layers = args.model.as_deref().map(|path| layers::largest(path, args.layers));
        let shapes = if layers.is_some() { Vec::new() } else { vec![Dims { n: 16384, k: 3072 }] };
        Ok(Self {
            layers: layers.transpose()?.unwrap_or_default(),
            shapes: or(args.shape, || shapes),
            tokens: or(args.tokens, || tokens.to_vec()),
            codings,
            modes: or(args.mode, modes),
            images: or(args.image, || vec![2]),
            kernels: plan::kernels(&or(args.kernel, || vec![kernel.into()]))?,
            threads: or(args.threads, threads),
            pages: or(args.pages, || vec![Pages::best()]),
            warm: args.warm,
            outliers: args.outliers,
            repetitions: args.repetitions,
            time: Duration::from_secs(args.seconds.unwrap_or(if overview { 360 } else { 150 })),
            overview,
            seed: args.seed,
            peers,
        })
    }
}

/// One thread, and as many as the machine runs.
fn one_and_all() -> Vec<usize> {
    let mut threads = vec![1, measure::threads()];
    threads.dedup();
    threads
}
