//! Feature combinations. The running kernel must be able to fill each one; features it may lack
//! (quota, project) are switched on by tune2fs afterwards.

use fuse4fs_tests::image::Recipe;

const fn recipe(name: &'static str, mke2fs: &'static str) -> Recipe {
    Recipe { name, mke2fs, tune2fs: "", options: "rw" }
}

const fn tuned(name: &'static str, mke2fs: &'static str, tune2fs: &'static str) -> Recipe {
    Recipe { tune2fs, ..recipe(name, mke2fs) }
}

pub(crate) const ALL: &[Recipe] = &[
    recipe("ext2-rev0", "-t ext2 -b 1024 -r 0"),
    recipe("ext2-1k", "-t ext2 -b 1024"),
    recipe("ext2-4k-i128", "-t ext2 -b 4096 -I 128"),
    recipe("ext3-1k-i256", "-t ext3 -b 1024 -I 256"),
    recipe("ext3-2k-unindexed", "-t ext3 -b 2048 -O ^dir_index"),
    recipe("ext3-4k", "-t ext3 -b 4096"),
    recipe("ext4-1k", "-t ext4 -b 1024"),
    recipe("ext4-2k", "-t ext4 -b 2048"),
    recipe("ext4-4k", "-t ext4 -b 4096"),
    recipe("ext4-i128", "-t ext4 -b 1024 -I 128"),
    recipe("ext4-i512", "-t ext4 -b 4096 -I 512"),
    recipe("ext4-i1024", "-t ext4 -b 1024 -I 1024"),
    recipe("no-extents", "-t ext4 -b 4096 -O ^extents,^64bit"),
    recipe("no-journal", "-t ext4 -b 4096 -O ^has_journal"),
    recipe("meta-bg", "-t ext4 -b 1024 -g 1024 -O meta_bg,^resize_inode"),
    recipe("no-flex-bg", "-t ext4 -b 1024 -O ^flex_bg"),
    recipe("many-groups", "-t ext4 -b 1024 -g 512 -O ^resize_inode"),
    recipe("bigalloc-4k-64k", "-t ext4 -b 4096 -C 65536 -O bigalloc"),
    recipe("bigalloc-1k-4k", "-t ext4 -b 1024 -C 4096 -O bigalloc"),
    recipe("inline-data-4k", "-t ext4 -b 4096 -O inline_data"),
    recipe("inline-data-1k-i512", "-t ext4 -b 1024 -I 512 -O inline_data"),
    recipe("ea-inode-4k", "-t ext4 -b 4096 -O ea_inode"),
    recipe("ea-inode-inline-1k", "-t ext4 -b 1024 -I 256 -O ea_inode,inline_data"),
    recipe("no-64bit", "-t ext4 -b 4096 -O ^64bit"),
    recipe("uninit-bg", "-t ext4 -b 1024 -O ^metadata_csum,uninit_bg"),
    recipe("no-checksums", "-t ext4 -b 1024 -O ^metadata_csum,^uninit_bg"),
    tuned("checksum-seed", "-t ext4 -b 1024 -O metadata_csum_seed", "-U random"),
    recipe(
        "sparse-super2",
        "-t ext4 -b 1024 -g 1024 -O sparse_super2,^resize_inode -E num_backup_sb=1",
    ),
    recipe("no-sparse-super", "-t ext4 -b 1024 -O ^sparse_super,^resize_inode"),
    recipe("large-dir", "-t ext4 -b 1024 -O large_dir"),
    recipe("no-dir-index", "-t ext4 -b 1024 -O ^dir_index"),
    recipe("no-filetype", "-t ext4 -b 1024 -O ^filetype"),
    recipe("no-extra-isize", "-t ext4 -b 1024 -O ^extra_isize"),
    recipe("no-huge-file", "-t ext4 -b 4096 -O ^huge_file"),
    recipe("no-dir-nlink", "-t ext4 -b 4096 -O ^dir_nlink"),
    tuned("quota", "-t ext4 -b 1024", "-O quota"),
    tuned("project", "-t ext4 -b 1024 -I 256", "-O quota,project -Q usrquota,prjquota"),
    recipe("mmp", "-t ext4 -b 1024 -O mmp -E mmp_update_interval=1"),
    recipe("orphan-file", "-t ext4 -b 1024 -O orphan_file"),
    recipe("fast-commit", "-t ext4 -b 1024 -O fast_commit"),
    tuned("hash-tea", "-t ext4 -b 1024", "-E hash_alg=tea"),
    tuned(
        "label-and-stride",
        "-t ext4 -b 4096 -E stride=4,stripe_width=16 -G 4",
        "-L other -e remount-ro",
    ),
    Recipe { options: "data=journal", ..recipe("data-journal", "-t ext4 -b 1024") },
];
