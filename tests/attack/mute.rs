//! A server that never answers one operation: whoever waits is freed, nobody else waits.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_server::attack::MUTES;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

use crate::stage::{Attacked, Stage, machine_works};

/// `request_timeout=`, in seconds; the least that the kernel takes.
const TIMEOUT: u64 = 15;
/// The kernel looks every 15 seconds.
const FREED: Duration = Duration::from_secs(TIMEOUT + 20);
const TIMEOUTS: &str = "/proc/sys/fs/fuse/max_request_timeout";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("who waits for an answer is freed by the timeout", freed),
        trial::test("without an answer to INIT there is no mount", no_init),
    ]
}

/// All at the same time, as each takes its timeout.
fn freed() -> Result<()> {
    fuse4fs_tests::host::need_file(TIMEOUTS)?;
    let stage = Stage::new()?;
    let mutes = MUTES.iter().filter(|(name, _)| *name != "INIT");
    let mounts = mutes.map(|(name, opcode)| {
        let image = stage.image(&format!("mute:{opcode}"))?;
        let attacked = stage.mount(&image, name, &format!("rw,request_timeout={TIMEOUT}"))?;
        Ok((*name, attacked))
    });
    let mounts = mounts.collect::<Result<Vec<_>>>()?;
    let others = stage.directory.path();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let wait = |(name, attacked)| scope.spawn(move || wait(name, attacked));
        let waiting: Vec<_> = mounts.into_iter().map(wait).collect();
        // Meanwhile.
        let works = machine_works(others);
        let panicked = |_| Err(anyhow::anyhow!("a thread panicked"));
        let joined = waiting.into_iter().map(|thread| thread.join().unwrap_or_else(panicked));
        joined.chain([works]).collect()
    });
    let failed: Vec<String> = results
        .into_iter()
        .filter_map(|result| result.err().map(|error| format!("{error:#}")))
        .collect();
    ensure!(failed.is_empty(), "{failed:#?}");
    stage.leave()
}

/// Does what takes an answer, and is freed in time; then the mount can go.
fn wait(name: &'static str, attacked: Attacked) -> Result<()> {
    let start = Instant::now();
    let connection = attacked.connection.clone();
    let (freed, waited) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let late = waited.recv_timeout(FREED) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = connection.abort();
        }
        late
    });
    let result = if name == "DESTROY" {
        attacked.end()
    } else {
        let asked = ask(name, attacked.mounted.path());
        ensure!(name == "RELEASE" || asked.is_err(), "{name} was answered");
        attacked.end()
    };
    drop(freed);
    let late = watch.join().unwrap_or(true);
    ensure!(!late, "{name}: not freed after {FREED:?}");
    println!("{name}: {:?}", start.elapsed());
    result.with_context(|| name.to_owned())
}

fn ask(name: &str, root: &Path) -> Result<()> {
    let file = root.join("file");
    let writable = || OpenOptions::new().write(true).open(&file);
    match name {
        "LOOKUP" => fs::symlink_metadata(&file).map(drop)?,
        "GETATTR" => fs::metadata(root).map(drop)?,
        "OPEN" => drop(File::open(&file)?),
        "READ" => drop(fs::read(&file)?),
        "WRITE" => writable()?.write_all(b"x")?,
        "READDIR" => fs::read_dir(root)?.try_for_each(|entry| entry.map(drop))?,
        "READLINK" => drop(fs::read_link(root.join("link"))?),
        "STATFS" => drop(rustix::fs::statfs(root)?),
        "SYNCFS" => rustix::fs::syncfs(File::open(root)?)?,
        "FSYNC" => writable()?.sync_all()?,
        // By the program, which tells what close(2) said.
        "FLUSH" => drop(fuse4fs_tests::command::sh(
            "sh",
            ["-c", "exec 3<\"$0\"; exec 3<&-; read x < \"$0\"", &file.display().to_string()],
        )?),
        "RELEASE" => drop(File::open(&file)?),
        other => anyhow::bail!("nobody asks for {other}"),
    }
    Ok(())
}

fn no_init() -> Result<()> {
    let stage = Stage::new()?;
    let image = stage.image(&format!("mute:{}", MUTES[0].1))?;
    let (output, ..) = stage.try_mount(&image, "mnt", "rw,server_timeout=3")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "mounted: {said}");
    stage.leave()
}
