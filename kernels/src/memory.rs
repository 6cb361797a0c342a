//! The KV pool: its order of bytes, and the memory itself.

use memmap2::{MmapMut, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Bytes of one element: f16.
const ELEMENT: usize = 2;

/// Order of a pool: `[block][layer][K, V][kv head][…]`, f16. Inside one head of one block K is `[head_dim][block_size]`
/// and V is `[block_size][head_dim]`. Sizes that no number can hold are `usize::MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Blocks of the pool.
    pub num_blocks: u32,
    /// Tokens in a block.
    pub block_size: u32,
    /// Layers of the model.
    pub layers: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Elements of a head.
    pub head_dim: u32,
}

impl KvLayout {
    /// Bytes of K (or V) of one head in one block.
    pub fn head_bytes(&self) -> usize {
        (self.block_size as usize).saturating_mul(self.head_dim as usize).saturating_mul(ELEMENT)
    }

    /// Bytes of one layer in one block, K and V.
    pub fn layer_bytes(&self) -> usize {
        self.head_bytes().saturating_mul(2 * self.kv_heads as usize)
    }

    /// Bytes of one block, all layers.
    pub fn block_bytes(&self) -> usize {
        self.layer_bytes().saturating_mul(self.layers as usize)
    }

    /// Bytes of the pool.
    pub fn total_bytes(&self) -> usize {
        self.block_bytes().saturating_mul(self.num_blocks as usize)
    }

    /// Where K of `head` starts; V starts [`KvLayout::value_offset`] further.
    pub fn key_at(&self, block: u32, layer: u32, head: u32) -> usize {
        block as usize * self.block_bytes()
            + layer as usize * self.layer_bytes()
            + head as usize * self.head_bytes()
    }

    /// From K of a head to its V.
    pub fn value_offset(&self) -> usize {
        self.kv_heads as usize * self.head_bytes()
    }
}

/// The bytes of a pool. Kernels and transports write it concurrently.
///
/// Ownership is by block: whoever the block manager gave a block to may write it, and nobody reads what is not written
/// yet. The memory cannot know that, so access is raw or `unsafe`.
#[derive(Debug)]
pub struct KvMemory {
    map: MmapRaw,
    file: Option<File>,
}

impl KvMemory {
    /// Private memory, in huge pages where the system has them.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        let map = MmapMut::map_anon(len.max(1))?;
        #[cfg(target_os = "linux")]
        if map.advise(memmap2::Advice::HugePage).is_err() {
            // Only slower.
        }
        Ok(Self { map: map.into(), file: None })
    }

    /// Memory that can be given to other processes as a file descriptor. Its size is sealed.
    ///
    /// # Errors
    /// When the system has no such memory.
    pub fn shared(len: usize) -> io::Result<Self> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(rustix::fs::memfd_create("estafette-kv", flags)?);
        file.set_len(len.max(1) as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = MmapRaw::map_raw(&file)?;
        Ok(Self { map, file: Some(file) })
    }

    /// The first `len` bytes of another process's pool, whose `fd` it has sent. They count once, as that process's, though
    /// both show them as resident.
    ///
    /// # Errors
    /// When it is shorter, when its owner could shorten it (whoever touched what is gone would be killed), or when it
    /// cannot be mapped.
    pub fn of_peer(fd: OwnedFd, len: usize) -> io::Result<Self> {
        let file = File::from(fd);
        if !rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::other("its size is not sealed"));
        }
        if file.metadata()?.len() < len as u64 {
            return Err(io::Error::other("it is smaller than its owner says"));
        }
        let map = memmap2::MmapOptions::new().len(len).map_raw(&file)?;
        Ok(Self { map, file: Some(file) })
    }

    /// Lets go of the pages of a mapped file: they stay with its owner, and come back when they are touched.
    ///
    /// # Errors
    /// When the memory is private, which would lose its content, or the system refuses.
    pub fn rest(&self) -> io::Result<()> {
        if self.file.is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: pages of a shared mapping keep their content in the file; nothing that is read changes.
        #[cfg(target_os = "linux")]
        unsafe {
            self.map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed)?;
        }
        Ok(())
    }

    /// Has the system provide all pages now: the first hand-off into a page does not pay for it, and memory that is not there
    /// is an error at the start instead of a killed process later.
    ///
    /// # Errors
    /// When the system has not so much memory.
    fn populate(&self) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        match self.map.advise(memmap2::Advice::PopulateWrite) {
            // Linux before 5.14 does not know it: pages come when they are first written.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            populated => populated?,
        }
        Ok(())
    }

    /// What other processes can write through; `None` for private memory.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// The first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    /// Bytes of the pool.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether the pool has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// # Safety
    /// Nobody writes the range while the slice lives.
    ///
    /// # Panics
    /// When the range is not inside the pool.
    pub unsafe fn slice(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len(), "inside the pool");
        // SAFETY: inside the map; nobody writes it, says the caller.
        unsafe { std::slice::from_raw_parts(self.as_ptr().add(range.start), range.len()) }
    }

    /// # Safety
    /// Nobody else reads or writes the range while the slice lives.
    ///
    /// # Panics
    /// When the range is not inside the pool.
    #[expect(clippy::mut_from_ref, reason = "blocks have owners that this type does not know")]
    pub unsafe fn slice_mut(&self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start <= range.end && range.end <= self.len(), "inside the pool");
        // SAFETY: inside the map; the caller owns the range.
        unsafe { std::slice::from_raw_parts_mut(self.as_ptr().add(range.start), range.len()) }
    }
}

/// A pool as kernels use it: memory in one order.
///
/// Only this handle lets kernels in, and it cannot be cloned: writing keys and values needs it exclusively. Everybody else who
/// has the memory (a transport) goes through the `unsafe` functions of [`KvMemory`] and promises there to keep to blocks that
/// the block manager has given to it and that no running step names.
#[derive(Debug)]
pub struct KvCache {
    memory: Arc<KvMemory>,
    layout: KvLayout,
}

impl KvCache {
    /// Memory for `layout`, all of it at once; `shared` memory can be given to other processes.
    ///
    /// # Errors
    /// When the system has no such memory, or no number holds its size.
    pub fn new(layout: KvLayout, shared: bool) -> io::Result<Self> {
        let len = layout.total_bytes();
        // Kernels compute places in the pool without looking for overflow.
        if isize::try_from(len).is_err() {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "more than an address can reach",
            ));
        }
        let memory = if shared { KvMemory::shared(len) } else { KvMemory::anonymous(len) }?;
        memory.populate()?;
        Ok(Self { memory: Arc::new(memory), layout })
    }

    /// The bytes.
    pub fn memory(&self) -> &Arc<KvMemory> {
        &self.memory
    }

    /// Their order.
    pub fn layout(&self) -> KvLayout {
        self.layout
    }
}

#[cfg(test)]
mod tests;
