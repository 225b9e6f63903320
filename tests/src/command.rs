//! Running programs with a deadline, keeping what they say.

use std::ffi::OsStr;
use std::io::Read;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// After this long a program counts as hung.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Runs it to its end; fails, and kills it, after [`DEADLINE`].
///
/// # Errors
/// When it cannot be started or does not end in time.
pub fn run(command: &mut Command) -> Result<Output> {
    let name = format!("{command:?}");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    wait(child.with_context(|| name.clone())?, DEADLINE).with_context(|| name)
}

/// Runs it and insists on success; returns what it printed.
///
/// # Errors
/// As [`run`], and when it fails, with what it said.
pub fn succeed(command: &mut Command) -> Result<String> {
    let name = format!("{command:?}");
    let output = run(command)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}: {text}{said}", output.status);
    Ok(text)
}

/// [`succeed`] of a program with its arguments.
///
/// # Errors
/// As [`succeed`].
pub fn sh<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> Result<String> {
    succeed(Command::new(program).args(arguments))
}

/// Waits for `child` to end; kills it after `limit`. What it writes is read all the while.
///
/// # Errors
/// When it does not end in time.
pub fn wait(mut child: Child, limit: Duration) -> Result<Output> {
    let stdout = child.stdout.take().map(collect);
    let stderr = child.stderr.take().map(collect);
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > end {
            child.kill()?;
            bail!("still running after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let text = |pipe: Option<std::thread::JoinHandle<Vec<u8>>>| {
        pipe.map(|thread| thread.join().unwrap_or_default()).unwrap_or_default()
    };
    Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
}

fn collect(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}
