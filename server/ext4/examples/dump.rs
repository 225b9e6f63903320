//! Prints what the superblock of an image says: `dump IMAGE [SB]`, SB in 1 KiB units.

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::{Filesystem, MountOptions, Overhead, Unobserved, WriteOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let image = args.next().ok_or("usage: dump IMAGE [SB]")?;
    let superblock = args.next().map(|sb| sb.to_string_lossy().parse()).transpose()?;
    let device = Arc::new(FileDevice::new(File::open(image)?)?);
    let options = MountOptions {
        read_only: true,
        noload: true,
        superblock,
        journal: None,
        cache_bytes: 8 << 20,
        writing: WriteOptions::default(),
    };
    let fs = Filesystem::mount(device, &options, &Unobserved)?;
    let features = fs.geometry().features;
    println!("{:#?}\n{:#?}", fs.geometry(), fs.facts());
    println!("features: {};{};{}", features.compat, features.incompat, features.ro_compat);
    println!("{:#?}", fs.statfs(Overhead::Subtract)?);
    for notice in fs.take_notices() {
        println!("noticed: {notice}");
    }
    Ok(())
}
