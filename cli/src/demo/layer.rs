//! A layer in every format, by every kernel.

use std::borrow::Cow;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::ProgressBar;
use lutmul::{Format, Granularity, Kernel, Mode, Options, Shape, Weights};

use crate::measure::{
    Budget, Caches, Case, Dims, Floats, Gemm, Lutmul, Pages, Reader, Sampled, Team, copies,
    copies_for, gemm, gemv, head, region, transformer_activations,
};

/// Formats that are shown, as steps of the progress bar: those with a name, and one more granularity.
pub const STEPS: usize = Format::NAMED.len() - AMD + 1;

/// AMD's variants of FP8 are shown by the others.
const AMD: usize = 2;

/// Weights that speeds are measured on at most: the first rows of very large layers.
const MOST: usize = 1 << 26;

/// Seconds that a large product should take: slow kernels are given fewer rows of W.
const LARGE: f64 = 0.06;

/// Rows that a kernel's speed is guessed from.
const PROBE: usize = 96;

/// A layer to try.
pub struct Layer<'a> {
    pub name: String,
    pub dims: Dims,
    pub floats: Cow<'a, [f32]>,
}

/// What is measured with.
pub struct Rig<'a> {
    pub team: &'a Team,
    pub caches: Caches,
    pub pages: Pages,
    pub reader: &'a mut Reader,
    pub tokens: usize,
    pub repetitions: usize,
    pub seed: u64,
    pub bar: &'a ProgressBar,
}

/// A layer, measured.
pub struct Measured {
    pub name: String,
    pub dims: Dims,
    /// The fastest rate at which memory was read, in GB/s.
    pub read: f64,
    /// A product of one token with f32 weights: bytes of weights and seconds.
    pub gemv: Run,
    /// The f32 product of many tokens, if there is one to compare with.
    pub gemm: Option<Run>,
    pub formats: Vec<Coded>,
}

/// A layer in one format.
pub struct Coded {
    pub format: &'static str,
    pub scales: String,
    pub bytes: usize,
    pub sqnr_db: f64,
    /// Weights encoded in a second.
    pub encoding: f64,
    pub runs: Vec<Run>,
}

/// Products by one kernel.
#[derive(Clone)]
pub struct Run {
    pub kernel: &'static str,
    pub mode: Mode,
    pub m: usize,
    /// Rows of W that were multiplied.
    pub rows: usize,
    pub seconds: f64,
    /// Weights multiplied in a second, and bytes of them; operations in a second.
    pub weights: f64,
    pub bytes: f64,
    pub flops: f64,
    /// Relative RMS error against the product with the original weights; of the arithmetic alone,
    /// against the product with the decoded weights.
    pub error: f64,
    pub arithmetic: f64,
}

impl Run {
    fn new(kernel: &'static str, m: usize, dims: Dims, bytes: usize, seconds: f64) -> Self {
        let weights = dims.count() as f64 / seconds;
        let (rows, flops) = (dims.n, 2.0 * m as f64 * weights);
        let (error, arithmetic) = (0.0, 0.0);
        let bytes = bytes as f64 / seconds;
        let mode = Mode::F32;
        Self { kernel, mode, m, rows, seconds, weights, bytes, flops, error, arithmetic }
    }
}

impl Rig<'_> {
    /// Measures a layer.
    pub fn measure(&mut self, layer: &Layer<'_>) -> Result<Measured> {
        let Layer { name, dims, floats } = layer;
        let Dims { n, k } = *dims;
        let x = transformer_activations((self.tokens, k), self.seed);
        let exact = Sampled::of_floats(floats, (n, k), &x);

        let part = Dims { n: n.min((MOST / k).max(1)), k };
        let bytes: &[u8] = bytemuck::cast_slice(&floats[..part.count()]);
        let count = copies_for(bytes.len(), Shape::Gemv, self.caches);
        let memory = region(self.pages, bytes.len() * count, |to| {
            to.chunks_exact_mut(bytes.len()).for_each(|to| to.copy_from_slice(bytes));
        })?;
        let all: &[f32] = bytemuck::cast_slice((*memory).as_ref());
        let floats = |w, x, gemm: Gemm| Floats { w, x, k, threads: self.team.threads(), gemm };
        let plain = all.chunks_exact(part.count()).map(|w| floats(w, &x[..k], gemv));
        let mut plain = Case::new(plain, self.team);

        let mut read = 0f64;
        let block = (Format::E4m3, Granularity::Block(128, 128));
        let shown = |f: &Format| !matches!(f, Format::E4m3Fnuz | Format::E5m2Fnuz);
        let named =
            Format::NAMED.into_iter().filter(shown).map(|format| (format, Granularity::Row));
        let mut formats = Vec::new();
        for (format, scales) in named.chain([block]) {
            self.bar.set_message(format!("{name}: {format}"));
            formats.push(
                self.format(layer, part, &format, scales, &x, &exact, &mut plain, &mut read)?,
            );
            self.bar.inc(1);
        }
        let bytes = bytes.len();
        let seconds = plain.times().best().context("no product was measured")?;
        let gemv = Run::new("plain loops", 1, part, bytes, seconds);
        let gemm = match gemm().filter(|_| self.tokens > 1) {
            None => None,
            Some(gemm) => {
                let mut case = Case::new([floats(&all[..part.count()], &x, gemm)], self.team);
                for _ in 0..self.repetitions {
                    case.visit()?;
                }
                let seconds = case.times().best().context("no product was measured")?;
                Some(Run::new("gemm crate", self.tokens, part, bytes, seconds))
            }
        };
        Ok(Measured { name: name.clone(), dims: *dims, read, gemv, gemm, formats })
    }

    #[expect(clippy::too_many_arguments, reason = "what a layer's formats have in common")]
    fn format(
        &mut self,
        layer: &Layer<'_>,
        part: Dims,
        format: &Format,
        scales: Granularity,
        x: &[f32],
        exact: &Sampled,
        plain: &mut Case<'_, Floats<'_>>,
        read: &mut f64,
    ) -> Result<Coded> {
        let Dims { n, k } = layer.dims;
        let start = Instant::now();
        let w = Weights::encode(&layer.floats, (n, k), format, scales)?.with_name(&layer.name);
        let encoding = layer.dims.count() as f64 / start.elapsed().as_secs_f64();
        let sqnr_db = w.error_report(&layer.floats)?.sqnr_db;
        let part_of = head(&w, part.n)?;
        let decoded = Sampled::of_weights(&part_of, x);
        let count = copies_for(part_of.bytes(), Shape::Gemv, self.caches);
        let copies = copies(&part_of, count, self.pages)?;

        let mut heads = Vec::new();
        for kernel in Kernel::available() {
            heads.push(self.affordable(kernel, &copies[0], x)?);
        }
        // Every kernel in mode f32, and the best one in the others.
        let kernels = Kernel::available().zip(&heads);
        let modes = Mode::ALL.into_iter().filter(|mode| *mode != Mode::F32);
        let best = modes.filter_map(|mode| Some((kernels.clone().next()?, mode)));
        let all = kernels.clone().map(|kernel| (kernel, Mode::F32)).chain(best);
        let mut cases = Vec::new();
        for ((kernel, head), mode) in all {
            let options =
                Options::new().with_kernel(kernel).with_threads(self.team.option()).with_mode(mode);
            let product = |weights, x| Lutmul { weights, x, options };
            cases.push(Case::new(copies.iter().map(|w| product(w, &x[..k])), self.team));
            if self.tokens > 1 {
                cases.push(Case::new([product(head, x)], self.team));
            }
        }
        let mut errors = Vec::new();
        for case in &mut cases {
            let (y, _) = case.warm_up()?;
            let rows = case.size().n;
            errors.push((exact.relative_rms(&y, rows), decoded.relative_rms(&y, rows)));
        }
        let budget = Budget::new(Duration::from_secs(cases.len() as u64), cases.len());
        for round in 0..self.repetitions {
            *read = read.max(self.reader.sample(self.team));
            plain.visit()?;
            // Products of many tokens don't depend on what memory does at the moment.
            for case in cases.iter_mut().filter(|case| case.size().m == 1 || round % 2 == 0) {
                case.visit_within(&budget)?;
            }
        }
        let runs = cases.iter().zip(errors).map(|(case, (error, arithmetic))| {
            let Lutmul { weights: w, options, .. } = case.product();
            let seconds = case.times().best().context("a product was not measured")?;
            let (kernel, m) = (options.kernel()?.name(), case.size().m);
            let run = Run::new(kernel, m, Dims { n: w.n(), k }, w.bytes(), seconds);
            Ok(Run { mode: options.mode, error, arithmetic, ..run })
        });
        let (format, scales, bytes) = (format.name(), scales.to_string(), w.bytes());
        Ok(Coded { format, scales, bytes, sqnr_db, encoding, runs: runs.collect::<Result<_>>()? })
    }

    /// As many rows as a kernel can multiply many tokens by in a moment.
    fn affordable<'w>(&self, kernel: Kernel, w: &'w Weights<'_>, x: &[f32]) -> Result<Weights<'w>> {
        let weights = &head(w, PROBE)?;
        let options = Options::new().with_kernel(kernel).with_threads(self.team.option());
        let mut case = Case::new([Lutmul { weights, x, options }], self.team);
        // The second time memory is there already.
        case.warm_up()?;
        let (_, seconds) = case.warm_up()?;
        let fits = (PROBE as f64 * LARGE / seconds.max(1e-9)).min(1e9) as usize;
        let rows = fits.next_multiple_of(PROBE).max(PROBE);
        head(w, rows)
    }
}
