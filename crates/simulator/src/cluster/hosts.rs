//! Workers that compute on the same cores: while several of them run a step, each is slower.
//!
//! A step is an amount of work, done at a rate that depends on how many others compute at the moment, as by processor
//! sharing. Whenever a step begins or ends, the others of that host end at another time; the ends that were expected
//! before are void.

use crate::step_time::StepTime;

/// A step that runs.
#[derive(Clone, Copy, Debug)]
struct Job {
    /// What is left, in nanoseconds without anybody beside it.
    left: u64,
    beside_permille: u64,
    /// When `left` was true, in microseconds.
    since: u64,
    ends: u64,
}

/// Who computes beside whom.
#[derive(Debug)]
pub(super) struct Hosts {
    per_host: usize,
    jobs: Vec<Option<Job>>,
}

impl Hosts {
    /// `workers` workers, the first `per_host` on one host, and so on.
    pub(super) fn new(workers: usize, per_host: u32) -> Self {
        Self { per_host: per_host.max(1) as usize, jobs: vec![None; workers] }
    }

    /// A step begins: who ends when now.
    pub(super) fn begin(&mut self, slot: u32, time: StepTime, now: u64) -> Vec<(u32, u64)> {
        self.advance(slot, now);
        let left = time.micros.saturating_mul(1000);
        let job = Job { left, beside_permille: time.beside_permille, since: now, ends: 0 };
        self.jobs[slot as usize] = Some(job);
        self.expect(slot)
    }

    /// Whether a step ends now, and not at an end that is void.
    pub(super) fn is_due(&self, slot: u32, now: u64) -> bool {
        self.jobs[slot as usize].is_some_and(|job| job.ends == now)
    }

    /// A step has ended: who ends when now.
    pub(super) fn end(&mut self, slot: u32, now: u64) -> Vec<(u32, u64)> {
        self.advance(slot, now);
        self.jobs[slot as usize] = None;
        self.expect(slot)
    }

    fn host(&mut self, slot: u32) -> (usize, &mut [Option<Job>]) {
        let first = slot as usize / self.per_host * self.per_host;
        let end = (first + self.per_host).min(self.jobs.len());
        (first, &mut self.jobs[first..end])
    }

    /// Takes away what was done since the last change.
    fn advance(&mut self, slot: u32, now: u64) {
        let (_, jobs) = self.host(slot);
        let others = running(jobs).saturating_sub(1);
        for job in jobs.iter_mut().flatten() {
            let done = (now - job.since).saturating_mul(1_000_000) / job.permille(others);
            job.left = job.left.saturating_sub(done);
            job.since = now;
        }
    }

    /// The ends that have changed.
    fn expect(&mut self, slot: u32) -> Vec<(u32, u64)> {
        let (first, jobs) = self.host(slot);
        let others = running(jobs).saturating_sub(1);
        let mut changed = Vec::new();
        for (i, job) in jobs.iter_mut().enumerate() {
            let Some(job) = job else { continue };
            let micros = job.left.saturating_mul(job.permille(others)).div_ceil(1_000_000);
            let ends = job.since + micros;
            if ends != job.ends {
                job.ends = ends;
                changed.push(((first + i) as u32, ends));
            }
        }
        changed
    }
}

impl Job {
    fn permille(&self, others: u64) -> u64 {
        1000 + others * self.beside_permille
    }
}

fn running(jobs: &[Option<Job>]) -> u64 {
    jobs.iter().flatten().count() as u64
}

#[cfg(test)]
mod tests;
