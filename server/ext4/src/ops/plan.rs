//! Where the bytes of a file are.

use crate::error::Result;
use crate::file::{self, Run};
use crate::filesystem::Filesystem;
use crate::inode::{Inode, ReadGuard};

/// Keeps the blocks of a plan from being freed, and whoever changes the file waiting. To be dropped
/// when the bytes have been moved.
#[derive(Debug)]
pub struct Hold {
    _lock: Option<ReadGuard>,
}

impl Filesystem {
    /// Puts into `runs` where `len` bytes from byte `offset` of a regular file are, so that the caller
    /// can move them from the device without this thread waiting for it; fewer bytes than asked only
    /// at the end of the file. `None` where [`Filesystem::read`] has to be called instead.
    ///
    /// The plan is good for as long as it is held. A thread that holds one must not wait for other
    /// verbs.
    ///
    /// # Errors
    /// As [`Filesystem::read`].
    pub fn read_plan(
        &self,
        inode: &Inode,
        range: (u64, usize),
        runs: &mut Vec<Run>,
    ) -> Result<Option<Hold>> {
        if !self.volume.may_change() {
            let planned = self.planned(inode, range, runs)?;
            return Ok(planned.then_some(Hold { _lock: None }));
        }
        let (lock, inode) = self.newest(inode)?;
        Ok(self.planned(&inode, range, runs)?.then_some(Hold { _lock: Some(lock) }))
    }

    fn planned(&self, inode: &Inode, range: (u64, usize), runs: &mut Vec<Run>) -> Result<bool> {
        self.open_regular(inode)?;
        file::plan(&self.volume, inode, range, runs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]
    use std::io;
    use std::sync::{Arc, mpsc};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::device::MemDevice;
    use crate::error::Error;
    use crate::ops::WriteKind;
    use crate::testing::{self, Hurried, ROOT, new_file};

    /// A file of 64 KiB, which is on the device.
    fn with_a_file(filesystem: &Filesystem) -> Arc<Inode> {
        let nr = new_file(filesystem, b"file");
        let kind = WriteKind::Direct { kill_set_id: false };
        assert_eq!(filesystem.write(&ROOT, nr, kind, (0, &[7; 1 << 16])).unwrap(), 1 << 16);
        filesystem.sync().unwrap();
        filesystem.inode(nr).unwrap()
    }

    fn mkfs() -> Arc<MemDevice> {
        testing::mkfs(8192, &[])
    }

    #[test]
    fn blocks_of_a_plan_are_not_freed_while_it_is_held() {
        let device = mkfs();
        let filesystem = testing::mounted(&device);
        let file = with_a_file(&filesystem);
        let mut runs = Vec::new();
        let hold = filesystem.read_plan(&file, (0, 1 << 16), &mut runs).unwrap().expect("a plan");
        let ((done, told), filesystem, nr) = (mpsc::channel(), &filesystem, file.nr);
        thread::scope(|scope| {
            scope.spawn(move || {
                filesystem.truncate(&ROOT, nr, 0).unwrap();
                done.send(()).unwrap();
            });
            assert!(told.recv_timeout(Duration::from_millis(100)).is_err(), "it was cut");
            let Some(&Run::Device { offset, len }) = runs.first() else { panic!("{runs:?}") };
            let offset = usize::try_from(offset).unwrap();
            assert!(device.contents()[offset..offset + len].iter().all(|byte| *byte == 7));
            drop(hold);
            told.recv().unwrap();
        });
        let hold = filesystem.read_plan(&file, (0, 1 << 16), &mut runs).unwrap();
        assert!(hold.is_some() && runs.is_empty(), "the newest version counts: {runs:?}");
    }

    #[test]
    fn who_may_not_wait_gets_no_plan_while_the_file_is_changed() {
        let device = mkfs();
        let writer = testing::mounted(&device);
        let nr = with_a_file(&writer).nr;
        writer.unmount().unwrap();
        let options = testing::writable();
        let hurried = Arc::new(Hurried::new(device));
        let filesystem =
            Filesystem::mount(hurried, &options, &crate::observer::Unobserved).unwrap();
        let file = filesystem.inode(nr).unwrap();
        let mut runs = Vec::new();
        let changing = filesystem.volume.locks.write(nr);
        let error = filesystem.read_plan(&file, (0, 10), &mut runs).unwrap_err();
        let Error::Io { source, .. } = error else { panic!("{error}") };
        assert_eq!(source.kind(), io::ErrorKind::WouldBlock);
        drop(changing);
        assert!(filesystem.read_plan(&file, (0, 10), &mut runs).unwrap().is_some());
    }
}
