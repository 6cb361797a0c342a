//! A doubly linked list over block ids: push at the back, pop at the front, remove anywhere, all in O(1).

use estafette_types::BlockId;

const NIL: u32 = u32::MAX;

/// Links of one block; unused while it is not in the list.
#[derive(Clone, Copy, Debug)]
struct Links {
    previous: u32,
    next: u32,
}

/// The list. Every block is in it at most once.
#[derive(Debug)]
pub(crate) struct Lru {
    links: Vec<Links>,
    first: u32,
    last: u32,
    len: u32,
}

impl Lru {
    pub(crate) fn new(num_blocks: u32) -> Self {
        let links = vec![Links { previous: NIL, next: NIL }; num_blocks as usize];
        Self { links, first: NIL, last: NIL, len: 0 }
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn push_back(&mut self, block: BlockId) {
        self.links[block.0 as usize] = Links { previous: self.last, next: NIL };
        match self.last {
            NIL => self.first = block.0,
            last => self.links[last as usize].next = block.0,
        }
        self.last = block.0;
        self.len += 1;
    }

    pub(crate) fn pop_front(&mut self) -> Option<BlockId> {
        let first = BlockId(self.first);
        (self.first != NIL).then(|| {
            self.remove(first);
            first
        })
    }

    /// Takes out a block that is in the list.
    pub(crate) fn remove(&mut self, block: BlockId) {
        let Links { previous, next } = self.links[block.0 as usize];
        match previous {
            NIL => self.first = next,
            previous => self.links[previous as usize].next = next,
        }
        match next {
            NIL => self.last = previous,
            next => self.links[next as usize].previous = previous,
        }
        self.len -= 1;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = BlockId> + '_ {
        let mut at = self.first;
        std::iter::from_fn(move || {
            let block = BlockId(at);
            (at != NIL).then(|| {
                at = self.links[at as usize].next;
                block
            })
        })
    }
}
