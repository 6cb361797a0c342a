//! decode-worker
