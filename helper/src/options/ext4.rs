//! Words of ext4, with ext4's meaning.
//!
//! Source: Documentation/admin-guide/ext4.rst, "Options". Kernel: fs/ext4/super.c
//! `ext4_param_specs`.

use fuse4fs_protocol::{DataMode, EngineOptions, ErrorsPolicy};

use super::value::{bad, number, positive, truth, up_to};
use crate::report::Failure;

/// The longest time between commits that the kernel takes, in seconds.
const MAX_COMMIT: u32 = 2_147_483;

/// Words without a value that change nothing: what is always done, or done in another way.
const IGNORED: &[&str] = &[
    // Whether writes are collected is for writeback_cache= to say.
    "delalloc",
    "nodelalloc",
    // Checksums are what the journal's own features say.
    "journal_checksum",
    "nojournal_checksum",
    "journal_async_commit",
    // Inode tables that mkfs left unwritten are written when they are used.
    "init_itable",
    "noinit_itable",
    // Always on.
    "block_validity",
    "noblock_validity",
    "dioread_lock",
    "dioread_nolock",
    "nodioread_nolock",
    "i_version",
    "nombcache",
    "no_mbcache",
    "debug",
    "oldalloc",
    "orlov",
    "noquota",
    "no_prefetch_block_bitmaps",
    "prefetch_block_bitmaps",
];

/// Words with a number that change nothing.
const IGNORED_NUMBER: &[&str] = &[
    "init_itable",
    "inode_readahead_blks",
    "journal_ioprio",
    "max_batch_time",
    "mb_optimize_scan",
    "min_batch_time",
];

/// Words that would change what a program sees, so they are not silently dropped.
pub(super) const REFUSED: &[&str] = &[
    "abort",
    "dax",
    "inlinecrypt",
    "quota",
    "usrquota",
    "grpquota",
    "prjquota",
    "usrjquota",
    "grpjquota",
    "jqfmt",
    "test_dummy_encryption",
    "journal_dev",
    "nouid32",
];

/// False when the word is unknown.
pub(super) fn word(engine: &mut EngineOptions, name: &str) -> bool {
    match name {
        "noload" | "norecovery" => engine.noload = true,
        "minixdf" | "bsddf" => engine.minixdf = name == "minixdf",
        "barrier" | "nobarrier" => engine.barrier = Some(name == "barrier"),
        "discard" | "nodiscard" => engine.discard = Some(name == "discard"),
        "grpid" | "bsdgroups" => engine.grpid = Some(true),
        "nogrpid" | "sysvgroups" => engine.grpid = Some(false),
        "auto_da_alloc" | "noauto_da_alloc" => {
            engine.auto_da_alloc = Some(name == "auto_da_alloc");
        }
        "user_xattr" | "nouser_xattr" => engine.user_xattr = Some(name == "user_xattr"),
        "acl" | "noacl" => engine.acl = Some(name == "acl"),
        _ => return IGNORED.contains(&name),
    }
    true
}

/// False when the name is unknown.
pub(super) fn assignment(
    engine: &mut EngineOptions,
    name: &str,
    value: &str,
) -> Result<bool, Failure> {
    match name {
        "sb" => engine.superblock = Some(number(name, value)?),
        "errors" => engine.errors = Some(errors_policy(value)?),
        "data" => engine.data = Some(data_mode(value)?),
        "commit" => {
            engine.commit = Some(up_to(name, value, MAX_COMMIT)?).filter(|seconds| *seconds != 0);
        }
        "barrier" => engine.barrier = Some(truth(name, value)?),
        "auto_da_alloc" => engine.auto_da_alloc = Some(truth(name, value)?),
        "resuid" => engine.resuid = Some(number(name, value)?),
        "resgid" => engine.resgid = Some(number(name, value)?),
        "max_dir_size_kb" => engine.max_dir_size_kb = positive(name, value)?,
        "stripe" => engine.stripe = positive(name, value)?,
        _ if IGNORED_NUMBER.contains(&name) => drop(number::<u64>(name, value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn errors_policy(value: &str) -> Result<ErrorsPolicy, Failure> {
    match value {
        "continue" => Ok(ErrorsPolicy::Continue),
        "remount-ro" => Ok(ErrorsPolicy::RemountReadOnly),
        "panic" => Ok(ErrorsPolicy::Panic),
        _ => Err(bad("errors", value, "continue, remount-ro or panic is needed")),
    }
}

fn data_mode(value: &str) -> Result<DataMode, Failure> {
    match value {
        "ordered" => Ok(DataMode::Ordered),
        "journal" => Ok(DataMode::Journal),
        "writeback" => Ok(DataMode::Writeback),
        _ => Err(bad("data", value, "ordered, writeback or journal is needed")),
    }
}
