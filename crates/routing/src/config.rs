//! What an operator may set.

/// Settings of the score. The defaults are where the published scores and our first simulations agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoutingConfig {
    /// How many tokens an answer is expected to have, when more were allowed.
    pub expected_answer_tokens: u32,
    /// Queue, in seconds and on average over the pool, at which a second of work costs the requests behind it one
    /// second more. A miss is cheap when nobody waits and dear when everybody does.
    pub backlog_seconds: f64,
    /// What a second counts that an answer under way loses, against one that a prompt waits: the loss is spread over all
    /// of the answer's tokens. At 1 a worker with twenty answers would take a prompt only for a queue twenty times as
    /// long elsewhere; at 0 decode workers are flooded with prompts.
    pub interference_weight: f64,
    /// The part of a hand-off that no prefill hides.
    pub hand_off_seconds: f64,
    /// The same, for each token that the decode worker does not hold.
    pub hand_off_seconds_per_token: f64,
    /// Prefilling on the decode worker must be faster by this much, and by this share of the prefill pool's time: a
    /// pool that was set apart for prompts is used while it does about as well.
    pub deflection_margin_seconds: f64,
    /// See `deflection_margin_seconds`.
    pub deflection_margin_ratio: f64,
    /// A session's own worker is chosen when its score is within this time, and this share, of the best.
    pub affinity_seconds: f64,
    /// See `affinity_seconds`.
    pub affinity_ratio: f64,
    /// A decode worker that has to compute at most this many tokens, and at most half of the prompt, needs no margin.
    pub append_tokens: u32,
    /// Scores that differ by less are equal, and drawn among: learned curves are never equal to the last bit, and a
    /// fixed winner among equals would take all the light traffic.
    pub tie_seconds: f64,
    /// The same, as a share of the best score.
    pub tie_ratio: f64,
}

impl Default for RoutingConfig {
    fn default() -> Self {
        Self {
            expected_answer_tokens: 256,
            backlog_seconds: 2.0,
            interference_weight: 0.1,
            hand_off_seconds: 0.002,
            hand_off_seconds_per_token: 5e-6,
            deflection_margin_seconds: 0.05,
            deflection_margin_ratio: 0.1,
            affinity_seconds: 0.05,
            affinity_ratio: 0.1,
            append_tokens: 512,
            tie_seconds: 0.0005,
            tie_ratio: 0.005,
        }
    }
}
