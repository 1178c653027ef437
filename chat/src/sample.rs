//! Which token comes next.

use std::cmp::Ordering;

use rand::rngs::ChaCha8Rng;
use rand::{Rng as _, SeedableRng as _};

use crate::ops;

/// Chooses tokens by their logits. The same seed and logits give the same tokens, on every CPU.
pub struct Sampler {
    temperature: f32,
    top_p: f32,
    random: ChaCha8Rng,
}

impl Sampler {
    /// One for a temperature (0: always the most likely token) and a share of the probability that tokens are taken
    /// from, most likely first (1: all).
    pub fn new(temperature: f32, top_p: f32, seed: u64) -> Self {
        Self { temperature, top_p, random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// The next token. Of equal logits the first comes first.
    pub fn next(&mut self, logits: &[f32]) -> u32 {
        if self.temperature <= 0.0 {
            return greedy(logits);
        }
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit = |a: &u32, b: &u32| -> Ordering {
            logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b))
        };
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight =
            |token: &u32| f64::from(ops::exp((logits[*token as usize] - max) / self.temperature));
        let total: f64 = order.iter().map(weight).sum();
        let enough = total * f64::from(self.top_p.clamp(0.0, 1.0));
        // The most likely few hold nearly all of it, nearly always: only they need be in order.
        let mut kept = 0;
        for few in [256, order.len()] {
            let few = few.min(order.len());
            if few < order.len() {
                order.select_nth_unstable_by(few, by_logit);
            }
            order[..few].sort_unstable_by(by_logit);
            let mut sum = 0.0;
            kept = few;
            for (i, token) in order[..few].iter().enumerate() {
                sum += weight(token);
                if sum >= enough {
                    kept = i + 1;
                    break;
                }
            }
            if sum >= enough {
                break;
            }
        }
        let order = &order[..kept.max(1)];
        let sum: f64 = order.iter().map(weight).sum();
        // 53 bits, from 0 to below 1.
        let mut left = (self.random.next_u64() >> 11) as f64 / (1u64 << 53) as f64 * sum;
        for token in order {
            left -= weight(token);
            if left < 0.0 {
                return *token;
            }
        }
        order[order.len() - 1]
    }
}

/// The token with the largest logit.
pub fn greedy(logits: &[f32]) -> u32 {
    let largest =
        logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |(at, max), (i, logit)| {
            if *logit > max { (i, *logit) } else { (at, max) }
        });
    largest.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits() -> Vec<f32> {
        (0..1000).map(|i| (i as f32 * 0.37).sin() * 4.0).collect()
    }

    #[test]
    fn seeds_decide() {
        let draw = |temperature, top_p, seed| -> Vec<u32> {
            let mut sampler = Sampler::new(temperature, top_p, seed);
            (0..50).map(|_| sampler.next(&logits())).collect()
        };
        assert_eq!(draw(0.8, 0.9, 7), draw(0.8, 0.9, 7));
        assert_ne!(draw(0.8, 0.9, 7), draw(0.8, 0.9, 8));
        assert!(draw(0.0, 0.9, 7).iter().all(|token| *token == greedy(&logits())));
        assert!(draw(1.0, 0.0, 7).iter().all(|token| *token == greedy(&logits())));
        // Kept: what a change of the generator or of the arithmetic would change.
        assert_eq!(draw(1.0, 1.0, 1)[..4], [5, 89, 54, 582]);
    }

    #[test]
    fn probabilities_are_those_of_softmax() {
        let logits = [1.0f32, 2.0, 0.0, -1.0];
        let mut sampler = Sampler::new(1.0, 1.0, 3);
        let mut counts = [0; 4];
        for _ in 0..20_000 {
            counts[sampler.next(&logits) as usize] += 1;
        }
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for (count, logit) in counts.iter().zip(logits) {
            let expected = f64::from(logit).exp() / total;
            assert!((f64::from(*count) / 20_000.0 - expected).abs() < 0.015, "{counts:?}");
        }
        let mut sampler = Sampler::new(1.0, 0.85, 3);
        let few = (0..1000).map(|_| sampler.next(&logits));
        assert!(few.into_iter().all(|token| token < 2), "0.64 and 0.24 of the probability");
    }
}
