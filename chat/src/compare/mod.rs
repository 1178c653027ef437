//! `lutmul-chat compare`: formats and modes beside the f32 model: speed, memory, and how far from it they are.
//!
//! `quality` is what logits say, [`speed`] how long they take, `report` the tables and the picture.

mod quality;
mod report;

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};
use lutmul::{Context, Format, Granularity, Mode};
use lutmul_cli::{files, measure, progress};
use serde::Serialize;

use crate::chat::positive;
use crate::linear::{Coding, Float};
use crate::load::Files;
use crate::model::{Model, Runner};
use crate::options::{on_threads, threads};
use crate::speed::{self, Rate, Speed};
use crate::text::Text;
use quality::{Measured, Reference};

/// The text whose tokens are predicted.
const TEXT: &str = include_str!("../../data/moby-dick.txt");

/// Compare formats and modes with the f32 model: bytes, memory, tokens a second, perplexity, KL divergence, top-1
/// agreement, and when greedy answers first differ.
#[derive(clap::Args)]
pub struct Args {
    /// The model, as of a chat
    model: PathBuf,
    /// Formats and what shares a scale [default: qins-linear/row, qins-linear/group:32, qins-linear/group:128,
    /// e4m3/block:128x128, int8/row; with --quick: qins-linear/row]
    #[arg(long, value_name = "FORMAT/SCALES", value_delimiter = ',')]
    format: Vec<FormatScales>,
    /// Compute modes [default: f32, a16, a8, a8t, bf16; with --quick: a16, a8]
    #[arg(long, value_delimiter = ',')]
    mode: Vec<Mode>,
    /// Numbers of threads [default: as many as the machine runs at a time]
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = threads)]
    threads: Vec<usize>,
    /// Predict the tokens of this text [default: the beginning of Moby-Dick]
    #[arg(long, value_name = "FILE")]
    text: Option<PathBuf>,
    /// How many tokens of the text [default: 2048; with --quick: 128]
    #[arg(long, value_name = "N", value_parser = positive)]
    tokens: Option<usize>,
    /// How many times to measure speeds [default: 3; with --quick: 1]
    #[arg(long, value_name = "TIMES", value_parser = positive)]
    repetitions: Option<usize>,
    /// A short run: few formats and tokens, for trying it out
    #[arg(long)]
    quick: bool,
    /// Write what was measured
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw speed against KL divergence, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// A format, and what shares a scale.
#[derive(Clone, Debug, PartialEq)]
struct FormatScales(Format, Granularity);

impl FromStr for FormatScales {
    type Err = lutmul::Error;

    fn from_str(text: &str) -> Result<Self, lutmul::Error> {
        let (format, scales) = text.split_once('/').unwrap_or((text, "row"));
        Ok(Self(format.parse()?, scales.parse()?))
    }
}

impl fmt::Display for FormatScales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// What is measured how: of the arguments, or of the defaults.
struct Plan {
    formats: Vec<FormatScales>,
    modes: Vec<Mode>,
    threads: Vec<usize>,
    text: String,
    tokens: usize,
    repetitions: usize,
    prompts: [usize; 2],
    decode: usize,
    /// Tokens of the greedy continuation.
    greedy: usize,
}

/// What was measured of one kind of linears in one mode.
#[derive(Clone, Debug, Serialize)]
struct Row {
    /// `qins-linear/row`, or the baseline's type.
    linears: String,
    /// The mode; `candle` of a baseline.
    mode: String,
    /// Bytes of all linears.
    bytes: usize,
    /// Bytes of memory of a process that has this model only.
    resident: Option<usize>,
    speeds: Vec<Speeds>,
    quality: Measured,
}

/// Speeds with a number of threads.
#[derive(Clone, Debug, Serialize)]
struct Speeds {
    threads: usize,
    /// Prompts: tokens, speed, and that of the f32 baseline in the same minute.
    prefill: Vec<(usize, Rate, Rate)>,
    decode: Rate,
    decode_f32: Rate,
}

/// All that was measured.
#[derive(Serialize)]
struct Comparison {
    model: String,
    cpu: String,
    kernel: String,
    load: Option<f64>,
    /// Whether weights had fewer than 8 bits in the file.
    coarse: bool,
    text: String,
    tokens: usize,
    greedy: usize,
    repetitions: usize,
    rows: Vec<Row>,
}

/// Models of one kind of linears, measured in some modes.
struct Subject {
    name: String,
    coding: Coding,
    modes: Vec<(String, Mode)>,
    /// Options of the program for it, without a mode.
    options: Vec<String>,
}

impl Args {
    /// Measures, prints the tables, and writes files.
    ///
    /// # Errors
    /// Models that cannot be loaded; texts that are too short; files that cannot be written; Ctrl-C.
    pub fn run(self, out: &mut (dyn Write + Send)) -> Result<()> {
        progress::catch_interrupts();
        // Known before minutes of work, and not after them.
        for file in self.json.iter().chain(&self.plot) {
            files::check(file)?;
        }
        let plan = self.plan()?;
        let most = plan.threads.iter().copied().max();
        let comparison = on_threads(most, || self.compare(&plan))?;
        report::print(&comparison, out)?;
        if let Some(file) = &self.json {
            files::write(file, &(serde_json::to_string_pretty(&comparison)? + "\n"))?;
        }
        if let Some(file) = &self.plot {
            files::write(file, &report::figure(&comparison).svg())?;
        }
        Ok(())
    }

    fn plan(&self) -> Result<Plan> {
        let quick = self.quick;
        let usual: &[&str] = match quick {
            true => &["qins-linear/row"],
            false => &[
                "qins-linear/row",
                "qins-linear/group:32",
                "qins-linear/group:128",
                "e4m3/block:128x128",
                "int8/row",
            ],
        };
        let usual = usual.iter().map(|name| name.parse()).collect::<Result<Vec<_>, _>>()?;
        let modes: &[Mode] = match quick {
            true => &[Mode::A16, Mode::A8],
            false => &[Mode::F32, Mode::A16, Mode::A8, Mode::A8T, Mode::Bf16],
        };
        let or =
            |given: &[usize], usual| if given.is_empty() { vec![usual] } else { given.to_vec() };
        let text = match &self.text {
            Some(file) => std::fs::read_to_string(file).context(file.display().to_string())?,
            None => TEXT.to_owned(),
        };
        Ok(Plan {
            formats: if self.format.is_empty() { usual } else { self.format.clone() },
            modes: if self.mode.is_empty() { modes.to_vec() } else { self.mode.clone() },
            threads: or(&self.threads, measure::threads()),
            text,
            tokens: self.tokens.unwrap_or(if quick { 128 } else { 2048 }),
            repetitions: self.repetitions.unwrap_or(if quick { 1 } else { 3 }),
            prompts: if quick { [16, 64] } else { [16, 512] },
            decode: if quick { 8 } else { 32 },
            greedy: if quick { 16 } else { 128 },
        })
    }

    fn compare(&self, plan: &Plan) -> Result<Comparison> {
        let files = Files::open(&self.model)?;
        let longest = plan.prompts[1].max(plan.prompts[0] + plan.decode);
        let longest = longest.max(quality::PROMPT + plan.greedy).max(quality::WINDOW);
        let most = files.config.context;
        ensure!(most >= longest, "the model was made for {most} tokens; comparing takes {longest}");
        let text = Text::of(&files)?.encode(&plan.text)?;
        ensure!(
            text.len() >= plan.tokens.max(quality::PROMPT),
            "the text has {} tokens, not {}",
            text.len(),
            plan.tokens
        );
        let text = &text[..plan.tokens.max(quality::PROMPT)];
        let kernel = Context::new().options.kernel()?.to_string();

        let baseline = Coding::Baseline(Float::F32);
        let f32 = files.load(&baseline)?;
        let reference = Reference::new(&f32, text, plan.greedy)?;
        let mut subjects = vec![Subject::baseline(Float::F32), Subject::baseline(Float::Bf16)];
        subjects.extend(plan.formats.iter().map(|format| Subject::coded(format, &plan.modes)));
        let bar = progress::steps(subjects.iter().map(|subject| subject.modes.len()).sum());
        let mut rows = Vec::new();
        for subject in &subjects {
            bar.set_message(subject.name.clone());
            let loaded = match subject.coding == baseline {
                true => None,
                false => Some(files.load(&subject.coding)?),
            };
            let model = loaded.as_ref().unwrap_or(&f32);
            let resident = subject.resident(&self.model)?;
            let mut speeds = subject.speeds(model, &f32, plan)?;
            // What these weights say in f32: all that another mode changes is its arithmetic.
            let own = match subject.modes.iter().any(|(_, mode)| *mode != Mode::F32) {
                true => Some(Reference::new(model, text, 0)?),
                false => None,
            };
            for (mode, by) in &subject.modes {
                let own = own.as_ref().filter(|_| *by != Mode::F32);
                let quality = reference.measure(model, Context::new().with_mode(*by), own)?;
                let (linears, mode) = (subject.name.clone(), mode.clone());
                let speeds = speeds.remove(0);
                rows.push(Row { linears, mode, bytes: model.bytes(), resident, speeds, quality });
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let name = self.text.as_ref().map(|file| file.display().to_string());
        Ok(Comparison {
            model: self.model.display().to_string(),
            cpu: measure::cpu(),
            kernel,
            load: measure::load(),
            coarse: files.coarse(),
            text: name.unwrap_or_else(|| "the beginning of Moby-Dick".into()),
            tokens: text.len(),
            greedy: plan.greedy,
            repetitions: plan.repetitions,
            rows,
        })
    }
}

impl Subject {
    fn baseline(float: Float) -> Self {
        let options = vec!["--baseline".into(), float.to_string()];
        // candle multiplies; lutmul's mode means nothing.
        let modes = vec![("candle".into(), Mode::F32)];
        Self { name: float.to_string(), coding: Coding::Baseline(float), modes, options }
    }

    fn coded(format: &FormatScales, modes: &[Mode]) -> Self {
        let FormatScales(codes, scales) = format;
        let options =
            ["--format", codes.name(), "--scales", &scales.to_string()].map(str::to_owned).into();
        let modes = modes.iter().map(|mode| (mode.to_string(), *mode)).collect();
        Self {
            name: format.to_string(),
            coding: Coding::All(codes.clone(), *scales),
            modes,
            options,
        }
    }

    /// Bytes of memory of a process that has this model only: in this one there are others.
    fn resident(&self, model: &Path) -> Result<Option<usize>> {
        let program = std::env::current_exe().context("this program")?;
        let mut command = Command::new(&program);
        command.arg("speed").arg(model).args(&self.options);
        command.args(["--json", "--prefill", "16", "--decode", "1", "--repetitions", "1"]);
        let output = command.output().with_context(|| program.display().to_string())?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", program.display(), said.trim());
        let speed: Speed = serde_json::from_slice(&output.stdout).context("what it printed")?;
        Ok(speed.resident)
    }

    /// For each mode and number of threads, in turns with the f32 model.
    fn speeds(&self, model: &Model, f32: &Model, plan: &Plan) -> Result<Vec<Vec<Speeds>>> {
        let mut all = vec![Vec::new(); self.modes.len()];
        for threads in &plan.threads {
            let of_threads =
                on_threads(Some(*threads), || self.speeds_on(*threads, model, f32, plan))?;
            all.iter_mut().zip(of_threads).for_each(|(all, speeds)| all.push(speeds));
        }
        Ok(all)
    }

    fn speeds_on(
        &self,
        threads: usize,
        model: &Model,
        f32: &Model,
        plan: &Plan,
    ) -> Result<Vec<Speeds>> {
        let vocabulary = model.config.vocabulary;
        let prompts = plan.prompts.map(|count| speed::tokens(vocabulary, count));
        // The f32 model, then the modes; of each: prompts, and decoding.
        let mut runners = vec![Runner::new(Context::new())];
        runners.extend(self.modes.iter().map(|mode| Runner::new(Context::new().with_mode(mode.1))));
        let mut seconds = vec![[const { Vec::new() }; 3]; runners.len()];
        for _ in 0..plan.repetitions {
            for (i, (runner, seconds)) in runners.iter_mut().zip(&mut seconds).enumerate() {
                let model = if i == 0 { f32 } else { model };
                for (prompt, seconds) in prompts.iter().zip(&mut *seconds) {
                    seconds.push(speed::prefill(model, prompt, runner)?);
                }
                seconds[2].push(speed::decode(model, &prompts[0], plan.decode, runner)?);
            }
        }
        let rates = seconds.into_iter().map(|[short, long, decode]| {
            let [few, many] = plan.prompts;
            [Rate::of(few, short), Rate::of(many, long), Rate::of(plan.decode, decode)]
        });
        let rates: Vec<_> = rates.collect();
        let (base, modes) = rates.split_first().context("the baseline")?;
        let speeds = modes.iter().map(|mode| Speeds {
            threads,
            prefill: (0..2).map(|i| (plan.prompts[i], mode[i], base[i])).collect(),
            decode: mode[2],
            decode_f32: base[2],
        });
        Ok(speeds.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_scales() {
        let parse = |text: &str| text.parse::<FormatScales>().map(|f| f.to_string());
        assert_eq!(parse("e4m3/block:128x128").unwrap(), "e4m3/block:128x128");
        assert_eq!(parse("int8").unwrap(), "int8/row");
        assert!(parse("int9").is_err() && parse("int8/rows").is_err());
    }
}
