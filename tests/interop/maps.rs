//! Files whose block maps are deep, scattered or odd: bytes, seeks from everywhere, block numbers.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Error, Filesystem, Inode, Refusal, Seek};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::populate::pattern;
use fuse4fs_tests::{engine_walk, mount_walk, sys, trial};
use libtest_mimic::Trial;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

const fn recipe(name: &'static str, mke2fs: &'static str) -> Recipe {
    Recipe { name, mke2fs, tune2fs: "", options: "rw" }
}

const RECIPES: &[Recipe] = &[
    recipe("maps-ext2-1k", "-t ext2 -b 1024"),
    recipe("maps-ext2-4k", "-t ext2 -b 4096"),
    recipe("maps-ext4-1k", "-t ext4 -b 1024"),
    recipe("maps-ext4-4k", "-t ext4 -b 4096"),
    recipe("maps-ext4-bigalloc", "-t ext4 -b 1024 -C 8192 -O bigalloc"),
    recipe("maps-ext4-inline", "-t ext4 -b 1024 -I 512 -O inline_data"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |recipe: &'static Recipe| {
        trial::test(
            format!("{}: odd maps read, seek and map as the kernel's", recipe.name),
            move || odd_maps_are_as_the_kernels(recipe),
        )
    };
    RECIPES.iter().map(trial).collect()
}

fn odd_maps_are_as_the_kernels(recipe: &Recipe) -> Result<()> {
    host::need_root()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = recipe.make(directory.path())?;
    let mounted = Mounted::kernel(&image, &mountpoint, "rw")?;
    let block = mount_walk::counts(mounted.path())?.block_size;
    fill(mounted.path(), block)?;
    mounted.unmount()?;
    image::check(&image)?;
    let mounted = Mounted::kernel(&image, &mountpoint, "ro")?;
    let fs = engine_walk::mount(&image)?;
    for listed in std::fs::read_dir(mounted.path())? {
        let path = listed?.path();
        if path.is_file() {
            compare(&fs, &path, block).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

fn create(path: &Path) -> Result<File> {
    Ok(OpenOptions::new().read(true).write(true).create_new(true).open(path)?)
}

fn fill(root: &Path, block: u64) -> Result<()> {
    let put = |file: &File, nr: u64, length: u64| {
        file.write_all_at(&pattern("map", nr * block, usize::try_from(length)?), nr * block)?;
        anyhow::Ok(())
    };
    // One extent per second block: with 84 extents in a 1 KiB node, three levels.
    let scattered = create(&root.join("scattered"))?;
    for nr in 0..1000 {
        put(&scattered, 2 * nr, block)?;
    }
    scattered.sync_all()?;
    let per_block = block / 4;
    let double = 12 + per_block;
    let triple = double + per_block * per_block;
    let sparse = create(&root.join("sparse"))?;
    for nr in [5, 11, 12, double - 1, double, double + per_block, triple - 1, triple + 1] {
        // The last ones are past the largest file of some formats.
        let _ = put(&sparse, nr, 100);
    }
    put(&create(&root.join("solid"))?, 0, 700 * block + 1)?;
    create(&root.join("empty"))?;
    create(&root.join("hole"))?.set_len(5 * block + 3)?;
    inline(root)?;
    unwritten(root, block)
}

/// Small files: inline where the format can, and one that truncate made larger.
fn inline(root: &Path) -> Result<()> {
    for size in [1, 59, 60, 61, 100, 200, 500] {
        create(&root.join(format!("small-{size}")))?.write_all_at(&pattern("small", 0, size), 0)?;
    }
    let grown = create(&root.join("grown"))?;
    grown.write_all_at(b"short", 0)?;
    grown.sync_all()?;
    Ok(grown.set_len(10_000)?)
}

fn unwritten(root: &Path, block: u64) -> Result<()> {
    let file = create(&root.join("unwritten"))?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 3 * block, 50 * block) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    }
    for nr in [0, 7, 8, 20, 52, 60] {
        file.write_all_at(&pattern("unwritten", nr * block, 300), nr * block)?;
    }
    file.sync_all()?;
    let past_end = create(&root.join("past-end"))?;
    past_end.write_all_at(b"short", 0)?;
    Ok(rustix::fs::fallocate(&past_end, FallocateFlags::KEEP_SIZE, 0, 40 * block)?)
}

fn compare(fs: &Filesystem, path: &Path, block: u64) -> Result<()> {
    let kernel = mount_walk::open(path)?;
    let (inode, size) = {
        use std::os::unix::fs::MetadataExt;
        let metadata = kernel.metadata()?;
        (fs.inode(InodeNr::new(u32::try_from(metadata.ino())?))?, metadata.size())
    };
    ensure!(inode.size == size, "size: kernel {size}, engine {}", inode.size);
    // Before anything is read: pages that hold zeros of unwritten extents would count as data.
    compare_seeks(fs, &inode, &kernel, block)?;
    compare_blocks(fs, &inode, &kernel, block)?;
    compare_reads(fs, &inode, &kernel, block)
}

/// Some places of a file: all its first blocks, and the neighbourhood of where data starts and ends.
fn places(kernel: &File, block: u64) -> Result<Vec<u64>> {
    let size = kernel.metadata()?.len();
    let mut places: Vec<u64> = (0..40).map(|nr| nr * block).collect();
    let mut offset = 0;
    while let Ok(data) = rustix::fs::seek(kernel, SeekFrom::Data(offset)) {
        let hole = rustix::fs::seek(kernel, SeekFrom::Hole(data))?;
        places.extend([data, hole]);
        offset = hole;
    }
    places.push(size);
    let near = |place: u64| [place.saturating_sub(1), place, place + 1];
    Ok(places.into_iter().flat_map(near).collect())
}

fn compare_seeks(fs: &Filesystem, inode: &Inode, kernel: &File, block: u64) -> Result<()> {
    for place in places(kernel, block)? {
        for what in [Seek::Data, Seek::Hole] {
            let position = match what {
                Seek::Data => SeekFrom::Data(place),
                Seek::Hole => SeekFrom::Hole(place),
            };
            let want = match rustix::fs::seek(kernel, position) {
                Ok(found) => Some(found),
                Err(Errno::NXIO) => None,
                Err(error) => return Err(error.into()),
            };
            let found = match fs.seek(inode, place, what) {
                Ok(found) => Some(found),
                Err(Error::Refused(Refusal::PastEnd)) => None,
                Err(error) => return Err(error.into()),
            };
            ensure!(found == want, "{what:?} from {place}: kernel {want:?}, engine {found:?}");
        }
    }
    Ok(())
}

fn compare_blocks(fs: &Filesystem, inode: &Inode, kernel: &File, block: u64) -> Result<()> {
    for place in places(kernel, block)? {
        let Ok(at) = i32::try_from(place / block) else { continue };
        let want = u64::from(sys::fibmap(kernel, at)?);
        let found = match fs.bmap(inode, place / block, u32::try_from(block)?) {
            Ok(found) => found,
            Err(Error::Refused(Refusal::Invalid)) => 0,
            Err(error) => return Err(error.into()),
        };
        ensure!(found == want, "block {at}: kernel {want}, engine {found}");
    }
    Ok(())
}

fn compare_reads(fs: &Filesystem, inode: &Inode, kernel: &File, block: u64) -> Result<()> {
    let lengths = [1, 511, usize::try_from(block)?, usize::try_from(3 * block + 7)?];
    for (place, length) in places(kernel, block)?.into_iter().zip(lengths.into_iter().cycle()) {
        let (mut want, mut found) = (vec![1; length], vec![2; length]);
        let wanted = kernel.read_at(&mut want, place)?;
        let filled = fs.read(inode, place, &mut found)?;
        ensure!(filled == wanted, "read {place}+{length}: kernel {wanted}, engine {filled}");
        ensure!(found[..filled] == want[..wanted], "read {place}+{length}: other bytes");
    }
    Ok(())
}
