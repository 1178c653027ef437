//! A product that is timed, in turns with others.

use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;

use super::product::{Product, Size};
use super::team::{Room, Team};
use super::timing::{Budget, Times};

/// A product that is timed: everything but allocation.
pub struct Case<'a, P> {
    /// The product with copies of the same weights, taken in turn for them to be cold.
    turns: Vec<P>,
    next: usize,
    team: &'a Team,
    times: Times,
    spent: f64,
    workspace_bytes: usize,
}

/// Seconds of a product beside which the first use of memory is no matter.
const LONG: f64 = 1.0;

impl<'a, P: Product> Case<'a, P> {
    /// The same product with each of the copies of its weights: at least one.
    pub fn new(turns: impl IntoIterator<Item = P>, team: &'a Team) -> Self {
        let turns: Vec<P> = turns.into_iter().collect();
        assert!(!turns.is_empty(), "a product to time");
        Self { turns, next: 0, team, times: Times::default(), spent: 0.0, workspace_bytes: 0 }
    }

    /// The product.
    pub fn product(&self) -> &P {
        &self.turns[0]
    }

    /// Its size.
    pub fn size(&self) -> Size {
        self.product().size()
    }

    /// Threads.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// The times so far.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Bytes of the workspace after [`Case::warm_up`].
    pub fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }

    /// Multiplies once with a workspace of its own, and returns y and the seconds it took.
    pub fn warm_up(&mut self) -> Result<(Vec<f32>, f64)> {
        let outputs = self.size().outputs();
        let mut room = self.team.run(Room::default);
        room.for_outputs(outputs);
        let turn = self.next % self.turns.len();
        let seconds = self.products(1, &mut room)?;
        self.workspace_bytes = room.context_bytes();
        self.spent += seconds;
        if seconds > LONG {
            self.times.push(seconds);
        }
        Ok((self.turns[turn].output(&room)?, seconds))
    }

    /// Takes samples for a moment.
    pub fn visit(&mut self) -> Result<()> {
        let start = Instant::now();
        let mut times = std::mem::take(&mut self.times);
        let team = self.team;
        let result = team.in_room(|room| times.visit(|count| self.products(count, room)));
        self.times = times;
        self.spent += start.elapsed().as_secs_f64();
        result
    }

    /// The same, unless it has had its share of the time.
    pub fn visit_within(&mut self, budget: &Budget) -> Result<()> {
        if budget.allows(self.spent, &self.times) { self.visit() } else { Ok(()) }
    }

    /// Seconds of one of `count` products.
    fn products(&mut self, count: usize, room: &mut Room) -> Result<f64> {
        let Self { turns, next, team, .. } = self;
        team.run(|| {
            let start = Instant::now();
            for _ in 0..count {
                let turn = *next % turns.len();
                *next += 1;
                turns[turn].multiply(room)?;
            }
            black_box(room);
            Ok(start.elapsed().as_secs_f64() / count as f64)
        })
    }
}
