//! Streamed answers, read event by event.

use crate::http::Events;
use serde_json::Value;

/// An answer on its way, with log-probabilities.
#[derive(Debug)]
pub struct Running {
    events: Events,
    heard: Vec<Value>,
}

/// An answer that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Text and log-probabilities, token by token.
    pub tokens: Vec<Value>,
    /// The bill.
    pub usage: Value,
}

impl Running {
    /// Of a request that asks for a stream with log-probabilities and the bill.
    pub fn new(events: Events) -> Self {
        Self { events, heard: Vec::new() }
    }

    /// Reads so many events more.
    pub fn hear(&mut self, count: usize) {
        for _ in 0..count {
            let data = self.events.next_data().expect("the stream ended early");
            self.heard.push(serde_json::from_str(&data).expect("an event"));
        }
    }

    /// Reads to the end, which must be a regular one.
    pub fn whole(mut self) -> Whole {
        self.heard.extend(self.events.rest());
        assert!(self.heard.iter().all(|event| event["error"].is_null()), "{:?}", self.heard);
        let choices = self.heard.iter().map(|event| &event["choices"][0]);
        let tokens = choices.filter_map(|choice| choice["logprobs"]["content"].as_array());
        let usage = self.heard.iter().rev().find(|event| !event["usage"].is_null());
        Whole {
            tokens: tokens.flatten().cloned().collect(),
            usage: usage.expect("a bill")["usage"].clone(),
        }
    }

    /// Reads to the error with which it ends; its code.
    pub fn error(self) -> String {
        let end = self.end();
        assert_ne!(end, "[DONE]", "it ended in the regular way");
        end
    }

    /// Reads to the end: `[DONE]`, or the code of the error.
    pub fn end(mut self) -> String {
        loop {
            let data = self.events.next_data().expect("the stream ended without a last word");
            let end = if data == "[DONE]" {
                data
            } else {
                let event: Value = serde_json::from_str(&data).expect("an event");
                let Some(code) = event["error"]["code"].as_str() else { continue };
                code.to_owned()
            };
            assert_eq!(self.events.next_data(), None, "nothing follows the end");
            return end;
        }
    }
}
