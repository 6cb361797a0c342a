//! The bounded set of errors that cross the wire.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $retry:literal, $http:literal, $grpc:literal;)*) => {
        /// A stable error code. Each says whether a retry helps and maps to one HTTP and one gRPC status.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text clients match on; never changes.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether sending the same request again may succeed.
            pub const fn is_retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// The HTTP status of an answer with this error.
            pub const fn http_status(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }

            /// The number of the gRPC status of an answer with this error.
            pub const fn grpc_status(self) -> i32 {
                match self { $(Self::$name => $grpc,)* }
            }
        }
    };
}

codes! {
    /// A field is missing, has the wrong type or an impossible value.
    InvalidRequest = "invalid_request", false, 400, 3;
    /// A field that would change the answer is not supported.
    Unsupported = "unsupported_parameter", false, 400, 3;
    /// Prompt and requested answer do not fit the context of the model.
    ContextLengthExceeded = "context_length_exceeded", false, 400, 3;
    /// The client brings no API key, or one that is not known.
    InvalidApiKey = "invalid_api_key", false, 401, 16;
    /// The request body is larger than the limit.
    BodyTooLarge = "body_too_large", false, 413, 8;
    /// No such model here.
    ModelNotFound = "model_not_found", false, 404, 5;
    /// No such path or method.
    NotFound = "not_found", false, 404, 5;
    /// Every place in the queue is taken.
    Overloaded = "overloaded", true, 429, 8;
    /// No worker that could serve the request is there.
    NoWorker = "no_worker_available", true, 503, 14;
    /// The worker is leaving and takes no new work.
    Draining = "worker_draining", true, 503, 14;
    /// A worker went away or broke off while it worked on the request.
    WorkerLost = "worker_lost", true, 503, 14;
    /// KV blocks did not arrive whole and in time.
    HandoffFailed = "handoff_failed", true, 503, 14;
    /// The request ran into its deadline.
    DeadlineExceeded = "deadline_exceeded", true, 504, 4;
    /// The client went away.
    Cancelled = "cancelled", false, 499, 1;
    /// A broken invariant of our own.
    Internal = "internal_error", false, 500, 13;
}

impl ErrorCode {
    /// The code whose text is `text`.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
