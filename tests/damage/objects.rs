//! What is damaged under the mount, and how that is noticed.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use fuse4fs_tests::command;
use rustix::io::Errno;

use crate::scene::{BLOCK, Scene, number};

/// Where a thing is, and of which inode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The first byte that is changed.
    pub(crate) at: u64,
    pub(crate) inode: Option<u64>,
    /// The error names the block.
    pub(crate) names_block: bool,
}

/// One thing to be damaged, of which nobody has read anything yet.
pub(crate) struct Object {
    pub(crate) name: &'static str,
    pub(crate) find: fn(&Scene) -> Result<Place>,
    /// Where bytes are inverted that are wrong by the checksum alone, from its beginning.
    pub(crate) inverted: u64,
    /// What its first bytes become where nothing has a checksum.
    pub(crate) nonsense: &'static [u8],
    /// Needs it.
    pub(crate) touch: fn(&Path) -> io::Result<()>,
    /// The code of the error where there are checksums, and where there are none.
    pub(crate) codes: [&'static str; 2],
    /// Without a checksum it is told, and got around, as by the kernel.
    pub(crate) got_around: bool,
}

impl Object {
    /// The errno and code of damage, with checksums or without.
    pub(crate) fn error(&self, sums: bool) -> (Option<Errno>, &'static str) {
        let code = self.codes[usize::from(!sums)];
        let errno = if code.ends_with("-checksum") { Errno::BADMSG } else { Errno::UCLEAN };
        ((sums || !self.got_around).then_some(errno), code)
    }
}

/// A block of names behind the first, and the index.
pub(crate) const DIRECTORY: Object = Object {
    name: "a block of a directory",
    find: |scene| block_of(scene, "/names", "(1"),
    inverted: 16,
    // The inode and the length of its first record.
    nonsense: &[12, 0, 0, 0, 3, 0],
    touch: |root| std::fs::read_dir(root.join("names"))?.try_for_each(|name| name.map(drop)),
    codes: ["dir-checksum", "dir-rec-len"],
    got_around: true,
};

/// All that makes a call fail.
pub(crate) const OBJECTS: &[Object] = &[
    Object {
        name: "an inode",
        find: |scene| {
            let said = scene.debugfs("imap /inodes/13")?;
            let (block, offset) = (number(&said, "at block ")?, hexadecimal(&said, "offset 0x")?);
            Ok(Place { at: block * BLOCK + offset, ..of(number(&said, "Inode ")?) })
        },
        inverted: 16,
        // i_mode: of no kind.
        nonsense: &[0, 0xf0],
        touch: |root| root.join("inodes/13").symlink_metadata().map(drop),
        codes: ["inode-checksum", "inode-mode"],
        got_around: false,
    },
    DIRECTORY,
    Object {
        name: "a block of extents",
        find: |scene| block_of(scene, "/extents", "(ETB0)"),
        inverted: 20,
        // eh_magic.
        nonsense: &[0, 0],
        touch: |root| std::fs::read(root.join("extents")).map(drop),
        codes: ["extent-checksum", "extent-magic"],
        got_around: false,
    },
    Object {
        name: "a block of attributes",
        find: |scene| block_of(scene, "/attributes", "File ACL"),
        inverted: 900,
        // h_magic.
        nonsense: &[0; 4],
        touch: |root| {
            let mut value = [0; 1000];
            Ok(rustix::fs::getxattr(root.join("attributes"), "user.long", &mut value).map(drop)?)
        },
        codes: ["xattr-checksum", "xattr-magic"],
        got_around: false,
    },
];

/// A place in no block yet, of `inode`.
fn of(inode: u64) -> Place {
    Place { at: 0, inode: Some(inode), names_block: true }
}

/// The block of the file `path` that `stat` of debugfs lists behind `what`.
fn block_of(scene: &Scene, path: &str, what: &str) -> Result<Place> {
    let said = scene.debugfs(&format!("stat {path}"))?;
    let (_, rest) = said.split_once(what).with_context(|| format!("no {what} in {said}"))?;
    // A range of blocks begins with the first.
    Ok(Place { at: number(rest, ":")? * BLOCK, ..of(number(&said, "Inode:")?) })
}

/// The block that dumpe2fs calls `what` of group `group`.
pub(crate) fn block_of_group(scene: &Scene, group: u64, what: &str) -> Result<u64> {
    let said = command::sh("dumpe2fs", [&scene.image])?;
    let begin = said.find(&format!("\nGroup {group}:")).context("no such group")?;
    number(&said[begin..], what)
}

/// Creates an empty file.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    File::create(path).map(drop)
}

fn hexadecimal(said: &str, name: &str) -> Result<u64> {
    let rest = said.split_once(name).with_context(|| format!("no {name} in {said}"))?.1;
    let end = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
    Ok(u64::from_str_radix(&rest[..end], 16)?)
}
