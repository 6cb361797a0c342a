//! From tokens to text: detokenises a generation, watches for stop strings, ends it there.

use crate::error::RequestError;
use crate::generation::{Generation, GenerationEvent};
use crate::model::ServedModel;
use crate::request::AnswerRequest;
use estafette_proto::v1;
use estafette_tokenizer::{Detokenizer, StopMatcher};
use estafette_types::{ErrorCode, FinishReason, Limits, Usage};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

/// A step of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AnswerPart {
    /// Text that can be shown, and the token that was chosen. Text is held back while it may be part of a stop string or
    /// of an unfinished character, so it may be empty. Tokens that end the answer are not shown.
    Piece { text: String, token: v1::Token },
    /// Nothing follows.
    End {
        /// What was held back.
        text: String,
        reason: FinishReason,
        usage: Usage,
    },
}

/// One answer as text. Dropping it cancels.
#[derive(Debug)]
pub(crate) struct Answer {
    generation: Generation,
    text: AnswerText,
}

impl Answer {
    pub(crate) fn new(
        generation: Generation,
        request: &AnswerRequest,
        model: &ServedModel,
    ) -> Self {
        let tokenizer = Arc::clone(&model.tokenizer);
        let text = AnswerText {
            detokenizer: Detokenizer::new(tokenizer, request.skip_special_tokens),
            stop: StopMatcher::new(request.stop.clone()),
            limits: request.limits.clone(),
            stopped: false,
        };
        Self { generation, text }
    }

    /// The next part; nothing may be asked for after [`AnswerPart::End`].
    ///
    /// # Errors
    /// Why there is no answer, or none any more.
    pub(crate) async fn next(&mut self) -> Result<AnswerPart, RequestError> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// [`Answer::next`] for those that wait for several at once.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<AnswerPart, RequestError>> {
        loop {
            let event = ready!(self.generation.poll_next(cx)).unwrap_or_else(|| {
                Err(RequestError::new(ErrorCode::Internal, "an answer ended without a last event"))
            })?;
            match event {
                GenerationEvent::Token(token) => {
                    let stopped_before = self.text.stopped;
                    let part = self.text.push(token);
                    if self.text.stopped && !stopped_before {
                        self.generation.stop();
                    }
                    if let Some((text, token)) = part {
                        return Poll::Ready(Ok(AnswerPart::Piece { text, token }));
                    }
                }
                GenerationEvent::Finished { reason, usage } => {
                    let (text, reason) = self.text.finish(reason);
                    return Poll::Ready(Ok(AnswerPart::End { text, reason, usage }));
                }
            }
        }
    }
}

/// The pure part.
#[derive(Debug)]
struct AnswerText {
    detokenizer: Detokenizer,
    stop: StopMatcher,
    limits: Limits,
    stopped: bool,
}

impl AnswerText {
    /// Text and token to show, if any.
    fn push(&mut self, token: v1::Token) -> Option<(String, v1::Token)> {
        let ends = !self.limits.ignore_eos && self.limits.stop_token_ids.contains(&token.id);
        if self.stopped || ends {
            return None;
        }
        let text = self.detokenizer.push(token.id);
        let outcome = self.stop.push(&text);
        self.stopped = outcome.stopped;
        Some((outcome.text, token))
    }

    /// The text that was held back, and the reason as the client sees it.
    fn finish(&mut self, reason: FinishReason) -> (String, FinishReason) {
        if self.stopped {
            return (String::new(), FinishReason::Stop);
        }
        let rest = self.detokenizer.finish();
        let outcome = self.stop.push(&rest);
        if outcome.stopped {
            return (outcome.text, FinishReason::Stop);
        }
        (outcome.text + &self.stop.finish(), reason)
    }
}

#[cfg(test)]
mod tests;
