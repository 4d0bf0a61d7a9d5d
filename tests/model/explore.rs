//! Looks at every state that can be reached, the nearest first, so that a counterexample is as short as it can be.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::packed::{BuildPackedHasher, Packed};
use crate::state::State;
use crate::world::{Step, World};

/// What a whole exploration has seen.
#[derive(Debug)]
pub struct Summary {
    pub states: usize,
    pub steps: usize,
    /// How many steps away from the beginning the farthest state is.
    pub depth: usize,
    pub time: Duration,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, steps, depth, time } = self;
        write!(f, "{states} states, {steps} steps, {depth} deep, {:.1} s", time.as_secs_f64())
    }
}

/// A state in which a property doesn't hold, and the way there.
pub struct Counterexample {
    /// The property, in the words of its check.
    pub property: String,
    /// What happened, and what had changed after each step.
    pub trace: Vec<String>,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, after {} steps:", self.property, self.trace.len())?;
        for (number, line) in self.trace.iter().enumerate() {
            writeln!(f, "{:3}. {line}", number + 1)?;
        }
        Ok(())
    }
}

/// The states found so far. A state's number is its place.
#[derive(Default)]
struct Found {
    numbers: HashMap<Packed, u32, BuildPackedHasher>,
    states: Vec<Packed>,
    parents: Vec<u32>,
    depths: Vec<u16>,
}

impl Found {
    /// The number of a state, which may be a new one.
    fn add(&mut self, packed: Packed, parent: u32) -> u32 {
        let next = u32::try_from(self.states.len()).expect("fewer states than that");
        let number = *self.numbers.entry(packed).or_insert(next);
        if number == next {
            self.states.push(packed);
            self.parents.push(parent);
            let depth = if next == 0 { 0 } else { self.depths[parent as usize] + 1 };
            self.depths.push(depth);
        }
        number
    }

    /// How a state is reached. Steps aren't stored, so each is looked for among those of the state before.
    fn trace(&self, world: &World, to: u32) -> Vec<String> {
        let mut numbers = vec![to];
        while let Some(&number) = numbers.last().filter(|&&number| number != 0) {
            numbers.push(self.parents[number as usize]);
        }
        numbers.reverse();
        let steps = numbers.windows(2).map(|pair| {
            let [from, to] = [pair[0], pair[1]].map(|number| self.states[number as usize]);
            let before = State::unpack(from, world.size());
            let steps = world.steps(&before);
            let step =
                steps.into_iter().find(|step| step.state.pack(world.size()) == to).expect("a step between the two");
            format!("{step}\n{}", step.state.changes(&before))
        });
        steps.collect()
    }
}

/// Looks at every state of a world. Each must satisfy the world's invariants, and from each the world's goal must be within
/// reach without any more faults.
pub fn explore(world: &World) -> Result<Summary, Counterexample> {
    let began = Instant::now();
    let mut found = Found::default();
    found.add(world.start().pack(world.size()), 0);
    // From each faultless step's state to the one before it.
    let mut back: Vec<(u32, u32)> = Vec::new();
    let (mut next, mut count, mut steps) = (0, 0, Vec::new());
    while next < found.states.len() {
        let number = next as u32;
        next += 1;
        let state = State::unpack(found.states[number as usize], world.size());
        if let Some(property) = world.broken_invariant(&state) {
            return Err(Counterexample { property, trace: found.trace(world, number) });
        }
        world.steps_into(&state, &mut steps);
        count += steps.len();
        for Step { state: after, is_fault, .. } in steps.drain(..) {
            let to = found.add(after.pack(world.size()), number);
            if !is_fault && to != number {
                back.push((to, number));
            }
        }
    }
    if let Some(number) = first_lost(world, &found, back) {
        let property = format!("{} can't be reached any more, even without further faults", world.goal_name());
        return Err(Counterexample { property, trace: found.trace(world, number) });
    }
    let depth = found.depths.iter().copied().max().unwrap_or_default().into();
    Ok(Summary { states: found.states.len(), steps: count, depth, time: began.elapsed() })
}

/// The nearest state from which no faultless way leads to the goal: every state that has one is marked, beginning at the
/// goal.
fn first_lost(world: &World, found: &Found, mut back: Vec<(u32, u32)>) -> Option<u32> {
    back.sort_unstable();
    let mut marked: Vec<bool> =
        found.states.iter().map(|state| world.is_goal(&State::unpack(*state, world.size()))).collect();
    let mut open: Vec<u32> = (0..).zip(&marked).filter(|(_, marked)| **marked).map(|(number, _)| number).collect();
    while let Some(to) = open.pop() {
        let first = back.partition_point(|(other, _)| *other < to);
        for &(_, from) in back[first..].iter().take_while(|(other, _)| *other == to) {
            if !std::mem::replace(&mut marked[from as usize], true) {
                open.push(from);
            }
        }
    }
    marked.iter().position(|marked| !marked).map(|number| number as u32)
}
