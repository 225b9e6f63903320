//! Processes that use a mount, to be killed, or to have it taken away.
//!
//! A client is this same program, started again with [`ROLE`] in its environment; `main` asks for it
//! first. It reaches the mount by a descriptor of the root, so it goes on behind a lazy umount.

use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;

use crate::operation::Random;

/// Names what a client does.
pub const ROLE: &str = "FUSE4FS_TESTS_CLIENT";
/// Exit code of a client whose file system was taken away.
const GONE: u8 = 3;
const SIGKILL: i32 = 9;
const SIGBUS: i32 = 7;

/// What this process is, if it is a client.
#[must_use]
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Says, in a client, that it has the file system in hand.
///
/// # Errors
/// When nobody listens.
pub fn started() -> Result<()> {
    let mut stdout = io::stdout();
    stdout.write_all(b"\n")?;
    Ok(stdout.flush()?)
}

/// The exit code that tells how a client ended.
pub fn report(result: &Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let gone = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(is_gone)
        || error
            .chain()
            .filter_map(|cause| cause.downcast_ref::<Errno>())
            .any(|errno| is_gone(&io::Error::from(*errno)));
    eprintln!("{error:#}");
    if gone { ExitCode::from(GONE) } else { ExitCode::FAILURE }
}

/// Whether an error is what a client sees of a file system that was taken away.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    // ECANCELED: a ring's thread was killed while the kernel handed it the request.
    matches!(errno, Some(Errno::NOTCONN | Errno::CONNABORTED | Errno::IO | Errno::CANCELED))
}

/// How a client ended.
#[derive(Clone, Debug)]
pub struct Ending {
    /// What it was.
    pub role: String,
    /// How.
    pub status: ExitStatus,
    /// Its last words.
    pub said: String,
}

impl Ending {
    /// By itself, in peace.
    #[must_use]
    pub fn is_peaceful(&self) -> bool {
        self.status.success()
    }

    /// In peace, or as one does who is killed.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.is_peaceful() || self.status.signal() == Some(SIGKILL)
    }

    /// In peace, or as one does whose file system is taken away.
    #[must_use]
    pub fn is_bereft(&self) -> bool {
        let code = self.status.code() == Some(GONE.into());
        self.is_peaceful() || code || self.status.signal() == Some(SIGBUS)
    }
}

/// Running clients; killed at the end if they are still there.
#[derive(Debug, Default)]
pub struct Clients {
    running: Vec<(String, Child)>,
}

impl Clients {
    /// Starts one more.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self, role: &str, arguments: &[String]) -> Result<()> {
        let mut client = Command::new(std::env::current_exe()?);
        client.args(arguments).env(ROLE, role);
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.running.push((role.to_owned(), client.spawn().context("starting a client")?));
        Ok(())
    }

    /// Waits until each has called [`started`], or has ended.
    ///
    /// # Errors
    /// When they cannot be listened to.
    pub fn await_started(&mut self) -> Result<()> {
        for (_, child) in &mut self.running {
            if let Some(mut stdout) = child.stdout.take() {
                let _ = stdout.read(&mut [0])?;
            }
        }
        Ok(())
    }

    /// kill -9 of one, whichever; false if there is none.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill_one(&mut self, random: &mut Random) -> Result<bool> {
        if self.running.is_empty() {
            return Ok(false);
        }
        let victim = random.below(self.running.len() as u64) as usize;
        self.running[victim].1.kill()?;
        Ok(true)
    }

    /// Those that have ended already.
    ///
    /// # Errors
    /// When they cannot be waited for.
    pub fn reap(&mut self) -> Result<Vec<Ending>> {
        let (mut still, mut endings) = (Vec::new(), Vec::new());
        for (role, mut child) in self.running.drain(..) {
            match child.try_wait()? {
                Some(status) => endings.push(ending(role, status, child)),
                None => still.push((role, child)),
            }
        }
        self.running = still;
        Ok(endings)
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// When one has not within `patience`.
    pub fn wait(mut self, patience: Duration) -> Result<Vec<Ending>> {
        let end = Instant::now() + patience;
        let mut endings = self.reap()?;
        while !self.running.is_empty() {
            if Instant::now() > end {
                let names: Vec<_> = self.running.iter().map(|(role, _)| role.as_str()).collect();
                bail!("clients have not ended after {patience:?}: {}", names.join(", "));
            }
            std::thread::sleep(Duration::from_millis(5));
            endings.extend(self.reap()?);
        }
        Ok(endings)
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
        }
        // One that waits for a file system without an answer cannot be killed; that is told elsewhere.
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end && self.reap().is_ok() && !self.running.is_empty() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What it said is short, so it is all in the pipe.
fn ending(role: String, status: ExitStatus, mut child: Child) -> Ending {
    let mut said = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut said);
    }
    Ending { role, status, said }
}

/// Fails unless each of `endings` is as `right` wants it.
///
/// # Errors
/// With those that are not.
pub fn expect(endings: &[Ending], right: impl Fn(&Ending) -> bool) -> Result<()> {
    let wrong = endings.iter().filter(|ending| !right(ending));
    let told: Vec<_> = wrong
        .map(|ending| format!("{}: {}: {}", ending.role, ending.status, ending.said.trim_end()))
        .collect();
    ensure!(told.is_empty(), "{} of {} clients:\n{}", told.len(), endings.len(), told.join("\n"));
    Ok(())
}
