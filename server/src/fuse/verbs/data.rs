//! Open files and their content.

use fuse4fs_ext4::{Inode, Open, Refusal, Seek};
use fuser::{Errno, FopenFlags};

use super::{Answer, Verbs};
use crate::clock;
use crate::device;
use crate::fuse::abi::{BmapOut, LseekOut, OpenOut};
use crate::fuse::handles::OpenFile;
use crate::fuse::init::Opens;
use crate::fuse::nodes::NodeId;
use crate::fuse::reply::Output;
use crate::fuse::request::{Call, Handle, Opening};

/// Parts of O_* of open(2).
const O_ACCMODE: u32 = libc::O_ACCMODE.cast_unsigned();
const O_NOATIME: u32 = libc::O_NOATIME.cast_unsigned();
const O_APPEND: u32 = libc::O_APPEND.cast_unsigned();

/// SEEK_DATA
const SEEK_DATA: u32 = 3;
/// SEEK_HOLE
const SEEK_HOLE: u32 = 4;

impl Verbs<'_> {
    pub(super) fn open(&self, call: &Call<'_>, opening: Opening, out: &mut Output<'_>) -> Answer {
        if self.opens == Opens::Unasked {
            return Err(Errno::ENOSYS.into());
        }
        let inode = self.inode(call.node)?;
        self.opened(call, &inode, opening, out)
    }

    /// Opens `inode` by its own rules and puts out the handle.
    pub(super) fn opened(
        &self,
        call: &Call<'_>,
        inode: &Inode,
        opening: Opening,
        out: &mut Output<'_>,
    ) -> Answer {
        let access = opening.flags & O_ACCMODE;
        let how = match access {
            0 if !opening.cuts() => Open::Read,
            _ if opening.flags & O_APPEND != 0 => Open::Append,
            _ => Open::Write,
        };
        self.fs.open(inode, how)?;
        if device::missed() {
            // The answer is thrown away, so nobody would release it.
            return Err(Errno::EAGAIN.into());
        }
        let node = NodeId::of(inode.nr);
        if self.opens == Opens::Noted && opening.cuts() {
            if opening.cuts_to_read() && self.handles.runs(node) {
                return Err(Errno::ETXTBSY.into());
            }
            self.truncated(call, inode, opening.kill_suidgid)?;
            self.settle()?;
        }
        let handle = match self.opens {
            Opens::Noted => {
                let file = OpenFile { node, uid: call.uid, flags: opening.flags };
                self.handles.open(file)
            }
            _ => Handle(0),
        };
        let open_flags = open_flags(self.opens, opening.flags).bits();
        out.put(&OpenOut { fh: handle.0, open_flags, backing_id: 0 })
    }

    pub(super) fn release(&self, node: NodeId, handle: Handle) -> Answer {
        if self.opens == Opens::Noted {
            self.handles.release(handle, node)?;
            self.fs.close(node.inode()?)?;
        }
        Ok(())
    }

    pub(super) fn read(
        &self,
        node: NodeId,
        (offset, size): (u64, u32),
        flags: u32,
        out: &mut Output<'_>,
    ) -> Answer {
        let inode = self.inode(node)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        out.fill(size, |room| Ok(self.fs.read(&inode, offset, room)?))?;
        if notes_access(flags) {
            self.fs.accessed(&inode, clock::now());
        }
        Ok(())
    }

    pub(super) fn lseek(
        &self,
        node: NodeId,
        offset: u64,
        whence: u32,
        out: &mut Output<'_>,
    ) -> Answer {
        let what = match whence {
            SEEK_DATA => Seek::Data,
            SEEK_HOLE => Seek::Hole,
            _ => return Err(Refusal::Invalid.into()),
        };
        let offset = self.fs.seek(&*self.inode(node)?, offset, what)?;
        out.put(&LseekOut { offset })
    }

    pub(super) fn bmap(&self, node: NodeId, block: u64, unit: u32, out: &mut Output<'_>) -> Answer {
        let block = self.fs.bmap(&*self.inode(node)?, block, unit)?;
        out.put(&BmapOut { block })
    }
}

/// Whether a READ by a file that was opened with `flags` changes its access time.
pub(in crate::fuse) fn notes_access(flags: u32) -> bool {
    flags & O_NOATIME == 0
}

/// How the kernel shall treat an open file. Its pages stay valid, as nobody else writes them. Where
/// files can be written, O_DIRECT of the client goes past the page cache for good: several writes
/// can then be under way at once.
fn open_flags(opens: Opens, flags: u32) -> FopenFlags {
    let direct = u32::try_from(libc::O_DIRECT).unwrap_or(0);
    if opens == Opens::Noted && flags & direct != 0 {
        return FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_PARALLEL_DIRECT_WRITES;
    }
    FopenFlags::FOPEN_KEEP_CACHE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn direct_writes_go_side_by_side_where_there_are_writes() {
        let direct = libc::O_DIRECT.cast_unsigned() | 2;
        assert!(open_flags(Opens::Noted, direct).contains(FopenFlags::FOPEN_DIRECT_IO));
        assert_eq!(open_flags(Opens::Noted, 2), FopenFlags::FOPEN_KEEP_CACHE);
        assert_eq!(open_flags(Opens::Asked, direct), FopenFlags::FOPEN_KEEP_CACHE);
    }
}
