//! Ways of reading beside read(2), and ioctls: a mount answers as the kernel's ext4 does.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Result, ensure};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::populate::{pattern, populate};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, mount_walk, sys, trial};
use libtest_mimic::Trial;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

const RECIPE: Recipe = Recipe { name: "io", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };
const PLAIN: usize = 300 * 1024 + 13;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &'static str, check: fn(&Path) -> Result<String>| {
        trial::test(name, move || both("ro", check))
    };
    vec![
        trial::test("O_TRUNC cuts for who reads, too, but no program that runs", || {
            both("rw", cutting)
        }),
        trial("a mapping shows the file and zeros behind it", mapping),
        trial("O_DIRECT reads the same bytes", direct),
        trial("FS_IOC_GETFLAGS, GETVERSION and FSGETXATTR answer as the kernel", inode_ioctls),
        trial("FS_IOC_GETFSLABEL tells the label", label),
        trial("an unknown ioctl is ENOTTY", unknown_ioctl),
        trial("lseek finds data and holes and the end", seeking),
        trial("lsattr(1) prints the same", lsattr),
        trial("writing is refused with EROFS", writing),
        trial("stat(1) of the file system differs in its type only", statfs),
    ]
}

/// What `check` tells of the kernel's mount it must tell of ours.
fn both(access: &str, check: fn(&Path) -> Result<String>) -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = RECIPE.make(directory.path())?;
    let filled = Mounted::kernel(&image, &mountpoint, "rw")?;
    populate(filled.path(), 4096)?;
    filled.unmount()?;
    let kernel = Mounted::kernel(&image, &mountpoint, access)?;
    let want = check(&mountpoint)?;
    kernel.unmount()?;
    let ours = product.mount(&image, &mountpoint, access)?;
    let found = check(&mountpoint)?;
    ours.unmount()?;
    ensure!(found == want, "expected {want}, found {found}");
    Ok(())
}

fn plain(root: &Path) -> Result<File> {
    Ok(File::open(root.join("layouts/plain"))?)
}

fn cutting(root: &Path) -> Result<String> {
    let cut = |path: &Path| {
        let flags = OFlags::RDONLY | OFlags::TRUNC;
        rustix::fs::open(path, flags, Mode::empty()).map(drop)
    };
    let size = |path: &Path| -> Result<u64> {
        let how = AtFlags::STATX_FORCE_SYNC;
        Ok(rustix::fs::statx(CWD, path, how, StatxFlags::SIZE)?.stx_size)
    };
    let (file, program) = (root.join("file"), root.join("program"));
    std::fs::write(&file, "content")?;
    cut(&file)?;
    let whole = std::fs::copy("/bin/sleep", &program)?;
    let mut running = std::process::Command::new(&program).arg("60").spawn()?;
    let result = cut(&program);
    let runs = running.try_wait()?.is_none();
    running.kill()?;
    running.wait()?;
    Ok(format!("{} {result:?} {runs} {}", size(&file)?, size(&program)? == whole))
}

fn mapping(root: &Path) -> Result<String> {
    let bytes = sys::mapped(plain(root)?, PLAIN.next_multiple_of(4096))?;
    ensure!(bytes[..PLAIN] == pattern("plain", 0, PLAIN), "the mapping shows other bytes");
    ensure!(bytes[PLAIN..].iter().all(|byte| *byte == 0), "no zeros behind the end");
    Ok(String::new())
}

fn direct(root: &Path) -> Result<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECT;
    let file: File = rustix::fs::open(root.join("layouts/plain"), flags, Mode::empty())?.into();
    let mut memory = vec![0; (64 << 10) + 4096];
    let start = memory.as_ptr().align_offset(4096);
    let buffer = &mut memory[start..start + (64 << 10)];
    let mut offset = 0;
    loop {
        let read = file.read_at(buffer, offset as u64)?;
        ensure!(buffer[..read] == pattern("plain", offset as u64, read), "other bytes at {offset}");
        offset += read;
        if read < buffer.len() {
            break;
        }
    }
    ensure!(offset == PLAIN, "read {offset} bytes");
    Ok(String::new())
}

fn inode_ioctls(root: &Path) -> Result<String> {
    let mut text = String::new();
    for path in ["layouts/plain", "metadata/flag-0", "metadata/flag-3", "directories/large", "."] {
        let file = mount_walk::open(&root.join(path))?;
        let flags = rustix::fs::ioctl_getflags(&file)?;
        let xattr = sys::fs_xattr(&file)?;
        text += &format!("{path}: {flags:?} {} {xattr:?}\n", sys::version(&file)?);
    }
    Ok(text)
}

fn label(root: &Path) -> Result<String> {
    let label = sys::label(File::open(root)?)?;
    ensure!(label == b"fuse4fs test", "{}", label.escape_ascii());
    Ok(String::new())
}

fn unknown_ioctl(root: &Path) -> Result<String> {
    // A terminal's ioctl.
    let answer = rustix::termios::tcgetwinsize(plain(root)?);
    Ok(format!("{:?}", answer.err()))
}

fn seeking(root: &Path) -> Result<String> {
    let mut text = String::new();
    for name in ["sparse", "mixed", "punched", "hole-only", "fragmented", "unwritten"] {
        let file = File::open(root.join("layouts").join(name))?;
        let size = file.metadata()?.len();
        for offset in [0, 1, 4095, 4096, 10 * 4096 + 5, size.saturating_sub(1), size, size + 1] {
            let data = rustix::fs::seek(&file, SeekFrom::Data(offset));
            let hole = rustix::fs::seek(&file, SeekFrom::Hole(offset));
            text += &format!("{name} {offset}: {data:?} {hole:?}\n");
        }
        text += &format!("{name} end: {:?}\n", rustix::fs::seek(&file, SeekFrom::End(-1)));
    }
    Ok(text)
}

fn lsattr(root: &Path) -> Result<String> {
    let listed =
        command::sh("lsattr", ["-a".as_ref(), "-v".as_ref(), root.join("metadata").as_os_str()])?;
    // The order of a directory's names is each file system's own.
    let mut lines: Vec<_> = listed.lines().collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

fn writing(root: &Path) -> Result<String> {
    let file = root.join("layouts/plain");
    let answers = [
        std::fs::OpenOptions::new().write(true).open(&file).err(),
        std::fs::create_dir(root.join("new")).err(),
        std::fs::remove_file(&file).err(),
        std::fs::rename(&file, root.join("other")).err(),
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o777)).err(),
    ];
    for answer in &answers {
        let errno = answer.as_ref().and_then(Errno::from_io_error);
        ensure!(errno == Some(Errno::ROFS), "{answers:?}");
    }
    Ok(String::new())
}

fn statfs(root: &Path) -> Result<String> {
    let format = "%b %f %a %s %S %c %d %l";
    command::sh("stat", ["-f".as_ref(), "-c".as_ref(), format.as_ref(), root.as_os_str()])
}
