//! One process of a cluster, started by hand.

use crate::cluster::{program, send};
use rustix::process::Signal;
use std::process::{Child, Command, Stdio};

/// A running process of the program. Killed when dropped.
#[derive(Debug)]
pub struct Part(Child);

impl Part {
    /// Starts the program with `args`.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(program());
        Self(command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
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
