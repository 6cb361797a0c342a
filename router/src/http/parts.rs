//! The parts of several answers as they come.

use crate::answer::{Answer, AnswerPart};
use crate::error::RequestError;
use std::task::{Context, Poll};

/// Answers of one request, each taken in turn.
#[derive(Debug)]
pub(super) struct Parts {
    /// `None`: it has ended.
    answers: Vec<Option<Answer>>,
    /// Whose turn it is.
    turn: usize,
}

impl Parts {
    pub(super) fn new(answers: Vec<Answer>) -> Self {
        Self { answers: answers.into_iter().map(Some).collect(), turn: 0 }
    }

    /// The next part and the number of its answer; `None` when all have ended. Nothing comes after an answer's error.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(usize, Result<AnswerPart, RequestError>)>> {
        let mut running = false;
        for _ in 0..self.answers.len() {
            let i = self.turn;
            self.turn = (i + 1) % self.answers.len();
            let Some(answer) = &mut self.answers[i] else { continue };
            running = true;
            if let Poll::Ready(part) = answer.poll_next(cx) {
                if !matches!(part, Ok(AnswerPart::Piece { .. })) {
                    self.answers[i] = None;
                }
                return Poll::Ready(Some((i, part)));
            }
        }
        if running { Poll::Pending } else { Poll::Ready(None) }
    }
}
