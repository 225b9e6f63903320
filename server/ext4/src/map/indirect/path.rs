//! The way to the pointer of a logical block: its place in i_block and in each block below.
//!
//! Kernel: fs/ext4/indirect.c `ext4_block_to_path`

use super::{DIRECT, POINTERS};
use crate::ids::{LogicalBlock, in_memory, on_disk};

/// At most i_block and three levels of blocks.
const LEVELS: usize = 4;

/// Indexes of pointers, from i_block down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    indexes: [usize; LEVELS],
    len: usize,
    /// Pointers of a block.
    per_block: u64,
}

impl Path {
    /// `None` for blocks past what three levels reach.
    pub(super) fn to(at: u64, block_size: u32) -> Option<Self> {
        let per_block = u64::from(block_size >> 2);
        let mut indexes = [0; LEVELS];
        let mut rest = at;
        if rest < on_disk(DIRECT) {
            *indexes.first_mut()? = in_memory(rest);
            return Some(Self { indexes, len: 1, per_block });
        }
        rest = rest.checked_sub(on_disk(DIRECT))?;
        let mut span = 1_u64;
        for (depth, root) in (DIRECT..POINTERS).enumerate() {
            span = span.saturating_mul(per_block);
            if rest >= span {
                rest = rest.checked_sub(span)?;
                continue;
            }
            let len = depth.saturating_add(2);
            *indexes.first_mut()? = root;
            for index in indexes.iter_mut().take(len).skip(1) {
                span = span.checked_div(per_block)?;
                *index = in_memory(rest.checked_div(span)?);
                rest = rest.checked_rem(span)?;
            }
            return Some(Self { indexes, len, per_block });
        }
        None
    }

    /// The indexes, i_block's first.
    pub(super) fn indexes(&self) -> &[usize] {
        self.indexes.get(..self.len).unwrap_or_default()
    }

    /// The index in the lowest block (or in i_block).
    pub(super) fn last(&self) -> usize {
        self.indexes().last().copied().unwrap_or(0)
    }

    /// Pointers from this one to the end of its block, this one included.
    fn left(&self) -> u64 {
        let all = if self.len == 1 { on_disk(DIRECT) } else { self.per_block };
        all.saturating_sub(on_disk(self.last()))
    }

    /// Logical blocks of what the pointer at `level` leads to that come before this one.
    pub(super) fn before(&self, level: usize) -> u64 {
        let below = self.indexes().get(level.saturating_add(1)..).unwrap_or_default();
        below.iter().fold(0, |sum, index| {
            sum.saturating_mul(self.per_block).saturating_add(on_disk(*index))
        })
    }
}

/// The first logical block that no pointer leads to.
pub(in crate::map) fn most_pointers(block_size: u32) -> u64 {
    let per_block = u64::from(block_size >> 2);
    let trees = [1, 2, 3].map(|depth| per_block.saturating_pow(depth));
    trees.into_iter().fold(on_disk(DIRECT), u64::saturating_add)
}

/// Pointers from that of `at` to the end of the block that holds it: what one run can fill.
pub(in crate::map) fn pointers_left(at: LogicalBlock, block_size: u32) -> u32 {
    let left = Path::to(at.get().into(), block_size).map_or(0, |path| path.left());
    u32::try_from(left).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_through_the_right_tree() {
        let to = |at| Path::to(at, 1024).map(|path| path.indexes().to_vec());
        assert_eq!(to(11), Some(vec![11]));
        assert_eq!(to(12), Some(vec![12, 0]));
        assert_eq!(to(267), Some(vec![12, 255]));
        assert_eq!(to(268), Some(vec![13, 0, 0]));
        assert_eq!(to(268 + 256 + 5), Some(vec![13, 1, 5]));
        assert_eq!(to(65804), Some(vec![14, 0, 0, 0]));
        assert_eq!(to(65804 + (1 << 24) - 1), Some(vec![14, 255, 255, 255]));
        assert_eq!(to(65804 + (1 << 24)), None);
        let path = Path::to(268 + 256 + 5, 1024).unwrap();
        assert_eq!((path.before(0), path.before(1), path.before(2)), (256 + 5, 5, 0));
        assert_eq!(pointers_left(LogicalBlock::new(268 + 256 + 5), 1024), 251);
        assert_eq!(pointers_left(LogicalBlock::new(5), 1024), 7);
    }
}
