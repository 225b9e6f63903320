//! A process that wants more memory than there is: it reads a file again and again that does not fit, and
//! takes more and more for itself.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result};
use fuse4fs_tests::clients;

use crate::groups;

pub(crate) const ROLE: &str = "hog";
/// Bytes of the file.
pub(crate) const FILE: usize = 768 << 20;
/// Threads that read it.
const READERS: u64 = 4;
/// Bytes that it takes at once, and how often.
const STEP: usize = 2 << 20;
const PACE: Duration = Duration::from_millis(100);

/// Its arguments: the file, the bytes that it takes in the end, and the groups to join.
///
/// # Errors
/// When it cannot read.
pub(crate) fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, most, doors @ ..] = &arguments[..] else { anyhow::bail!("{arguments:?}") };
    groups::join(doors)?;
    for reader in 0..READERS {
        let file = File::open(path).with_context(|| path.clone())?;
        std::thread::spawn(move || read_for_ever(&file, reader));
    }
    clients::started()?;
    let most: usize = most.parse()?;
    let mut taken = Vec::new();
    while taken.len() * STEP < most {
        taken.push(vec![1_u8; STEP]);
        std::thread::sleep(PACE);
    }
    loop {
        std::thread::park();
    }
}

fn read_for_ever(file: &File, reader: u64) {
    let mut bytes = vec![0; 64 << 10];
    let len = FILE as u64;
    let mut at = len / READERS * reader;
    while file.read_exact_at(&mut bytes, at).is_ok() {
        at = (at + bytes.len() as u64) % len;
    }
}
