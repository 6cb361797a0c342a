//! The processes that `estafette up` starts.

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{ChildStdin, Command};
use tokio::signal::unix::{self, SignalKind, signal};

/// What the router is called among the processes.
pub(super) const ROUTER: &str = "router";

/// How a flag's value is written.
pub(super) fn flag_value(value: &impl ValueEnum) -> String {
    value.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
}

/// SIGINT and SIGTERM.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    /// Returns at the next signal of either kind.
    pub(super) async fn first(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// One process. Killed when dropped.
pub(super) struct Child {
    name: String,
    process: tokio::process::Child,
    /// Its end tells the process that this one is gone. Kept apart because waiting for a process closes its input.
    _input: Option<ChildStdin>,
}

impl Child {
    /// Starts `program` with `flags`.
    pub(super) fn start(name: &str, program: &Path, flags: &[String]) -> Result<Self> {
        let mut process = Command::new(program)
            .args(flags)
            .arg("--exit-with-parent")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let input = process.stdin.take();
        Ok(Self { name: name.to_owned(), process, _input: input })
    }

    fn terminate(&self) {
        let pid = self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process(pid, Signal::TERM)
        {
            tracing::debug!(name = %self.name, %error, "cannot signal");
        }
    }
}

/// How a process ended.
#[derive(Debug)]
pub(super) struct Ended {
    name: String,
    status: std::io::Result<ExitStatus>,
}

impl Ended {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A worker that was drained. A router does not leave by itself.
    pub(super) fn has_left_in_order(&self) -> bool {
        self.name != ROUTER && self.status.as_ref().is_ok_and(ExitStatus::success)
    }

    pub(super) fn into_error(self) -> anyhow::Error {
        let name = self.name;
        match self.status {
            Ok(status) => anyhow!("{name} ended ({status}); its last lines above say why"),
            Err(error) => anyhow!("cannot wait for {name}: {error}"),
        }
    }
}

/// All processes of the cluster.
#[derive(Default)]
pub(super) struct Children(Vec<Child>);

impl Children {
    pub(super) fn push(&mut self, child: Child) {
        self.0.push(child);
    }

    /// Whether one of those that are left is called so.
    pub(super) fn any(&self, chosen: impl Fn(&str) -> bool) -> bool {
        self.0.iter().any(|child| chosen(&child.name))
    }

    /// Waits until any process ends, takes it out, and says how it ended.
    pub(super) async fn first_to_end(&mut self) -> Ended {
        let waits = self.0.iter_mut().map(|child| Box::pin(child.process.wait()));
        let (status, at, _) = futures_util::future::select_all(waits).await;
        let name = self.0.remove(at).name;
        Ended { name, status }
    }

    /// Asks the chosen processes to leave and waits for all of them; kills those that take too long.
    pub(super) async fn stop(&mut self, chosen: impl Fn(&str) -> bool, timeout: Duration) {
        let (leaving, staying) =
            std::mem::take(&mut self.0).into_iter().partition(|child| chosen(&child.name));
        self.0 = staying;
        let mut leaving: Vec<Child> = leaving;
        leaving.iter().for_each(Child::terminate);
        let all = futures_util::future::join_all(leaving.iter_mut().map(|c| c.process.wait()));
        if tokio::time::timeout(timeout, all).await.is_err() {
            tracing::warn!("some processes did not leave in time and are killed");
        }
    }
}
