//! Puts out a file of an image: `cat IMAGE PATH`.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Filesystem, MountOptions, Unobserved, WriteOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(image), Some(path)) = (args.next(), args.next()) else {
        return Err("usage: cat IMAGE PATH".into());
    };
    let device = Arc::new(FileDevice::new(File::open(image)?)?);
    let options = MountOptions {
        read_only: true,
        noload: false,
        superblock: None,
        journal: None,
        cache_bytes: 8 << 20,
        writing: WriteOptions::default(),
    };
    let fs = Filesystem::mount(device, &options, &Unobserved)?;
    let mut file = fs.inode(InodeNr::ROOT)?;
    for name in path.as_encoded_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    {
        file = fs.lookup(&file, name)?;
    }
    fs.open(&file, fuse4fs_ext4::Open::Read)?;
    let mut buffer = vec![0; 1 << 20];
    let mut offset = 0;
    while let filled @ 1.. = fs.read(&file, offset, &mut buffer)? {
        std::io::stdout().write_all(buffer.get(..filled).unwrap_or_default())?;
        offset = offset.saturating_add(fuse4fs_ext4::ids::on_disk(filled));
    }
    Ok(())
}
