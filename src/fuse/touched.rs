//! Which files' access times need no look: after a first read nothing more is to be written until the file
//! changes (relatime), and a READ should not cost a search in the tree to find that out.

use crate::base::Ino;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const SLOTS: usize = 4096;
/// relatime writes once a day whatever happens; being an hour late is no harm.
const HOUR: u64 = 3600;

/// A table with one place for many files: a newcomer puts out who was there, who then costs one look more.
pub(super) struct Touched {
    began: Instant,
    /// Inode number, with the hour since `began` above bit 48. 0: nobody.
    slots: Box<[AtomicU64]>,
}

impl Default for Touched {
    fn default() -> Touched {
        Touched {
            began: Instant::now(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Touched {
    fn slot(&self, ino: Ino) -> &AtomicU64 {
        &self.slots[(ino.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 52) as usize % SLOTS]
    }

    fn mark(&self, ino: Ino) -> u64 {
        (self.began.elapsed().as_secs() / HOUR) << 48 ^ ino
    }

    /// Answers whether the access time should be looked at, and takes note that it was.
    pub fn first(&self, ino: Ino) -> bool {
        let mark = self.mark(ino);
        let slot = self.slot(ino);
        slot.load(Ordering::Relaxed) != mark && slot.swap(mark, Ordering::Relaxed) != mark
    }

    /// The file changed: the next read counts again.
    pub fn changed(&self, ino: Ino) {
        let slot = self.slot(ino);
        if slot.load(Ordering::Relaxed) == self.mark(ino) {
            slot.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_until_it_changes() {
        let touched = Touched::default();
        assert!(touched.first(7));
        assert!(!touched.first(7));
        touched.changed(8);
        assert!(!touched.first(7));
        touched.changed(7);
        assert!(touched.first(7));
    }
}
