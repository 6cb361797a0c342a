use super::*;
use crate::presets::{DEFAULT_PRESET, preset};
use crate::workload::{Synthetic, generate};

fn experiment(loads: Loads) -> Experiment {
    let traffic = Synthetic { sessions: 40, sessions_per_second: 2.0, ..Synthetic::default() };
    Experiment {
        settings: ClusterSettings::new(1, 1, preset(DEFAULT_PRESET).unwrap()),
        workload: generate(&traffic),
        policies: vec![Policy::Ours, Policy::RoundRobin],
        loads,
        first_seed: 1,
        seeds: 2,
        slo: Slo::default(),
        threads: 2,
    }
}

/// A small report for tests of what is made of it.
pub(crate) fn report() -> Report {
    let mut report = experiment(Loads::Speedups(vec![0.5, 1.0])).run(&|_, _, _| ()).unwrap();
    report.capacity = Some(1.0);
    for cell in &mut report.cells {
        cell.load.share = Some(cell.load.speedup);
    }
    report
}

#[test]
fn cells_come_by_load_then_policy_and_do_not_depend_on_threads() {
    let two = experiment(Loads::Speedups(vec![0.5, 1.0]));
    let one = Experiment { threads: 1, ..two.clone() };
    let report = two.run(&|_, _, _| ()).unwrap();
    assert_eq!(report, one.run(&|_, _, _| ()).unwrap());
    let order: Vec<_> = report.cells.iter().map(|cell| (cell.load.speedup, cell.policy)).collect();
    assert_eq!(order, [(0.5, "ours"), (0.5, "round-robin"), (1.0, "ours"), (1.0, "round-robin")]);
    for cell in &report.cells {
        assert_eq!(cell.runs.len(), 2);
        assert_ne!(cell.runs[0].log_hash, cell.runs[1].log_hash, "two seeds");
    }
}

#[test]
fn loads_are_shares_of_what_the_cluster_can_take() {
    let mut experiment = experiment(Loads::Shares(vec![0.5, 1.5]));
    experiment.workload = generate(&Synthetic { turns: 1, sessions: 300, ..Synthetic::default() });
    experiment.policies = vec![REFERENCE];
    let report = experiment.run(&|_, _, _| ()).unwrap();
    let full = report.capacity.unwrap();
    let [low, high] = &report.cells[..] else { panic!("two loads") };
    assert_eq!((low.load.speedup, high.load.speedup), (full * 0.5, full * 1.5));
    assert!(
        low.runs[0].slo > 0.95 && high.runs[0].slo < 0.9,
        "{} {}",
        low.runs[0].slo,
        high.runs[0].slo
    );
}

#[test]
fn a_cluster_that_is_never_full_has_no_capacity() {
    let mut experiment = experiment(Loads::Shares(vec![0.5]));
    experiment.workload = generate(&Synthetic { turns: 1, sessions: 2, ..Synthetic::default() });
    let error = experiment.run(&|_, _, _| ()).unwrap_err().to_string();
    assert!(error.contains("keeps up at any rate"), "{error}");
}

#[test]
fn an_experiment_that_compares_nothing_is_refused() {
    let good = || experiment(Loads::Speedups(vec![1.0]));
    let wrong = [
        Experiment { policies: vec![], ..good() },
        Experiment { seeds: 0, ..good() },
        Experiment { loads: Loads::Speedups(vec![]), ..good() },
        Experiment { loads: Loads::Shares(vec![-1.0]), ..good() },
    ];
    for experiment in wrong {
        assert!(matches!(experiment.run(&|_, _, _| ()), Err(SimulateError::Setting { .. })));
    }
}
