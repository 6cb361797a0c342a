//! A worker as a decision sees it, whatever the request: worked out when news of it comes, so that a decision among thousands
//! has little left to compute.

use crate::{Pending, StepCost};
use estafette_types::LoadRecord;

/// What is known of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    /// Its newest load record.
    pub(crate) load: LoadRecord,
    /// It is leaving.
    pub(crate) draining: bool,
    /// The most sequences it runs at once.
    pub(crate) max_num_seqs: u32,
    /// The most sequences it lets wait.
    pub(crate) max_waiting: u32,
    /// Steps that one prompt token takes: one over the most tokens of a step.
    pub(crate) steps_per_token: f64,
    /// Dispatched to it and not yet in `load`: [`crate::Receipts::pending`].
    pub(crate) pending: Pending,
    /// Its step-time curve: [`crate::StepModel::cost`].
    pub(crate) step: StepCost,
    /// KV tokens that a row of a prompt attended to there, on average.
    pub(crate) mean_attended: f64,
}

/// The same, ready for the score. Times in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) draining: bool,
    /// It would refuse: what waits there and what is on its way take every place in its queue.
    pub(crate) queue_full: bool,
    /// Of its pool.
    pub(crate) total_blocks: u64,
    /// Not held by a sequence.
    pub(crate) free_blocks: u64,
    pub(crate) steps_per_token: f64,
    /// A step with the sequences that decode there now and no prompt token.
    pub(crate) decode_now: f64,
    /// Sequences that decode there now.
    pub(crate) decoding: f64,
    /// Prompt tokens ahead of a request that comes now.
    pub(crate) tokens_ahead: f64,
    /// Computing them, the steps themselves apart.
    pub(crate) ahead: f64,
    /// Computing them, steps and all.
    pub(crate) backlog: f64,
    /// Sequences that are there or on their way.
    pub(crate) sequences: f64,
    /// A step with all of them and one more without any KV.
    pub(crate) answer_step: f64,
    /// Seats that are missing for one more, as a share of all.
    pub(crate) seats_missing: f64,
    /// KV tokens that are on their way.
    pub(crate) pending_context: u64,
    pub(crate) per_prefill_token: f64,
    pub(crate) per_attended_token: f64,
    pub(crate) per_sequence: f64,
    pub(crate) per_context_token: f64,
}

impl Standing {
    pub(crate) fn new(facts: &Facts) -> Self {
        let Facts { load, pending, step, steps_per_token, .. } = facts;
        let tokens = load.waiting_prefill_tokens + load.running_prefill_tokens;
        let tokens_ahead = (tokens + pending.prefill_tokens) as f64;
        let decode_now =
            step.decode_step(load.decoding_sequences as f64, load.decoding_tokens as f64);
        // Their rows are taken to attend to as much as those that it has computed did, on average.
        let ahead = step.prefill(tokens_ahead, tokens_ahead * facts.mean_attended);
        let waiting = load.waiting_sequences + pending.sequences;
        let sequences = load.sequences() + pending.sequences;
        let context = (load.decoding_tokens + pending.context_tokens) as f64;
        let seats = u64::from(facts.max_num_seqs.max(1));
        Self {
            draining: facts.draining,
            queue_full: waiting >= u64::from(facts.max_waiting),
            total_blocks: load.total_blocks,
            free_blocks: load.free_blocks,
            steps_per_token: *steps_per_token,
            decode_now,
            decoding: load.decoding_sequences as f64,
            tokens_ahead,
            ahead,
            backlog: steps(tokens_ahead * steps_per_token) * decode_now + ahead,
            sequences: sequences as f64,
            answer_step: step.decode_step((sequences + 1) as f64, context),
            seats_missing: (sequences + 1).saturating_sub(seats) as f64 / seats as f64,
            pending_context: pending.context_tokens,
            per_prefill_token: step.per_prefill_token,
            per_attended_token: step.per_attended_token,
            per_sequence: step.per_sequence,
            per_context_token: step.per_context_token,
        }
    }

    /// Time for `tokens` more prompt tokens whose rows attend to `attended` ones, the steps themselves apart.
    pub(crate) fn prefill(&self, tokens: f64, attended: f64) -> f64 {
        self.per_prefill_token * tokens + self.per_attended_token * attended
    }

    /// Time of the steps alone in which `tokens` prompt tokens are computed.
    pub(crate) fn steps(&self, tokens: f64) -> f64 {
        steps(tokens * self.steps_per_token) * self.decode_now
    }
}

/// Rounded up by hand: without SSE 4.1, which is not in the x86-64 baseline, `ceil` is a call.
fn steps(steps: f64) -> f64 {
    let whole = f64::from(steps as u32);
    whole + f64::from(u8::from(whole < steps))
}
