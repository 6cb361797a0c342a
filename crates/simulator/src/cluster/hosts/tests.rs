use super::*;
use crate::cluster::{Outcome, simulate};
use crate::policy::Policy;
use crate::presets::{DEFAULT_PRESET, preset};
use crate::settings::ClusterSettings;
use crate::workload::{Synthetic, generate};

fn step(micros: u64, beside_permille: u64) -> StepTime {
    StepTime { micros, beside_permille, extrapolated: false }
}

#[test]
fn alone_a_step_takes_its_time() {
    let mut hosts = Hosts::new(3, 1);
    assert_eq!(hosts.begin(1, step(100, 1000), 7), [(1, 107)]);
    assert_eq!(hosts.begin(2, step(50, 1000), 9), [(2, 59)]);
    assert_eq!(hosts.end(2, 59), []);
    assert!(hosts.is_due(1, 107) && !hosts.is_due(1, 106) && !hosts.is_due(0, 107));
}

#[test]
fn two_steps_on_the_same_cores_share_them() {
    let mut hosts = Hosts::new(4, 2);
    assert_eq!(hosts.begin(0, step(100, 1000), 0), [(0, 100)]);
    assert_eq!(hosts.begin(2, step(100, 1000), 0), [(2, 100)], "another host");
    // Forty are done; the other sixty take twice as long.
    assert_eq!(hosts.begin(1, step(30, 1000), 40), [(0, 160), (1, 100)]);
    assert!(!hosts.is_due(0, 100), "that end is void");
    // Thirty are left, and nobody is beside them any more.
    assert_eq!(hosts.end(1, 100), [(0, 130)]);
    assert!(hosts.is_due(0, 130) && !hosts.is_due(0, 160));
    assert_eq!(hosts.end(0, 130), []);
    assert!(!hosts.is_due(0, 130));
}

#[test]
fn each_kind_of_step_has_its_own_slowdown() {
    let mut hosts = Hosts::new(3, 3);
    hosts.begin(0, step(1000, 500), 0);
    assert_eq!(hosts.begin(1, step(1000, 2000), 0), [(0, 1500), (1, 3000)]);
    assert_eq!(hosts.begin(2, step(1, 0), 0), [(0, 2000), (1, 5000), (2, 1)]);
}

#[test]
fn a_cluster_on_shared_cores_does_the_same_work_in_more_time() {
    let workload = generate(&Synthetic::default()).limited(200);
    let run = |workers_per_host| {
        let times = preset(DEFAULT_PRESET).unwrap();
        let settings = ClusterSettings { workers_per_host, ..ClusterSettings::new(1, 1, times) };
        simulate(&settings, &workload, Policy::OursNoDeflection, 1.0, 1, None, &mut |_| ()).unwrap()
    };
    let (apart, together) = (run(1), run(2));
    let sum = |outcome: &Outcome| {
        outcome.records.iter().map(|r| r.finished.unwrap() - r.arrived.unwrap()).sum::<u64>()
    };
    assert!(sum(&together) > sum(&apart), "{} {}", sum(&together), sum(&apart));
    assert_eq!(together.leftover, None);
    assert_eq!(together.done.generated, apart.done.generated);
}
