//! Fuzz targets as plain functions: `tests/fuzz` runs them under libFuzzer, the test binary `fuzz` runs
//! the same ones over seeds, small mutations of them, and every input that once failed.
//!
//! A target for an on-disk structure splices the input over that structure in a golden image from
//! which metadata checksums were removed, then mounts it and uses what the structure describes. So
//! each parser is met behind its real callers, with the loops and allocations they make of it.
//! A target for whole images edits small ones in few places, makes checksums right again, and has verbs
//! of all kinds done to them ([`scene`]).
//! A panic, a hang, a memory blow-up, a place outside of the device, or damage in what was sound is a
//! finding; any error is fine.

mod bases;
mod exercise;
mod input;
mod layout;
mod messages;
mod observer;
mod overlay;
mod scene;
mod seal;
mod seal_check;
mod seal_log;
mod session;
mod stage;
mod stages;
mod verbs;

use std::sync::OnceLock;

use anyhow::Result;

use layout::Kind;
pub use messages::{fuse_request, protocol_decode, status};
use scene::Scene;
pub use seal_check::{all_metadata_are_found, sealing_changes_nothing};
pub use session::session;
use stage::Stage;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of the file in `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Result<Vec<Vec<u8>>>,
}

macro_rules! on_disk_targets {
    ($( $(#[$doc:meta])* $name:ident = $make:path; )*) => {
        $(
            $(#[$doc])*
            pub fn $name(bytes: &[u8]) {
                stage_of(stringify!($name), $make, |stage| stage.run(bytes));
            }
        )*

        const ON_DISK: &[Target] = &[ $( Target {
            name: stringify!($name),
            run: $name,
            seeds: || Ok($make()?.seeds()),
        }, )* ];
    };
}

on_disk_targets! {
    /// The superblock, by probe and mount.
    superblock = stages::superblock;
    /// Group descriptors of 32 and 64 bytes.
    group_desc = stages::group_desc;
    /// Inodes of every kind, with what they hold inside: inline data, attributes, extent roots.
    inode = stages::inode;
    /// Extent tree nodes.
    extent_node = stages::extent_node;
    /// Indirect blocks.
    indirect_block = stages::indirect_block;
    /// Blocks of directories without an index.
    dir_block = stages::dir_block;
    /// Index root and nodes of directories with one, three levels of them.
    dx_node = stages::dx_node;
    /// Attribute blocks, and inodes that hold attribute values.
    xattr_block = stages::xattr_block;
    /// The log: its superblock, descriptor, revoke and commit blocks.
    jbd2 = stages::jbd2;
    /// The fast-commit area of the log.
    fast_commit = stages::fast_commit;
}

macro_rules! whole_image_targets {
    ($( $(#[$doc:meta])* $name:ident = $scene:expr; )*) => {
        $(
            $(#[$doc])*
            pub fn $name(bytes: &[u8]) {
                static SCENE: OnceLock<Scene> = OnceLock::new();
                SCENE.get_or_init(|| $scene).run(bytes);
            }
        )*

        const WHOLE_IMAGES: &[Target] = &[ $( Target {
            name: stringify!($name),
            run: $name,
            seeds: || Ok($scene.seeds()),
        }, )* ];
    };
}

whole_image_targets! {
    /// Any metadata of a file system, then a walk that reads all there is.
    image = Scene::new(bases::GOLDEN, |_| true).read_only();
    /// Any metadata of a file system, then verbs of all kinds.
    operations = Scene::new(bases::ALL, |_| true);
    /// Trees of extents, several levels deep, with the inodes that hold their roots.
    extent_tree = Scene::new(&[bases::EXT4, bases::LARGE_BLOCKS, bases::BIGALLOC], |kind| matches!(kind, Kind::Extents(_) | Kind::Inodes(_) | Kind::BlockBitmap(_)));
    /// Directories of many blocks, with an index and without.
    htree = Scene::new(&[bases::EXT4, bases::CASEFOLD, bases::EXT3, bases::LARGE_BLOCKS], |kind| matches!(kind, Kind::Directory(_)));
    /// Files and directories inside of inodes, and attributes beside them.
    inline_data = Scene::new(&[bases::INLINE, bases::INLINE_EA, bases::BIGALLOC], |kind| matches!(kind, Kind::Inodes(_) | Kind::Attributes | Kind::Value));
    /// The trees of quota files.
    quota = Scene::new(&[bases::QUOTA], |kind| kind == Kind::Quota);
    /// The block of multiple mount protection, and what the superblock says of it.
    mmp = Scene::new(&[bases::MMP], |kind| matches!(kind, Kind::Mmp | Kind::Superblock));
    /// Logs of several transactions, and fast commits.
    replay = Scene::new(bases::LOGS, |kind| matches!(kind, Kind::Log | Kind::Orphans(_)));
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<Target> {
    let mut all = [ON_DISK, WHOLE_IMAGES].concat();
    all.extend([
        Target { name: "protocol_decode", run: protocol_decode, seeds: messages::protocol_seeds },
        Target { name: "fuse_request", run: fuse_request, seeds: messages::fuse_seeds },
        Target { name: "session", run: session, seeds: session::seeds },
    ]);
    all
}

/// Builds a stage once a process; the name keeps them apart.
fn stage_of(name: &'static str, make: fn() -> Result<Stage>, then: impl FnOnce(&Stage)) {
    use std::collections::HashMap;
    use std::sync::Mutex;
    static STAGES: Mutex<Option<HashMap<&'static str, &'static Stage>>> = Mutex::new(None);
    let stage = {
        let mut stages = STAGES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *stages
            .get_or_insert_default()
            .entry(name)
            .or_insert_with(|| Box::leak(Box::new(make().unwrap_or_else(no_stage))))
    };
    then(stage);
}

#[expect(clippy::panic, reason = "a fuzzer without its images must not look green")]
fn no_stage<T>(error: anyhow::Error) -> T {
    panic!("cannot set up the fuzz target: {error:#}")
}
