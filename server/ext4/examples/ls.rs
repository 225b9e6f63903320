//! Lists a directory of an image: `ls IMAGE [PATH]`.

use core::ops::ControlFlow;
use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Filesystem, MountOptions, Unobserved, WriteOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let image = args.next().ok_or("usage: ls IMAGE [PATH]")?;
    let path = args.next().unwrap_or_default();
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
    let mut dir = fs.inode(InodeNr::ROOT)?;
    for name in path.as_encoded_bytes().split(|&byte| byte == b'/').filter(|name| !name.is_empty())
    {
        dir = fs.lookup(&dir, name)?;
    }
    fs.readdir(&dir, 0, &mut |entry| {
        println!("{:>10} {}", entry.inode, String::from_utf8_lossy(entry.name));
        ControlFlow::Continue(())
    })?;
    Ok(())
}
