//! Depth first through every reachable state, each once.

use super::world::{Step, World};
use crate::proof::invariants::Violation;

#[expect(clippy::disallowed_types, reason = "looked up only; its order reaches nobody")]
type Seen = std::collections::HashSet<u128>;

/// What an exploration found.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) states: usize,
    pub(super) steps: usize,
    /// Worlds in which nothing more happens without a fault.
    pub(super) quiet: usize,
    /// Of those, worlds in which every transfer completed.
    pub(super) completed: usize,
    /// The longest way that was walked.
    pub(super) depth: usize,
    /// The first violation and the way to it.
    pub(super) violation: Option<(Violation, Vec<Step>)>,
}

/// Explores until a violation is found or nothing is left.
pub(super) fn explore(start: &World) -> Report {
    let mut explorer = Explorer { seen: Seen::default(), report: Report::default() };
    let mut stack: Vec<(Step, Vec<(Step, World)>)> = Vec::new();
    explorer.seen.insert(start.fingerprint());
    let mut children = explorer.children(start);
    loop {
        if let Some((violation, last)) = children.1.take() {
            let way = stack.iter().map(|(step, _)| *step).chain(last).collect();
            explorer.report.violation = Some((violation, way));
            return explorer.report;
        }
        let mut open = children.0;
        // Down to the next new world, or up to where one is left.
        let next = loop {
            if let Some(next) = open.pop() {
                break Some(next);
            }
            match stack.pop() {
                Some((_, others)) => open = others,
                None => break None,
            }
        };
        let Some((step, world)) = next else { return explorer.report };
        stack.push((step, open));
        explorer.report.depth = explorer.report.depth.max(stack.len());
        children = explorer.children(&world);
    }
}

type Children = (Vec<(Step, World)>, Option<(Violation, Option<Step>)>);

struct Explorer {
    seen: Seen,
    report: Report,
}

impl Explorer {
    /// The worlds that follow and have not been seen.
    fn children(&mut self, world: &World) -> Children {
        self.report.states += 1;
        let mut found = Vec::new();
        match self.expand(world, &mut found) {
            Ok(()) => (found, None),
            Err((violation, step)) => (found, Some((violation, step))),
        }
    }

    fn expand(
        &mut self,
        world: &World,
        found: &mut Vec<(Step, World)>,
    ) -> Result<(), (Violation, Option<Step>)> {
        let mut moves = self.follow(world, &world.regular_steps(), false, found)?;
        if moves == 0 {
            moves = self.follow(world, &world.timer_steps(), false, found)?;
        } else if world.faults > 0 {
            self.follow(world, &world.timer_steps(), true, found)?;
        }
        if moves == 0 {
            self.report.quiet += 1;
            self.report.completed += usize::from(world.all_completed());
            world.check_quiet().map_err(|violation| (violation, None))?;
        }
        if world.faults > 0 {
            self.follow(world, &world.fault_steps(), true, found)?;
        }
        Ok(())
    }

    /// How many of `steps` are possible.
    fn follow(
        &mut self,
        world: &World,
        steps: &[Step],
        fault: bool,
        found: &mut Vec<(Step, World)>,
    ) -> Result<usize, (Violation, Option<Step>)> {
        let mut possible = 0;
        for step in steps.iter().filter(|step| world.may(**step)) {
            let mut next = world.fork();
            if fault {
                next.faults -= 1;
            }
            if !next.take(*step, fault).map_err(|violation| (violation, Some(*step)))? {
                continue;
            }
            possible += 1;
            self.report.steps += 1;
            if self.seen.insert(next.fingerprint()) {
                found.push((*step, next));
            }
        }
        Ok(possible)
    }
}
