//! Products: formats by modes by numbers of tokens, beside the scalar kernel and what this CPU does at most.
//!
//! `cargo bench -p lutmul-cli --bench product -- e4m3/a8t` measures those whose names have that in them; a name is
//! FORMAT/MODE/TOKENS. README.md says how to read what is printed, `lutmul bench` has more options.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Result, bail};
use lutmul::{Granularity, Kernel, Mode, Options, Weights};
use lutmul_cli::bench::KINDS;
use lutmul_cli::measure::{
    Budget, Caches, Case, Ceilings, FEW_TOKENS, Lutmul, Pages, Product as _, Team, activations,
    copies, copies_for, gaussian_weights, head,
};

/// Out features, in features.
const SHAPE: (usize, usize) = (4096, 4096);
const TOKENS: [usize; 5] = [1, 4, 16, 64, 512];
/// Seconds for a product at most, all visits together.
const SECONDS: f64 = 0.5;
/// The same for the scalar kernel's.
const SCALAR_SECONDS: f64 = 0.1;
/// How often everything is visited in turn.
const ROUNDS: usize = 8;
/// Rows that the scalar kernel multiplies by: its speed does not depend on them, and patience does.
const SCALAR_ROWS: usize = 48;

fn main() -> Result<()> {
    let Some(wanted) = Wanted::of_arguments()? else { return Ok(()) };
    let out = &mut io::stdout().lock();
    let kernel = Kernel::from_env()?;
    let count = KINDS.iter().map(|format| wanted.tokens(format.name()).len()).sum::<usize>();
    if count == 0 {
        return Ok(());
    }
    // And for weights, their copies, and the first use of everything.
    let seconds = count as f64 * 0.5 + 4.0 * KINDS.len() as f64;
    let (n, k) = SHAPE;
    writeln!(
        out,
        "Products with weights of {n}×{k}, kernel {kernel}, one thread: {count} of them, about {seconds:.0} seconds.\n\
         GFLOP/s (share of what this CPU allows; times as fast as the scalar kernel)."
    )?;
    out.flush()?;

    let (caches, pages, team) = (Caches::of_this_machine(), Pages::best(), Team::new(1)?);
    let mut ceilings = Ceilings::new(&[pages], caches)?;
    let floats = gaussian_weights(SHAPE, 1);
    let x = activations((TOKENS[TOKENS.len() - 1], k), 1, false);
    for format in KINDS {
        let tokens = wanted.tokens(format.name());
        if tokens.is_empty() {
            continue;
        }
        let w = Weights::encode(&floats, SHAPE, &format, Granularity::Row)?;
        let cold = copies(&w, copies_for(w.bytes(), lutmul::Shape::Gemv, caches), pages)?;
        let few = head(&w, SCALAR_ROWS)?;
        let options = Options::new().with_threads(team.option());
        let scalar = options.with_kernel("scalar".parse()?);
        let mut cases = Vec::new();
        for (mode, m) in &tokens {
            let x = &x[..m * k];
            let copies = if *m <= FEW_TOKENS { &cold[..] } else { &cold[..1] };
            let options = options.with_kernel(kernel).with_mode(*mode);
            let own = copies.iter().map(|weights| Lutmul { weights, x, options });
            let own = Case::new(own, &team);
            let options = scalar.with_mode(*mode);
            cases.push((own, Case::new([Lutmul { weights: &few, x, options }], &team)));
        }
        for (own, scalar) in &mut cases {
            own.warm_up()?;
            scalar.warm_up()?;
        }
        let budget = |seconds| Budget::new(Duration::from_secs_f64(seconds), 1);
        let (whole, short) = (budget(SECONDS), budget(SCALAR_SECONDS));
        for _ in 0..ROUNDS {
            ceilings.sample(&team);
            for (own, scalar) in &mut cases {
                own.visit_within(&whole)?;
                scalar.visit_within(&short)?;
            }
        }
        let read = ceilings.read(pages, 1).unwrap_or_default();
        let cells: Vec<_> = tokens
            .iter()
            .zip(&cases)
            .map(|((mode, m), (own, scalar))| {
                let rate = |case: &Case<'_, Lutmul<'_>>| {
                    let flops = case.product().size().flops();
                    case.times().best().map_or(0.0, |seconds| flops / seconds / 1e9)
                };
                let by_memory = own.size().flops() * read / w.bytes() as f64;
                let peak = ceilings.peak(mode.name(), 1).map_or(by_memory, |peak| peak.gflops);
                let (gflops, share) = (rate(own), rate(own) / by_memory.min(peak));
                (*mode, *m, format!("{gflops:.0} ({share:.2}; {:.0}×)", gflops / rate(scalar)))
            })
            .collect();
        table(out, format.name(), &cells)?;
    }
    writeln!(out, "\nWhat this CPU does at most, measured in turns with them:")?;
    if let Some(read) = ceilings.read(pages, 1) {
        writeln!(out, "  reading memory: {read:.1} GB/s")?;
    }
    for peak in ceilings.multiplying() {
        writeln!(
            out,
            "  multiplying {}: {:.0} GFLOP/s ({})",
            peak.operand, peak.gflops, peak.name
        )?;
    }
    Ok(())
}

/// A line for each mode.
fn table(out: &mut dyn Write, format: &str, cells: &[(Mode, usize, String)]) -> Result<()> {
    let tokens: Vec<_> =
        TOKENS.into_iter().filter(|m| cells.iter().any(|cell| cell.1 == *m)).collect();
    write!(out, "\n{:<20}", "")?;
    for m in &tokens {
        write!(out, "{:>20}", format!("{m} token{}", if *m == 1 { "" } else { "s" }))?;
    }
    writeln!(out)?;
    for mode in Mode::ALL {
        if !cells.iter().any(|cell| cell.0 == mode) {
            continue;
        }
        write!(out, "{:<20}", format!("{format}/{mode}"))?;
        for m in &tokens {
            let cell = cells.iter().find(|cell| (cell.0, cell.1) == (mode, *m));
            write!(out, "{:>20}", cell.map_or("", |cell| &cell.2))?;
        }
        writeln!(out)?;
    }
    Ok(out.flush()?)
}

/// Parts of the names of products to measure: all, if there are none.
struct Wanted(Vec<String>);

impl Wanted {
    /// What the command line says; none if it only asks for names.
    fn of_arguments() -> Result<Option<Self>> {
        let (mut parts, mut list) = (Vec::new(), false);
        for argument in std::env::args().skip(1) {
            match argument.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--list" => list = true,
                option if option.starts_with('-') => {
                    bail!("{option}: the only option is --list; all else is a part of a name")
                }
                _ => parts.push(argument),
            }
        }
        let wanted = Self(parts);
        if list {
            for format in KINDS {
                for (mode, m) in wanted.tokens(format.name()) {
                    println!("{format}/{mode}/{m}: benchmark");
                }
            }
            return Ok(None);
        }
        Ok(Some(wanted))
    }

    /// Modes and numbers of tokens of a format.
    fn tokens(&self, format: &str) -> Vec<(Mode, usize)> {
        let all = Mode::ALL.into_iter().flat_map(|mode| TOKENS.map(|m| (mode, m)));
        let wanted = |(mode, m): &(Mode, usize)| {
            let name = format!("{format}/{mode}/{m}");
            self.0.is_empty() || self.0.iter().any(|part| name.contains(part.as_str()))
        };
        all.filter(wanted).collect()
    }
}
