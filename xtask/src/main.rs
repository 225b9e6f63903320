//! Repository chores that need code: `cargo xtask layers|licences|units|man|completion`.
//!
//! Each prints what it found and ends with status 1 if something is wrong.

mod completion;
mod generated;
mod layers;
mod licences;
mod man;
mod metadata;
mod options;
mod units;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What a chore ends with: the findings, one line each; none is good.
pub(crate) type Findings = Result<Vec<String>, Box<dyn std::error::Error>>;

const HELP: &str = "\
Usage: cargo xtask CHORE

  layers         crates and engine modules import downwards only (ARCHITECTURE.md)
  licences       every dependency's licence and source is one that deny.toml allows
  units          systemd-analyze finds nothing wrong with the units, and little exposed
  man [--check]  write docs/fuse4fs-errors.7 and the tables in docs/mount.fuse4fs.8 from those in
                 the code, or see that they are current
  completion [--check]  the same for what shells complete
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let result = match words.as_slice() {
        ["layers"] => layers::check(&root),
        ["licences"] => licences::check(&root),
        ["units"] => units::check(&root),
        ["man"] => man::files(&root).and_then(|files| generated::write(&root, &files)),
        ["man", "--check"] => {
            man::files(&root).and_then(|files| generated::check(&root, &files, "man"))
        }
        ["completion"] => generated::write(&root, &completion::files()),
        ["completion", "--check"] => generated::check(&root, &completion::files(), "completion"),
        _ => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in findings {
                eprintln!("{finding}");
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("xtask {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

/// The repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}
