//! Tests that can be skipped at run time, with the reason shown and counted as ignored.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

/// How a test body ends early without failing: the machine lacks something.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Skip {}

/// A test named by a sentence. A [`Skip`] anywhere in the error's chain makes it ignored.
pub fn test<F>(name: impl Into<String>, body: F) -> Trial
where
    F: FnOnce() -> anyhow::Result<()> + Send + 'static,
{
    Trial::ignorable_test(name, move || match body() {
        Ok(()) => Ok(Completion::Completed),
        Err(error) => match error.downcast_ref::<Skip>() {
            Some(skip) => Ok(Completion::ignored_with(skip)),
            None => Err(Failed::from(format!("{error:#}"))),
        },
    })
}

/// Skips with `reason`.
///
/// # Errors
/// Always.
pub fn skip<T>(reason: impl Into<String>) -> anyhow::Result<T> {
    Err(Skip(reason.into()).into())
}

/// Runs `trials` as the command line asks, `threads` at a time unless it says otherwise.
#[must_use]
pub fn run(threads: Option<usize>, trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(threads);
    libtest_mimic::run(&arguments, trials).exit_code()
}
