//! What is to be measured.

use std::time::Duration;

use anyhow::Result;
use lutmul::{Format, Granularity, Kernel, Mode, Options};

use super::layers::Layer;
use crate::measure::{Dims, GEMM_F32, Pages, Peer};

/// What for products are measured, which says what suits where options say nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A table of lutmul's products.
    Table { all: bool },
    /// A table of peers' beside lutmul's.
    Peers { all: bool },
    /// A page about this machine.
    Report,
}

/// Lists whose combinations are measured, and how.
pub struct Plan {
    /// Layers of a model.
    pub layers: Vec<Layer>,
    /// Shapes of made-up weights.
    pub shapes: Vec<Dims>,
    pub tokens: Vec<usize>,
    pub codings: Vec<(Format, Granularity)>,
    pub modes: Vec<Mode>,
    /// The most bytes of images.
    pub images: Vec<u8>,
    pub kernels: Vec<Kernel>,
    pub threads: Vec<usize>,
    pub pages: Vec<Pages>,
    pub warm: bool,
    pub outliers: bool,
    pub repetitions: usize,
    pub time: Duration,
    /// For a report: one coding at a time rather than all in turns, as there would be no memory for that; and more
    /// threads than the fewest for the fewest and the most tokens only.
    pub overview: bool,
    pub seed: u64,
    pub peers: Vec<Box<dyn Peer>>,
}

impl Plan {
    /// Whether products of so many tokens are measured with so many threads.
    pub fn wants(&self, m: usize, threads: usize) -> bool {
        let (fewest, most) = (self.tokens.iter().min(), self.tokens.iter().max());
        !self.overview
            || Some(&threads) == self.threads.iter().min()
            || [fewest, most].contains(&Some(&m))
    }

    /// Every kernel in every mode.
    pub fn options(&self) -> impl Iterator<Item = Options> {
        let of = |kernel| {
            self.modes.iter().map(move |mode| Options::new().with_kernel(kernel).with_mode(*mode))
        };
        self.kernels.iter().flat_map(move |kernel| of(*kernel))
    }

    /// What is going to happen, and how long it takes.
    pub fn announcement(&self) -> String {
        let products = self.products() * self.shapes.len();
        // Making and copying weights, warming up, and reading memory take about as long again as a third.
        let minutes = (self.time.as_secs_f64() * 1.35 / 60.0).ceil();
        let s = if minutes == 1.0 { "" } else { "s" };
        format!(
            "Measuring {products} products for about {minutes} minute{s}. Figures are best if nothing else runs."
        )
    }

    /// About as many products as are measured with each shape.
    pub fn products(&self) -> usize {
        let teams = self
            .tokens
            .iter()
            .map(|m| self.threads.iter().filter(|threads| self.wants(*m, **threads)).count());
        let images =
            self.modes.iter().map(|mode| if mode.is_integer() { self.images.len() } else { 1 });
        let own =
            self.codings.len() * images.sum::<usize>() * self.kernels.len() * self.pages.len();
        teams.sum::<usize>() * (own + self.peers.len())
    }

    /// The peers that speeds are compared with. Without any it is one all the same, with nothing said:
    /// what JSON consists of does not depend on how this program was built.
    pub fn versus(&self) -> Vec<&'static str> {
        let names: Vec<_> = self.peers.iter().map(|peer| peer.name()).collect();
        if names.is_empty() { vec![GEMM_F32] } else { names }
    }
}

/// Formats that kernels tell apart: each has a formula of its own, but for k-means, which stands for any table.
pub const KINDS: [Format; 4] =
    [Format::QinsLinear, Format::E4m3, Format::Int8, Format::KMeansSigned];

/// The formats that are measured if none is named.
pub const SOME: [Format; 3] = [Format::QinsLinear, Format::E4m3, Format::KMeansSigned];

/// What a report shows if nothing is named: those, and scales that are common in other people's files.
pub fn overview() -> Vec<(Format, Granularity)> {
    let rows = KINDS.into_iter().map(|format| (format, Granularity::Row));
    let others =
        [(Format::E4m3, Granularity::Block(128, 128)), (Format::Int8, Granularity::Group(32))];
    rows.chain(others).collect()
}

/// The kernels of these names, each once.
///
/// # Errors
/// A name that is none, or of a kernel that this CPU cannot run.
pub fn kernels(names: &[String]) -> Result<Vec<Kernel>> {
    let mut kernels = Vec::new();
    for name in names {
        match name.as_str() {
            "all" => kernels.extend(Kernel::available()),
            "best" => kernels.push(Kernel::from_env()?),
            name => kernels.push(name.parse()?),
        }
    }
    let mut unique: Vec<Kernel> = Vec::new();
    kernels.retain(|kernel| {
        let new = !unique.contains(kernel);
        unique.extend(new.then_some(*kernel));
        new
    });
    Ok(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_by_name() {
        let list =
            |names: &[&str]| kernels(&names.iter().map(|n| n.to_string()).collect::<Vec<_>>());
        let all = list(&["all"]).expect("kernels");
        assert!(all.iter().copied().eq(Kernel::available()));
        assert_eq!(list(&["scalar", "all", "scalar"]).expect("kernels").len(), all.len());
        assert!(list(&["sse9"]).expect_err("no kernel").to_string().contains("sse9"));
    }
}
