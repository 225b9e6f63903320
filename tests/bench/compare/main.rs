//! fuse4fs beside the kernel's ext4 and fuse2fs: the same loop device, the same loops, one run.
//!
//! `cargo bench -p fuse4fs-tests --bench compare -- [--rounds N] [--rows A,B] [--systems A,B]
//! [--directory D] [--quick]`, as root. Prints tables of medians and of ratios to the kernel; asserts
//! nothing. Systems take turns within a round, so that a machine that gets slower slows all of them.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "nothing here is shipped"
)]

mod read;
mod system;
mod table;
mod write;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use fuse4fs_tests::host;

use system::{Bench, System};
use table::Table;

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    rounds: usize,
    rows: Vec<String>,
    systems: Vec<System>,
    directory: PathBuf,
    quick: bool,
}

/// One line of the table: its name, and how it is measured.
struct Row {
    name: &'static str,
    unit: Unit,
    measure: fn(&Bench, &Scale) -> Result<f64>,
}

/// What a measured figure means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    /// Seconds: less is better.
    Seconds,
    /// Microseconds for one operation: less is better.
    Microseconds,
    /// Operations in a second: more is better.
    PerSecond,
    /// MiB in a second: more is better.
    MibPerSecond,
}

/// How large the workloads are.
#[derive(Clone, Copy, Debug)]
struct Scale {
    /// Small files of the tree.
    files: usize,
    /// MiB of the large file.
    large: usize,
    /// Names of the one large directory.
    names: usize,
    /// Repetitions of an operation that takes microseconds.
    repeats: usize,
    /// Seconds of a measurement that goes by time.
    seconds: f64,
}

const FULL: Scale =
    Scale { files: 12_000, large: 512, names: 40_000, repeats: 20_000, seconds: 2.0 };
const QUICK: Scale = Scale { files: 1_000, large: 32, names: 2_000, repeats: 1_000, seconds: 0.2 };

fn main() -> Result<()> {
    // `cargo test --benches` runs this as well, with nothing to measure for.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    host::enter_private_mounts();
    host::need_root()?;
    let options = options()?;
    let scale = if options.quick { QUICK } else { FULL };
    let bench = Bench::prepare(&options.directory, &scale)?;
    for (title, rows) in [("Reading", read::ROWS), ("Writing", write::ROWS)] {
        let mut table = Table::new(title, &options.systems);
        for row in rows.iter().filter(|row| wanted(&options.rows, row.name)) {
            let mut figures = vec![Vec::new(); options.systems.len()];
            for _ in 0..options.rounds {
                for (system, figures) in options.systems.iter().zip(&mut figures) {
                    bench.choose(*system);
                    let start = Instant::now();
                    match (row.measure)(&bench, &scale) {
                        Ok(figure) => figures.push(figure),
                        Err(error) => eprintln!("{}: {system:?}: {error:#}", row.name),
                    }
                    eprintln!("{}: {system:?}: {:.1} s", row.name, start.elapsed().as_secs_f64());
                }
            }
            table.add(row.name, row.unit, figures);
        }
        table.print();
    }
    Ok(())
}

fn wanted(rows: &[String], name: &str) -> bool {
    rows.is_empty() || rows.iter().any(|row| name.contains(row.as_str()))
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: 3,
        rows: Vec::new(),
        systems: System::ALL.to_vec(),
        directory: std::env::temp_dir(),
        quick: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().context("a value is missing");
        match argument.as_str() {
            "--bench" => {}
            "--quick" => options.quick = true,
            "--rounds" => options.rounds = value()?.parse()?,
            "--rows" => options.rows = value()?.split(',').map(str::to_owned).collect(),
            "--directory" => options.directory = value()?.into(),
            "--systems" => {
                options.systems = value()?.split(',').map(System::named).collect::<Result<_>>()?;
            }
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(options)
}
