//! A client of the HTTP API that hides nothing: status, body, events as they come.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::time::Duration;

/// No test waits longer for one answer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Talks to one server.
#[derive(Clone, Debug)]
pub struct Http {
    agent: ureq::Agent,
    base: String,
    key: Option<String>,
}

/// Status and body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// `Retry-After`, when it was sent.
    pub retry_after: Option<String>,
    /// The body.
    pub text: String,
}

impl Reply {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("no JSON ({e}): {}", self.text))
    }

    /// Code and field of an error in OpenAI's form.
    pub fn error(&self) -> (u16, String, Option<String>) {
        let error = &self.json()["error"];
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{}", self.text);
        let code = error["code"].as_str().unwrap().to_owned();
        (self.status, code, error["param"].as_str().map(str::to_owned))
    }
}

/// Metrics of one moment, in the Prometheus text format.
#[derive(Clone, Debug)]
pub struct Metrics(pub String);

impl Metrics {
    /// The sum of a metric's values over the lines that contain all of `labels`.
    pub fn sum(&self, name: &str, labels: &[&str]) -> u64 {
        let lines = self.0.lines().filter(|line| {
            line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} "))
        });
        lines
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64)
            .sum()
    }
}

impl Http {
    /// A client of the server at `address`.
    pub fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .build();
        Self { agent: config.into(), base: format!("http://{address}"), key: None }
    }

    /// The same with an API key.
    #[must_use]
    pub fn with_key(self, key: &str) -> Self {
        Self { key: Some(format!("Bearer {key}")), ..self }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Reply {
        self.try_get(path).unwrap_or_else(|e| panic!("GET {path}: {e}"))
    }

    /// GET, which may fail because nobody listens.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_get(&self, path: &str) -> Result<Reply, ureq::Error> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = match &self.key {
            Some(key) => request.header("authorization", key),
            None => request,
        };
        request.call().map(reply)
    }

    /// The server's metrics at one moment.
    pub fn metrics(&self) -> Metrics {
        Metrics(self.get("/metrics").text)
    }

    /// POST of JSON.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_bytes(path, body.to_string().as_bytes())
    }

    /// POST of anything.
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Reply {
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = match &self.key {
            Some(key) => request.header("authorization", key),
            None => request,
        };
        let sent = request.header("content-type", "application/json").send(body);
        reply(sent.unwrap_or_else(|e| panic!("POST {path}: {e}")))
    }

    /// POST whose answer is a stream of events. Dropping the stream closes the connection.
    pub fn stream(&self, path: &str, body: &Value) -> Events {
        let sent = self
            .agent
            .post(format!("{}{path}", self.base))
            .header("connection", "close")
            .send(body.to_string().as_bytes());
        let response = sent.unwrap_or_else(|e| panic!("POST {path}: {e}"));
        assert_eq!(response.status().as_u16(), 200, "{path}: {body}");
        let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
        assert_eq!(kind, "text/event-stream");
        Events(BufReader::new(Box::new(response.into_body().into_reader())))
    }
}

fn reply(mut response: ureq::http::Response<ureq::Body>) -> Reply {
    let header = response.headers().get("retry-after");
    let retry_after = header.map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    Reply { status, retry_after, text: response.body_mut().read_to_string().unwrap() }
}

/// Server-sent events.
pub struct Events(BufReader<Box<dyn std::io::Read + Send>>);

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// The next event's data; `None` at the end of the stream.
    pub fn next_data(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            let line = line.trim_end();
            if !line.is_empty() {
                return Some(
                    line.strip_prefix("data: ").unwrap_or_else(|| panic!("{line}")).to_owned(),
                );
            }
        }
    }

    /// Every event up to `[DONE]`, which must be the last.
    pub fn rest(mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let data = self.next_data().expect("the stream ended before [DONE]");
            if data == "[DONE]" {
                assert_eq!(self.next_data(), None, "nothing follows [DONE]");
                return events;
            }
            events.push(serde_json::from_str(&data).unwrap());
        }
    }
}
