//! Times of repeated work.

use std::time::Duration;

/// Times in seconds.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    /// How long a sample takes at least: long enough for the clock, and for the caches of one sample
    /// to be of no use to the next.
    const SAMPLE: f64 = 5e-3;
    /// How long a visit goes on taking samples.
    const VISIT: f64 = 25e-3;

    /// Adds a time.
    pub fn push(&mut self, seconds: f64) {
        self.0.push(seconds);
    }

    /// Takes samples for a moment, at least one. `work` does something so many times, and says
    /// how many seconds each took.
    pub fn visit<E>(&mut self, mut work: impl FnMut(usize) -> Result<f64, E>) -> Result<(), E> {
        let mut spent = 0.0;
        let mut guess = match self.best() {
            Some(best) => best,
            None => {
                let first = work(1)?;
                if first > Self::SAMPLE {
                    spent = first;
                    self.push(first);
                }
                first
            }
        };
        while spent < Self::VISIT {
            let count = (Self::SAMPLE / guess.max(1e-9)).ceil().clamp(1.0, 1e6) as usize;
            guess = work(count)?;
            spent += guess * count as f64;
            self.push(guess);
        }
        Ok(())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shortest.
    pub fn best(&self) -> Option<f64> {
        self.0.iter().copied().min_by(f64::total_cmp)
    }

    /// The median.
    pub fn median(&self) -> Option<f64> {
        let mut times = self.0.clone();
        times.sort_by(f64::total_cmp);
        let (low, high) = (times.get(times.len().saturating_sub(1) / 2)?, times[times.len() / 2]);
        Some((low + high) / 2.0)
    }
}

/// Shares time out among many things to measure.
pub struct Budget {
    each: f64,
}

impl Budget {
    /// As much for each of `count`.
    pub fn new(total: Duration, count: usize) -> Self {
        Self { each: total.as_secs_f64() / count.max(1) as f64 }
    }

    /// Whether something that has taken these times may go on.
    pub fn allows(&self, spent: f64, times: &Times) -> bool {
        times.is_empty() || spent + times.best().unwrap_or_default() <= self.each
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn best_and_median() {
        let mut times = Times::default();
        assert_eq!((times.best(), times.median()), (None, None));
        for t in [3.0, 1.0, 2.0] {
            times.push(t);
        }
        assert_eq!((times.best(), times.median()), (Some(1.0), Some(2.0)));
        times.push(4.0);
        assert_eq!(times.median(), Some(2.5));
    }

    #[test]
    fn visits() {
        let (mut times, mut counts) = (Times::default(), Vec::new());
        let work = |count| {
            counts.push(count);
            Ok::<_, ()>(1e-3)
        };
        times.visit(work).expect("work");
        assert_eq!(counts, [1, 5, 5, 5, 5, 5]);
        assert_eq!(times.best(), Some(1e-3));
        let budget = Budget::new(Duration::from_secs(1), 2);
        assert!(budget.allows(0.4, &times) && !budget.allows(0.5, &times));
        assert!(budget.allows(9.0, &Times::default()));
    }
}
