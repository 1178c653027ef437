//! Measuring: everything that is compared in turns.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context, Result};
use lutmul::{Options, Shape, Weights, sign_stride};

use super::plan::Plan;
use super::report::Row;
use crate::measure::{
    Budget, Caches, Case, Dims, Gemm, Pages, Reader, Sampled, Team, Times, activations, check_free,
    copies, copies_for, cpu, gaussian_weights, gemm, head,
};
use crate::progress;

/// How often the quick products are visited for each time that the slow ones are.
const ROUNDS: usize = 3;

/// Measures everything.
pub fn run(plan: &Plan) -> Result<Vec<Row>> {
    let caches = Caches::of_this_machine();
    plan.check_memory(caches)?;
    let mut teams = BTreeMap::new();
    for threads in &plan.threads {
        teams.insert(*threads, Team::new(*threads)?);
    }
    let mut readers = BTreeMap::new();
    if !plan.warm || plan.tokens.iter().any(|m| *m > Shape::ROW_TOKENS) {
        for pages in &plan.pages {
            readers.insert(*pages, Reader::new(*pages, caches)?);
        }
    }
    let mut rows = Vec::new();
    for shape in &plan.shapes {
        Bench { plan, caches, teams: &teams }.shape(*shape, &mut readers, &mut rows)?;
    }
    Ok(rows)
}

impl Plan {
    /// Adds up the large buffers.
    fn check_memory(&self, caches: Caches) -> Result<()> {
        let tokens = self.tokens.iter().copied().max().unwrap_or(1);
        for dims in &self.shapes {
            let bytes = || {
                let floats = dims.n.checked_mul(dims.k)?.checked_mul(4)?;
                let codes = floats / 4 + dims.n.checked_mul(sign_stride(dims.k))?;
                let copies = codes.checked_mul(2)?.checked_add(2 * caches.cold())?;
                let weights = self.formats.len() * self.scales.len() * self.pages.len();
                let x = tokens.checked_mul(dims.k.checked_add(dims.n)?)?.checked_mul(8)?;
                floats
                    .checked_mul(2)?
                    .checked_add(copies.checked_mul(weights)?)?
                    .checked_add(x)?
                    .checked_add(self.pages.len() * Reader::size(caches))
            };
            check_free(bytes(), &format!("shape {}x{}, {tokens} tokens", dims.n, dims.k))?;
        }
        Ok(())
    }
}

/// One format, at one granularity, on one kind of pages.
struct Material {
    pages: Pages,
    format: &'static str,
    /// For products of few tokens, as many copies as it takes; if warm, some rows only.
    row: Vec<Weights<'static>>,
    /// For others.
    panel: Vec<Weights<'static>>,
}

/// The f32 GEMM of so many tokens by so many threads.
struct Peer<'a> {
    m: usize,
    team: &'a Team,
    times: Times,
    spent: f64,
}

struct Bench<'a> {
    plan: &'a Plan,
    caches: Caches,
    teams: &'a BTreeMap<usize, Team>,
}

impl Bench<'_> {
    fn shape(
        &self,
        dims: Dims,
        readers: &mut BTreeMap<Pages, Reader>,
        rows: &mut Vec<Row>,
    ) -> Result<()> {
        let plan = self.plan;
        let bar = progress::steps(plan.repetitions);
        bar.set_message("making weights");
        let materials = self.materials(dims)?;
        let tokens = plan.tokens.iter().copied().max().unwrap_or(1);
        let x = activations((tokens, dims.k), plan.seed, plan.outliers);
        let mut cases = self.cases(&materials, &x)?;

        bar.set_message("warming up");
        let mut errors = Vec::new();
        let mut expected: Vec<(*const u8, Sampled)> = Vec::new();
        for (_, case) in &mut cases {
            let w = case.weights();
            let key = w.codes().as_ptr();
            if !expected.iter().any(|(known, _)| *known == key) {
                expected.push((key, Sampled::of_weights(w, &x)?));
            }
            let (_, sampled) =
                expected.iter().find(|(known, _)| *known == key).context("samples")?;
            errors.push(case.error(sampled)?);
        }

        // The first format's weights: their values don't matter to a GEMM.
        let peer = gemm().filter(|_| plan.tokens.iter().any(|m| *m > 1));
        let decoded = match (peer, materials.first()) {
            (Some(_), Some(material)) => decoded(material, dims)?,
            _ => Vec::new(),
        };
        let mut peers = self.peers(peer.is_some());
        let mut reads: BTreeMap<(Pages, usize), f64> = BTreeMap::new();
        let budget = Budget::new(plan.time, cases.len() + peers.len());
        bar.set_message("measuring");
        for _ in 0..plan.repetitions {
            for _ in 0..ROUNDS {
                for (pages, reader) in &mut *readers {
                    for (threads, team) in self.teams {
                        let best = reads.entry((*pages, *threads)).or_default();
                        *best = best.max(reader.sample(team));
                    }
                }
                for (_, case) in cases.iter_mut().filter(|(_, c)| c.shape() == Shape::Row) {
                    case.visit(&budget)?;
                }
            }
            for (_, case) in cases.iter_mut().filter(|(_, c)| c.shape() == Shape::Panel) {
                case.visit(&budget)?;
            }
            for each in &mut peers {
                if let Some(gemm) = peer {
                    each.visit(gemm, &decoded, &x[..each.m * dims.k], dims.k, &budget);
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();

        let cpu = cpu();
        for ((material, case), error) in cases.iter().zip(errors) {
            let warm = plan.warm && case.shape() == Shape::Row;
            let read = reads.get(&(material.pages, case.threads())).filter(|_| !warm);
            let peer = peers.iter().find(|p| p.m == case.m() && p.team.threads() == case.threads());
            let peer_seconds = peer.filter(|_| !warm).and_then(|p| p.times.best());
            let (format, pages) = (material.format, material.pages.name());
            rows.push(Row::new(case, format, pages, error, read.copied(), peer_seconds, &cpu)?);
        }
        Ok(())
    }

    fn materials(&self, dims: Dims) -> Result<Vec<Material>> {
        let plan = self.plan;
        let floats = gaussian_weights((dims.n, dims.k), plan.seed);
        let mut materials = Vec::new();
        for format in &plan.formats {
            for scales in &plan.scales {
                let w = Weights::encode(&floats, (dims.n, dims.k), format, *scales)?;
                let w = w.with_name(format.name());
                let of_shape = |shape| {
                    let tokens = plan.tokens.iter().copied();
                    tokens.filter(|m| Shape::of(&w, *m) == shape).collect::<Vec<_>>()
                };
                let (few, many) = (of_shape(Shape::Row), of_shape(Shape::Panel));
                for pages in &plan.pages {
                    let (mut row, mut panel) = (Vec::new(), Vec::new());
                    if !few.is_empty() && plan.warm {
                        let bytes = dims.k + w.signs().map_or(0, |_| sign_stride(dims.k));
                        let rows = self.caches.l2 / 2 / bytes;
                        row = copies(&head(&w, rows.next_multiple_of(8))?, 1, *pages)?;
                    } else if !few.is_empty() {
                        row = copies(&w, copies_for(&w, &few, self.caches), *pages)?;
                    }
                    if !many.is_empty() {
                        let spare = row.first().filter(|_| !plan.warm).cloned();
                        panel = match spare {
                            Some(copy) => vec![copy],
                            None => copies(&w, 1, *pages)?,
                        };
                    }
                    materials.push(Material { pages: *pages, format: format.name(), row, panel });
                }
            }
        }
        Ok(materials)
    }

    fn cases<'a>(
        &'a self,
        materials: &'a [Material],
        x: &'a [f32],
    ) -> Result<Vec<(&'a Material, Case<'a>)>> {
        let mut cases = Vec::new();
        for m in &self.plan.tokens {
            for material in materials {
                let w = material.row.first().or(material.panel.first()).context("weights")?;
                let copies = match Shape::of(w, *m) {
                    Shape::Row => &material.row,
                    Shape::Panel => &material.panel,
                };
                for team in self.teams.values() {
                    for mode in &self.plan.modes {
                        for kernel in &self.plan.kernels {
                            let mut options = Options::with_kernel(*kernel);
                            options.mode = *mode;
                            let case = Case::new(copies, x, *m, options, team);
                            cases.push((material, case));
                        }
                    }
                }
            }
        }
        Ok(cases)
    }

    fn peers(&self, any: bool) -> Vec<Peer<'_>> {
        let tokens = self.plan.tokens.iter().filter(|m| any && **m > 1);
        let of = |m: &usize, team| Peer { m: *m, team, times: Times::default(), spent: 0.0 };
        tokens.flat_map(|m| self.teams.values().map(move |team| of(m, team))).collect()
    }
}

/// The weights in f32.
fn decoded(material: &Material, dims: Dims) -> Result<Vec<f32>> {
    let whole = material.panel.iter().chain(&material.row).find(|w| w.n() == dims.n);
    let Some(w) = whole else { return Ok(Vec::new()) };
    let mut decoded = vec![0.0; dims.count()];
    w.decode(&mut decoded)?;
    Ok(decoded)
}

impl Peer<'_> {
    fn visit(&mut self, gemm: Gemm, w: &[f32], x: &[f32], k: usize, budget: &Budget) {
        if w.is_empty() || !budget.allows(self.spent, &self.times) {
            return;
        }
        let start = Instant::now();
        let (team, times) = (self.team, &mut self.times);
        let mut room = team.room();
        let (y, _) = room.for_outputs(self.m * (w.len() / k));
        let done = times.visit(|count| {
            let start = Instant::now();
            for _ in 0..count {
                gemm(team, w, x, k, y);
            }
            Ok::<_, std::convert::Infallible>(start.elapsed().as_secs_f64() / count as f64)
        });
        let Ok(()) = done;
        self.spent += start.elapsed().as_secs_f64();
    }
}
