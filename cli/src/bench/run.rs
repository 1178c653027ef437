//! Measuring: everything that is compared in turns.

use std::collections::BTreeMap;
use std::slice;

use anyhow::Result;
use indicatif::ProgressBar;
use lutmul::{Format, Granularity, Mode, Options, Shape, Weights, sign_stride};

use super::layers::Subject;
use super::peers;
use super::plan::Plan;
use super::report::{Errors, Label, Row};
use crate::measure::{
    Budget, Caches, Case, Ceilings, FEW_TOKENS, Lutmul, Pages, Peer, Product, Reader, Sampled,
    Team, activations, check_free, copies, copies_for, cpu, head,
};
use crate::progress;

/// How often the quick products are visited for each time that the slow ones are.
const ROUNDS: usize = 3;

/// Measures everything: rows, and the best of each ceiling.
pub fn run(plan: &Plan) -> Result<(Vec<Row>, Ceilings)> {
    let caches = Caches::of_this_machine();
    plan.check_memory(caches)?;
    let mut teams = BTreeMap::new();
    for threads in &plan.threads {
        teams.insert(*threads, Team::new(*threads)?);
    }
    let cold = !plan.warm || plan.tokens.iter().any(|m| *m > FEW_TOKENS);
    let mut ceilings = Ceilings::new(if cold { &plan.pages } else { &[] }, caches)?;
    let mut rows = Vec::new();
    let groups = plan.groups();
    let bar = progress::steps(Subject::all(plan).count() * groups.len() * plan.repetitions);
    for subject in Subject::all(plan) {
        let first = rows.len();
        let bench = Bench { plan, caches, teams: &teams, subject, bar: &bar };
        bar.set_message("making weights");
        let floats = subject.floats(plan.seed)?;
        for group in &groups {
            rows.extend(bench.group(group, &floats, &mut ceilings)?);
        }
        compare(plan, &mut rows[first..]);
    }
    bar.finish_and_clear();
    Ok((rows, ceilings))
}

/// What is measured in turns.
#[derive(Clone, Copy)]
struct Group<'a> {
    codings: &'a [(Format, Granularity)],
    peers: &'a [Box<dyn Peer>],
}

impl Plan {
    /// Everything in turns; or each coding in turns with the ceilings alone, and peers likewise, where there is no memory for
    /// all of them at a time.
    fn groups(&self) -> Vec<Group<'_>> {
        let (codings, peers) = (&self.codings[..], &self.peers[..]);
        if !self.overview {
            return vec![Group { codings, peers }];
        }
        let codings = codings.chunks(1).map(|codings| Group { codings, peers: &[] });
        let peers = peers.chunks(1).map(|peers| Group { codings: &[], peers });
        codings.chain(peers).collect()
    }

    /// Adds up the large buffers.
    fn check_memory(&self, caches: Caches) -> Result<()> {
        let tokens = self.tokens.iter().copied().max().unwrap_or(1);
        for dims in Subject::all(self).map(Subject::dims) {
            let bytes = || {
                let floats = dims.n.checked_mul(dims.k)?.checked_mul(4)?;
                let codes = floats / 4 + dims.n.checked_mul(sign_stride(dims.k))?;
                let copies = codes.checked_mul(2)?.checked_add(2 * caches.cold())?;
                let at_a_time = |count: usize| if self.overview { count.min(1) } else { count };
                let weights = at_a_time(self.codings.len()) * self.pages.len();
                let x = tokens.checked_mul(dims.k.checked_add(dims.n)?)?.checked_mul(8)?;
                // Twice the floats, or weights of a byte twice as often as makes them cold.
                let peer = floats.checked_mul(2)?.checked_add(2 * caches.cold())?.checked_add(x)?;
                floats
                    .checked_mul(2)?
                    .checked_add(copies.checked_mul(weights)?)?
                    .checked_add(peer.checked_mul(at_a_time(self.peers.len()))?)?
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
    /// Whether modes f32 and bf16 are measured: images make no difference to them.
    floats: bool,
    /// For products of few tokens, as many copies as it takes; if warm, some rows only.
    row: Vec<Weights<'static>>,
    /// For others.
    panel: Vec<Weights<'static>>,
}

/// Activations, and what products with the weights that all others were made of are.
pub struct Original<'a> {
    pub x: &'a [f32],
    pub products: Sampled,
}

/// Outputs of some weights in f64.
struct Expected {
    table: Sampled,
    /// With the table's image, and how far that is from the table.
    image: Option<(Sampled, f64)>,
    /// The same with the table rounded to bf16.
    bf16: Option<(Sampled, f64)>,
}

/// A product to measure.
pub struct Entry<'a> {
    pub label: Label,
    /// Whether it is one of few tokens.
    pub quick: bool,
    /// The rate at which memory is read counts for it on these pages.
    pub pages: Option<Pages>,
    pub case: Case<'a, Box<dyn Product + 'a>>,
    pub errors: Errors,
}

struct Bench<'a> {
    plan: &'a Plan,
    caches: Caches,
    teams: &'a BTreeMap<usize, Team>,
    subject: Subject<'a>,
    bar: &'a ProgressBar,
}

impl Bench<'_> {
    fn group(
        &self,
        group: &Group<'_>,
        floats: &[f32],
        ceilings: &mut Ceilings,
    ) -> Result<Vec<Row>> {
        let (plan, dims) = (self.plan, self.subject.dims());
        self.bar.set_message("making weights");
        let tokens = plan.tokens.iter().copied().max().unwrap_or(1);
        let x = activations((tokens, dims.k), plan.seed, plan.outliers);
        let products = Sampled::of_floats(floats, (dims.n, dims.k), &x);
        let original = Original { x: &x, products };
        let materials = self.materials(group.codings, floats)?;
        let peers = peers::encode(plan, group.peers, self.caches, floats, dims, &x)?;

        self.bar.set_message("warming up");
        let mut entries = self.entries(&materials, &original)?;
        entries.extend(peers::entries(plan, self.teams, &peers, &original)?);
        entries.sort_by_key(|entry| entry.case.size().m);

        ceilings.forget_reads();
        let share = entries.len() as f64 / plan.products().max(entries.len()) as f64;
        let budget = Budget::new(plan.time.mul_f64(share), entries.len());
        let coding = group.codings.first().filter(|_| plan.overview);
        self.bar.set_message(match coding {
            Some((format, scales)) => format!("measuring {format}, scales {scales}"),
            None => "measuring".into(),
        });
        for _ in 0..plan.repetitions {
            for _ in 0..ROUNDS {
                self.teams.values().for_each(|team| ceilings.sample(team));
                for entry in entries.iter_mut().filter(|entry| entry.quick) {
                    entry.case.visit_within(&budget)?;
                }
            }
            for entry in entries.iter_mut().filter(|entry| !entry.quick) {
                entry.case.visit_within(&budget)?;
            }
            self.bar.inc(1);
        }
        let cpu = cpu();
        let row = |entry: Entry<'_>| {
            let Entry { mut label, pages, case, errors, .. } = entry;
            label.layer = self.subject.name();
            let read = pages.and_then(|pages| ceilings.read(pages, case.threads()));
            let peak = ceilings.peak(label.mode, case.threads()).map(|peak| peak.gflops);
            Row::new(&case, label, errors, (read, peak), &cpu)
        };
        entries.into_iter().map(row).collect()
    }

    fn materials(
        &self,
        codings: &[(Format, Granularity)],
        floats: &[f32],
    ) -> Result<Vec<Material>> {
        let plan = self.plan;
        let mut materials = Vec::new();
        for (format, w) in self.subject.weights(floats, codings)? {
            let (few, many) = (self.any(&w, Shape::Gemv)?, self.any(&w, Shape::Gemm)?);
            for pages in &plan.pages {
                let (mut row, mut panel) = (Vec::new(), Vec::new());
                if few && plan.warm {
                    let bytes = w.k() + w.signs().map_or(0, |_| sign_stride(w.k()));
                    let rows = self.caches.l2 / 2 / bytes;
                    row = copies(&head(&w, rows.next_multiple_of(8))?, 1, *pages)?;
                } else if few {
                    let count = copies_for(w.bytes(), Shape::Gemv, self.caches);
                    row = copies(&w, count, *pages)?;
                }
                if many {
                    let spare = row.first().filter(|_| !plan.warm).cloned();
                    panel = match spare {
                        Some(copy) => vec![copy],
                        None => copies(&w, 1, *pages)?,
                    };
                }
                for (i, image) in plan.images.iter().enumerate() {
                    let [row, panel] = [&row, &panel].map(|copies| with_image(copies, *image));
                    let pages = *pages;
                    materials.push(Material { pages, format, floats: i == 0, row, panel });
                }
            }
        }
        Ok(materials)
    }

    /// Whether any of the products has this shape, with any of the images.
    fn any(&self, w: &Weights<'static>, shape: Shape) -> Result<bool> {
        let plan = self.plan;
        for w in plan.images.iter().flat_map(|image| with_image(slice::from_ref(w), *image)) {
            for options in plan.options() {
                for m in &plan.tokens {
                    if lutmul::Plan::new(&w, *m, &options)?.shape() == shape {
                        return Ok(true);
                    }
                }
            }
        }
        Ok(false)
    }

    fn entries<'a>(
        &'a self,
        materials: &'a [Material],
        original: &'a Original<'a>,
    ) -> Result<Vec<Entry<'a>>> {
        let mut entries = Vec::new();
        for material in materials {
            for (shape, copies) in [(Shape::Gemv, &material.row), (Shape::Gemm, &material.panel)] {
                if let Some(w) = copies.first() {
                    let expected = Expected::new(w, original.x, &self.plan.modes);
                    self.entries_of(material, (shape, copies), &expected, original, &mut entries)?;
                }
            }
        }
        Ok(entries)
    }

    /// The products of one loop shape.
    fn entries_of<'a>(
        &'a self,
        material: &Material,
        (shape, copies): (Shape, &'a [Weights<'static>]),
        expected: &Expected,
        original: &'a Original<'a>,
        entries: &mut Vec<Entry<'a>>,
    ) -> Result<()> {
        let (plan, w) = (self.plan, &copies[0]);
        let quick = shape == Shape::Gemv;
        let pages = Some(material.pages).filter(|_| !(plan.warm && quick));
        for m in &plan.tokens {
            for team in self.teams.values().filter(|team| plan.wants(*m, team.threads())) {
                let modes = plan.modes.iter();
                for mode in modes.filter(|mode| material.floats || mode.is_integer()) {
                    for kernel in &plan.kernels {
                        let options = Options::new().with_kernel(*kernel);
                        let options = options.with_mode(*mode).with_threads(team.option());
                        if lutmul::Plan::new(w, *m, &options)?.shape() != shape {
                            continue;
                        }
                        let x = &original.x[..m * w.k()];
                        let turns = copies.iter().map(|weights| {
                            Box::new(Lutmul { weights, x, options }) as Box<dyn Product>
                        });
                        let mut case = Case::new(turns, team);
                        let y = case.warm_up()?.0;
                        let whole = original.products.relative_rms(&y, w.n());
                        let errors = expected.errors(&y, w.n(), *mode, whole);
                        let label = Label {
                            layer: None,
                            peer: None,
                            format: material.format,
                            scales: w.scales().granularity().to_string(),
                            mode: mode.name(),
                            kernel: Some(kernel.name().into()),
                            shape: Some(shape.to_string()),
                            pages: material.pages.name(),
                            image_bytes: match mode {
                                Mode::F32 => None,
                                Mode::Bf16 => Some(2),
                                _ => Some(w.lut().image().count),
                            },
                            weight_bytes: w.bytes(),
                        };
                        entries.push(Entry { label, quick, pages, case, errors });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Weights on the same memory, with an image of up to so many bytes.
fn with_image(copies: &[Weights<'static>], bytes: u8) -> Vec<Weights<'static>> {
    let copies = copies.iter().cloned();
    if bytes > 2 { copies.map(Weights::with_wide_image).collect() } else { copies.collect() }
}

impl Expected {
    fn new(w: &Weights<'_>, x: &[f32], modes: &[Mode]) -> Self {
        let table = Sampled::of_weights(w, x);
        let apart = |of: fn(&Weights<'_>, &[f32]) -> Sampled| {
            let image = of(w, x);
            let error = table.relative_rms_of(&image);
            (image, error)
        };
        let integers = modes.iter().any(|mode| mode.is_integer());
        let image = integers.then(|| apart(Sampled::of_image));
        let bf16 = modes.contains(&Mode::Bf16).then(|| apart(Sampled::of_bf16));
        Self { table, image, bf16 }
    }

    /// Of a product in that mode, whose whole error is known.
    fn errors(&self, y: &[f32], n: usize, mode: Mode, whole: f64) -> Errors {
        let image = match mode {
            Mode::F32 => &None,
            Mode::Bf16 => &self.bf16,
            _ => &self.image,
        };
        match image {
            Some((image, error)) => {
                Errors { arithmetic: image.relative_rms(y, n), image: Some(*error), whole }
            }
            None => Errors { arithmetic: self.table.relative_rms(y, n), image: None, whole },
        }
    }
}

/// Sets rows of one shape beside those of each peer.
fn compare(plan: &Plan, rows: &mut [Row]) {
    for peer in plan.versus() {
        let of_peer = rows.iter().filter(|row| row.label.peer == Some(peer));
        let times: BTreeMap<_, _> =
            of_peer.map(|row| ((row.m, row.threads), row.seconds_best)).collect();
        for row in &mut *rows {
            row.compare(peer, times.get(&(row.m, row.threads)).copied());
        }
    }
}
