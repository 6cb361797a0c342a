//! Medians and spread of the rounds, as a table.

use crate::LENGTHS;
use crate::load::Load;
use std::fmt;

type Lookups = [[f64; 2]; LENGTHS.len()];

/// One index, one round.
pub struct Round {
    /// Nanoseconds for each block: by the clock, and of CPU time.
    pub stored: [f64; 2],
    pub churned: [f64; 2],
    pub bytes: usize,
    /// Nanoseconds of p50 and p99, by length.
    pub alone: Lookups,
    pub beside: Lookups,
    /// Prompts answered wrongly: after the churn, with holes, with the holes filled.
    pub wrong: [usize; 3],
}

pub struct Report {
    head: String,
    entries: f64,
    distinct: f64,
    rounds: Vec<(&'static str, Vec<Round>)>,
}

impl Report {
    pub fn new(load: &Load) -> Self {
        let (workers, chats) = (load.workers, load.chats.len());
        let (entries, distinct) = (load.entries(), load.distinct());
        let head = format!(
            "{workers} workers, {chats} chats, {entries} entries, {distinct} distinct blocks"
        );
        Self { head, entries: entries as f64, distinct: distinct as f64, rounds: Vec::new() }
    }

    pub fn add(&mut self, name: &'static str, round: Round) {
        match self.rounds.iter_mut().find(|(known, _)| *known == name) {
            Some((_, rounds)) => rounds.push(round),
            None => self.rounds.push((name, vec![round])),
        }
    }

    fn row(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        value: impl Fn(&Round) -> f64,
    ) -> fmt::Result {
        write!(f, "| {what} |")?;
        for (_, rounds) in &self.rounds {
            write!(f, " {} |", spread(rounds.iter().map(&value).collect()))?;
        }
        writeln!(f)
    }

    fn lookups(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        of: impl Fn(&Round) -> &Lookups,
    ) -> fmt::Result {
        for (i, length) in LENGTHS.iter().enumerate() {
            for (j, p) in ["p50", "p99"].iter().enumerate() {
                let label = format!("lookup of {length} blocks{what}, {p}, ns");
                self.row(f, &label, |round| of(round)[i][j])?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.head)?;
        write!(f, "| |")?;
        for (name, _) in &self.rounds {
            write!(f, " {name} |")?;
        }
        writeln!(f, "\n|---|{}", "---|".repeat(self.rounds.len()))?;
        self.row(f, "store a block, ns", |round| round.stored[0])?;
        self.row(f, "store a block, ns of CPU", |round| round.stored[1])?;
        self.row(f, "remove or store again, ns", |round| round.churned[0])?;
        self.row(f, "remove or store again, ns of CPU", |round| round.churned[1])?;
        self.lookups(f, "", |round| &round.alone)?;
        self.lookups(f, " beside a writer", |round| &round.beside)?;
        self.row(f, "bytes for each entry", |round| round.bytes as f64 / self.entries)?;
        self.row(f, "bytes for each distinct block", |round| round.bytes as f64 / self.distinct)?;
        for (i, when) in ["", " with holes", " when holes are filled"].iter().enumerate() {
            self.row(f, &format!("wrong answers{when}"), |round| round.wrong[i] as f64)?;
        }
        Ok(())
    }
}

/// The median, and the least and the greatest.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_by(f64::total_cmp);
    let (least, greatest) = (values[0], values[values.len() - 1]);
    let median = (values[(values.len() - 1) / 2] + values[values.len() / 2]) / 2.0;
    if least == greatest {
        return number(median);
    }
    format!("{} ({}–{})", number(median), number(least), number(greatest))
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 || value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}
