//! `lutmul kernels`: what this build can multiply with, and what this CPU can run of it.

use std::io::Write;

use anyhow::Result;
use lutmul::{Format, Granularity, Kernel, KernelInfo, Weights};
use serde_json::json;

use crate::measure::{cpu, gaussian_weights};
use crate::table;

/// List the kernels of this build, best first: what they need, whether this CPU has that, which one
/// is taken, and how each decodes the formats.
///
/// The environment variable LUTMUL_ISA chooses a kernel by name.
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON: an object for each kernel, a line each
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Lists them.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let picked = Kernel::from_env()?.name();
        if self.json { self.json(picked, out) } else { self.table(picked, out) }
    }

    fn json(&self, picked: &str, out: &mut dyn Write) -> Result<()> {
        let samples = samples()?;
        for info in KernelInfo::all() {
            let decoders = info.kernel().map(|kernel| {
                let of =
                    |(f, w): &(Format, Weights<'_>)| (f.name().into(), w.decoder(kernel).into());
                samples.iter().map(of).collect::<serde_json::Map<_, _>>()
            });
            let object = json!({
                "name": info.name(),
                "features": info.features(),
                "available": info.kernel().is_some(),
                "missing": info.missing().collect::<Vec<_>>(),
                "refusal": info.refusal(),
                "picked": info.name() == picked,
                "decoders": decoders,
                "cpu": cpu(),
                "version": env!("CARGO_PKG_VERSION"),
            });
            writeln!(out, "{object}")?;
        }
        Ok(())
    }

    fn table(&self, picked: &str, out: &mut dyn Write) -> Result<()> {
        writeln!(out, "lutmul {} on {}\n", env!("CARGO_PKG_VERSION"), cpu())?;
        let rows: Vec<[String; 3]> = KernelInfo::all()
            .map(|info| {
                let missing: Vec<_> = info.missing().collect();
                let state = match info.kernel() {
                    Some(_) if info.name() == picked => "taken".into(),
                    Some(_) => "can run".into(),
                    None => match info.refusal() {
                        Some(why) => format!("not usable: {why}"),
                        None => format!("lacks {}", missing.join(", ")),
                    },
                };
                let features = info.features().join(", ");
                let features = if features.is_empty() { "nothing".into() } else { features };
                [info.name().into(), state, features]
            })
            .collect();
        table::write(out, &["kernel", "this CPU", "needs"], &rows)?;
        writeln!(out, "\nHow they decode:")?;
        let samples = samples()?;
        for kernel in KernelInfo::all().filter_map(KernelInfo::kernel) {
            let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
            for (format, w) in &samples {
                let decoder = w.decoder(kernel);
                match groups.iter_mut().find(|group| group.0 == decoder) {
                    Some(group) => group.1.push(format.name()),
                    None => groups.push((decoder, vec![format.name()])),
                }
            }
            let groups: Vec<_> = groups
                .iter()
                .map(|(d, formats)| format!("{} by {d}", formats.join(", ")))
                .collect();
            writeln!(out, "  {}: {}", kernel.name(), groups.join("; "))?;
        }
        Ok(())
    }
}

/// A small matrix in every format: how it is decoded depends on nothing but the table.
fn samples() -> Result<Vec<(Format, Weights<'static>)>> {
    let shape = (16, 256);
    let floats = gaussian_weights(shape, 1);
    let encode = |format: Format| {
        let w = Weights::encode(&floats, shape, &format, Granularity::Row)?;
        Ok((format, w))
    };
    Format::NAMED.into_iter().map(encode).collect()
}
