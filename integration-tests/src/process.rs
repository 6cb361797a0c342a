//! One process of a cluster, started by hand.

use crate::cluster::{program, send};
use crate::eventually;
use rustix::process::Signal;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

/// A running process of the program. Killed when dropped.
#[derive(Debug)]
pub struct Part(Child);

/// What a process has written to its log so far.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<String>>);

impl Log {
    /// All of it.
    pub fn text(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `words` are in it.
    pub fn wait_for(&self, words: &str) {
        assert!(eventually(|| self.text().contains(words)), "no `{words}` in: {}", self.text());
    }
}

impl Part {
    /// Starts the program with `args`.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(program());
        Self(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Starts the program with `args` and keeps its log, with `filter` as its `RUST_LOG`.
    pub fn logged(filter: &str, args: &[&str]) -> (Self, Log) {
        let mut command = Command::new(program());
        command.args(args).env("RUST_LOG", filter);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Log::default();
        let (written, lines) = (log.clone(), BufReader::new(child.stderr.take().unwrap()).lines());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut text = written.0.lock().unwrap_or_else(PoisonError::into_inner);
                text.push_str(&line);
                text.push('\n');
            }
        });
        (Self(child), log)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        send(self.0.id(), Signal::TERM);
    }

    /// Ends it as a crash would, and waits until it is gone.
    pub fn kill(&mut self) {
        send(self.0.id(), Signal::KILL);
        self.0.wait().unwrap();
    }

    /// Its exit code, once it has ended; `None` within when a signal ended it.
    pub fn ended(&mut self) -> Option<Option<i32>> {
        self.0.try_wait().unwrap().map(|status| status.code())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
