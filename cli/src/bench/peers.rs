//! Products of peers, to measure beside lutmul's.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use lutmul::Shape;

use super::plan::Plan;
use super::report::{Errors, Label};
use super::run::{Entry, Original};
use crate::measure::{Caches, Case, Dims, Encoded, FEW_TOKENS, Peer, Sampled, Team, copies_for};

/// Weights as a peer has them.
pub struct Weights {
    peer: &'static str,
    /// As many copies as it takes for few tokens, if there are such products.
    copies: Vec<Box<dyn Encoded>>,
    dims: Dims,
    expected: Sampled,
}

/// The weights of each peer.
pub fn encode(
    plan: &Plan,
    peers: &[Box<dyn Peer>],
    caches: Caches,
    floats: &[f32],
    dims: Dims,
    x: &[f32],
) -> Result<Vec<Weights>> {
    let few = plan.tokens.iter().any(|m| *m <= FEW_TOKENS);
    let shape = if few && !plan.warm { Shape::Gemv } else { Shape::Gemm };
    let weights = peers.iter().map(|peer| {
        let encode = || peer.encode(floats, dims).context(peer.name());
        let mut copies = vec![encode()?];
        let decoded = copies[0].decode().context(peer.name())?;
        let expected = Sampled::of_floats(&decoded, (dims.n, dims.k), x);
        while copies.len() < copies_for(copies[0].bytes(), shape, caches) {
            copies.push(encode()?);
        }
        Ok(Weights { peer: peer.name(), copies, dims, expected })
    });
    weights.collect()
}

/// The products of each peer.
pub fn entries<'a>(
    plan: &'a Plan,
    teams: &'a BTreeMap<usize, Team>,
    weights: &'a [Weights],
    original: &'a Original<'a>,
) -> Result<Vec<Entry<'a>>> {
    let mut entries = Vec::new();
    for w in weights {
        for m in &plan.tokens {
            let quick = *m <= FEW_TOKENS;
            // Lutmul multiplies only some rows then: nothing to compare with.
            if quick && plan.warm {
                continue;
            }
            for team in teams.values().filter(|team| plan.wants(*m, team.threads())) {
                let entry = w.entry(*m, original, quick, team).context(w.peer)?;
                entries.extend(entry);
            }
        }
    }
    Ok(entries)
}

impl Weights {
    fn entry<'a>(
        &'a self,
        m: usize,
        original: &'a Original<'a>,
        quick: bool,
        team: &'a Team,
    ) -> Result<Option<Entry<'a>>> {
        let x = &original.x[..m * self.dims.k];
        let copies = if quick { &self.copies[..] } else { &self.copies[..1] };
        let turns = copies.iter().map(|w| w.product(x, team)).collect::<Result<Option<Vec<_>>>>();
        let Some(turns) = turns? else { return Ok(None) };
        let mut case = Case::new(turns, team);
        let (y, _) = case.warm_up()?;
        let arithmetic = self.expected.relative_rms(&y, self.dims.n);
        ensure!(arithmetic.is_finite(), "its results are not finite");
        let about = copies[0].about();
        let label = Label {
            layer: None,
            peer: Some(self.peer),
            format: about.format,
            scales: about.scales.into(),
            mode: about.mode,
            kernel: about.kernel,
            shape: None,
            pages: "heap",
            image_bytes: None,
            weight_bytes: copies[0].bytes(),
        };
        let whole = original.products.relative_rms(&y, self.dims.n);
        let errors = Errors { arithmetic, image: None, whole };
        Ok(Some(Entry { label, quick, pages: None, case, errors }))
    }
}
