//! The policies: ours, and the published ones with their published defaults.
//!
//! A published policy chooses within one pool; [`pools::Pools`] gives it the pool that computes prompts and the one that
//! streams. All of them see the same exact index, the same load records and the same bookkeeping: what is compared is the
//! score alone.

mod blind;
mod cache_aware;
mod cost;
mod filter_score;
mod ours;
mod pools;

use crate::error::SimulateError;
use crate::router::RouterPolicy;
use crate::settings::ClusterSettings;
use estafette_types::SplitMix64;
use pools::{PoolPolicy, Pools};

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// `routing::choose`, as the router does it.
    Ours,
    /// The same, but prompts stay in their own pool: what the score does without the choice that published ones do not have.
    OursNoDeflection,
    /// Any worker.
    Random,
    /// One after the other.
    RoundRobin,
    /// Fewest requests.
    LeastLoaded,
    /// The one with fewer requests of two drawn at random.
    PowerOfTwo,
    /// Fewest prompt tokens ahead, this prompt's uncached ones included.
    LeastWork,
    /// SGLang's and SMG's cache-aware policy, 0.3/64/1.5.
    CacheAware,
    /// The vLLM production stack's KV-aware policy, threshold 2000 tokens.
    VllmKvAware,
    /// Dynamo's KV router 1.6.1.
    Dynamo,
    /// llm-d's weighted sum 2:1:1.
    LlmD,
    /// llm-d's affinity filter and token load.
    LlmDSticky,
    /// LMetric with the request's own uncached tokens.
    LMetricA,
    /// LMetric with those that wait too.
    LMetricB,
    /// Baseten's selector.
    Baseten,
}

const NAMES: &[(&str, Policy)] = &[
    ("ours", Policy::Ours),
    ("ours-no-deflection", Policy::OursNoDeflection),
    ("random", Policy::Random),
    ("round-robin", Policy::RoundRobin),
    ("least-loaded", Policy::LeastLoaded),
    ("power-of-two", Policy::PowerOfTwo),
    ("least-work", Policy::LeastWork),
    ("cache-aware", Policy::CacheAware),
    ("vllm-kv-aware", Policy::VllmKvAware),
    ("dynamo", Policy::Dynamo),
    ("llm-d", Policy::LlmD),
    ("llm-d-sticky", Policy::LlmDSticky),
    ("lmetric-a", Policy::LMetricA),
    ("lmetric-b", Policy::LMetricB),
    ("baseten", Policy::Baseten),
];

impl Policy {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(_, policy)| *policy)
    }

    /// As in `--policy`.
    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, policy)| *policy == self).map_or("", |(name, _)| name)
    }

    pub(crate) fn build(
        self,
        settings: &ClusterSettings,
        rng: SplitMix64,
    ) -> Box<dyn RouterPolicy> {
        let rule: Box<dyn PoolPolicy> = match self {
            Self::Ours => return Box::new(ours::Ours::new(settings, true, rng)),
            Self::OursNoDeflection => return Box::new(ours::Ours::new(settings, false, rng)),
            Self::Random => Box::new(blind::Random),
            Self::RoundRobin => Box::new(blind::RoundRobin::default()),
            Self::LeastLoaded => Box::new(blind::LeastLoaded),
            Self::PowerOfTwo => Box::new(blind::PowerOfTwo),
            Self::LeastWork => Box::new(cost::LeastWork),
            Self::CacheAware => Box::new(cache_aware::CacheAware),
            Self::VllmKvAware => Box::new(cache_aware::VllmKvAware),
            Self::Dynamo => Box::new(cost::Dynamo),
            Self::LlmD => Box::new(filter_score::WeightedSum),
            Self::LlmDSticky => Box::new(filter_score::Sticky),
            Self::LMetricA => Box::new(cost::LMetric { counts_waiting: false }),
            Self::LMetricB => Box::new(cost::LMetric { counts_waiting: true }),
            Self::Baseten => Box::new(cost::Baseten),
        };
        Box::new(Pools::new(rule, rng))
    }
}

impl std::str::FromStr for Policy {
    type Err = SimulateError;

    fn from_str(name: &str) -> Result<Self, SimulateError> {
        NAMES.iter().find(|(known, _)| *known == name).map(|(_, policy)| *policy).ok_or_else(|| {
            let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            SimulateError::UnknownName {
                what: "policy",
                name: name.into(),
                known: known.join(", "),
            }
        })
    }
}

#[cfg(test)]
mod tests;
