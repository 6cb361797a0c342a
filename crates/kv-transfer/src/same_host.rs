//! What only works between processes of one kernel: its boot id, and passing the pool's descriptor.

use crate::HandoffError;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Whether the process at the other end runs as the same user. A pool goes to nobody else, whoever could open the socket.
///
/// # Errors
/// [`HandoffError::Refused`] when it does not.
pub(crate) fn check_peer(stream: &UnixStream) -> Result<(), HandoffError> {
    let peer = stream.peer_cred().map_err(HandoffError::gone)?;
    same_user(peer.uid(), rustix::process::geteuid().as_raw())
}

fn same_user(peer: u32, ours: u32) -> Result<(), HandoffError> {
    if peer == ours {
        return Ok(());
    }
    let text = format!("the other process runs as user {peer}, this one as user {ours}");
    Err(HandoffError::Refused(text))
}

/// Identifies the running kernel; empty when it does not tell.
pub(crate) fn boot_id() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

/// Sends one byte that carries `fd`.
pub(crate) async fn send_fd(stream: &UnixStream, fd: BorrowedFd<'_>) -> Result<(), HandoffError> {
    let send = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(stream, &[IoSlice::new(b"F")], &mut control, SendFlags::NOSIGNAL)
            .map_err(io::Error::from)
    };
    match stream.async_io(Interest::WRITABLE, send).await {
        Ok(1) => Ok(()),
        Ok(_) => Err(HandoffError::gone("it takes no descriptor")),
        Err(error) => Err(HandoffError::gone(error)),
    }
}

/// Receives what [`send_fd`] sent.
pub(crate) async fn receive_fd(stream: &UnixStream) -> Result<OwnedFd, HandoffError> {
    let receive = || {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut slices = [IoSliceMut::new(&mut byte)];
        recvmsg(stream, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        Ok::<_, io::Error>(fd)
    };
    match stream.async_io(Interest::READABLE, receive).await {
        Ok(Some(fd)) => Ok(fd),
        Ok(None) => Err(HandoffError::protocol("no descriptor came with the welcome")),
        Err(error) => Err(HandoffError::gone(error)),
    }
}

#[cfg(test)]
mod tests;
