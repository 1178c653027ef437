//! What is to be measured.

use std::time::Duration;

use anyhow::Result;
use lutmul::{Format, Granularity, Kernel, Mode};

use super::layers::Layer;
use crate::format::FormatArg;
use crate::measure::{Dims, GEMM_F32, Pages, Peer};

/// Lists whose combinations are measured, and how.
pub struct Plan {
    /// Layers of a model.
    pub layers: Vec<Layer>,
    /// Shapes of made-up weights.
    pub shapes: Vec<Dims>,
    pub tokens: Vec<usize>,
    pub formats: Vec<Format>,
    pub scales: Vec<Granularity>,
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
    pub seed: u64,
    pub peers: Vec<Box<dyn Peer>>,
}

impl Plan {
    /// The peers that speeds are compared with. Without any it is one all the same, with nothing said:
    /// what JSON consists of does not depend on how this program was built.
    pub fn versus(&self) -> Vec<&'static str> {
        let names: Vec<_> = self.peers.iter().map(|peer| peer.name()).collect();
        if names.is_empty() { vec![GEMM_F32] } else { names }
    }
}

/// The formats that are measured if none is named.
pub fn formats(all: bool) -> Vec<FormatArg> {
    let some = [Format::QinsLinear, Format::E4m3, Format::KMeansSigned];
    let formats = if all { &Format::NAMED[..] } else { &some };
    formats.iter().cloned().map(FormatArg::Named).collect()
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
