//! Workers by the names that operators know them by.

use super::{Cluster, Lost, WorkerKey};
use estafette_types::WorkerId;
use tonic::Status;
use tonic::transport::Channel;

/// A worker that is there.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) worker: WorkerKey,
    /// The connection on which no legs run.
    pub(crate) channel: Channel,
    pub(crate) lost: Lost,
}

/// Nobody has that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unknown {
    asked: WorkerId,
    /// Who is there, sorted.
    there: Vec<WorkerId>,
}

impl Unknown {
    pub(crate) fn to_status(&self) -> Status {
        let there: Vec<_> = self.there.iter().map(|id| format!("`{id}`")).collect();
        let there = match there.as_slice() {
            [] => "no worker has joined".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Status::not_found(format!("no worker is named `{}`: {there}", self.asked))
    }
}

impl Cluster {
    /// The worker of this name.
    ///
    /// # Errors
    /// Who is there, when it is not.
    pub(crate) fn named(&self, id: &WorkerId) -> Result<Named, Unknown> {
        let registry = self.lock();
        if let Some(member) = registry.members().find(|member| member.key.id == *id) {
            return Ok(Named {
                worker: member.key.clone(),
                channel: member.state_channel.clone(),
                lost: member.loss.listen(),
            });
        }
        let mut there: Vec<_> = registry.members().map(|member| member.key.id.clone()).collect();
        there.sort();
        Err(Unknown { asked: id.clone(), there })
    }
}

#[cfg(test)]
mod tests;
