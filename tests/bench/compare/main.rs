//! fuse4fs beside the kernel's ext4 and fuse2fs: the same loop device, the same loops, one run.
//!
//! `cargo bench -p fuse4fs-tests --bench compare -- [--rounds N] [--rows A,B] [--systems A,B]
//! [--limit SECONDS] [--directory D] [--options OPTIONS] [--quick]`, as root; `scripts/install-tools bench` installs
//! fuse2fs. OPTIONS are of mounts of ours, such as writeback_cache=on. Prints tables of medians, of ratios to the kernel, and of what round trips take beyond
//! those to a server that does nothing; asserts nothing. Systems take turns within a round, so that a
//! machine that gets slower slows all of them. A system that a row takes longer than the limit is
//! stopped there and not measured again; `<` and `>` say so. Needs 5 GiB.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "nothing here is shipped"
)]

mod cache;
mod limit;
mod null;
mod read;
mod system;
mod table;
mod trip;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use fuse4fs_tests::host;
use fuse4fs_tests::uring::{PARAMETER, Parameter};

use system::{Bench, System};
use table::{Figure, Table};

/// What the command line asks for.
#[derive(Debug)]
struct Options {
    rounds: usize,
    rows: Vec<String>,
    systems: Vec<System>,
    directory: PathBuf,
    limit: Duration,
    quick: bool,
    /// Mount options of ours, behind a comma.
    ours: String,
}

/// One line of the table: its name, and how it is measured.
struct Row {
    name: &'static str,
    unit: Unit,
    who: Who,
    measure: fn(&Bench, &Scale) -> Result<f64>,
}

/// One for all that have files.
const fn row(name: &'static str, unit: Unit, measure: fn(&Bench, &Scale) -> Result<f64>) -> Row {
    Row { name, unit, who: Who::FileSystems, measure }
}

/// Which systems a row is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Who {
    /// All, those without files too.
    Null,
    /// All that have files.
    FileSystems,
    /// Ours, which can tell what is asked.
    Ours,
}

impl Who {
    fn includes(self, system: System) -> bool {
        match self {
            Self::Null => true,
            Self::FileSystems => !matches!(system, System::Null | System::NullRing),
            Self::Ours => matches!(system, System::Classic | System::Ring),
        }
    }
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
    /// Requests for each file: less is better.
    PerFile,
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

const TABLES: [(&str, &[Row]); 5] = [
    ("Round trips", trip::ROWS),
    ("Reading", read::ROWS),
    ("Reading, mounted to be written", read::WRITABLE),
    ("Writing", write::ROWS),
    ("Metadata, by the size of our cache", cache::ROWS),
];

fn main() -> ExitCode {
    if let Some(target) = null::role() {
        return null::serve(&target);
    }
    // `cargo test --benches` runs this as well, with nothing to measure for.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    host::enter_private_mounts();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    host::need_root()?;
    let options = options()?;
    if let Ok(parameter) = Parameter::set("Y") {
        println!("{PARAMETER} is {}; Y while a mount with rings is made", parameter.before());
    }
    let scale = if options.quick { QUICK } else { FULL };
    let bench = Bench::prepare(&options, &scale)?;
    for (title, rows) in TABLES {
        let has = |system: &System| rows.iter().any(|row| row.who.includes(*system));
        let systems = options.systems.iter().copied().filter(has).collect();
        let mut table = Table::new(title, systems);
        for row in rows.iter().filter(|row| wanted(&options.rows, row.name)) {
            let figures = measure(&bench, (&options, &scale), row, table.systems());
            table.add(row.name, row.unit, figures);
        }
        table.print();
    }
    Ok(())
}

/// The figures of a row for each of `systems`.
fn measure(
    bench: &Bench,
    (options, scale): (&Options, &Scale),
    row: &Row,
    systems: &[System],
) -> Vec<Vec<Figure>> {
    let mut figures = vec![Vec::<Figure>::new(); systems.len()];
    for _ in 0..options.rounds {
        for (system, figures) in systems.iter().zip(&mut figures) {
            if !row.who.includes(*system) || figures.iter().any(|figure| figure.cut) {
                continue;
            }
            bench.choose(*system);
            let start = Instant::now();
            match (row.measure)(bench, scale) {
                Ok(value) => figures.push(Figure { value, cut: bench.limit().was_reached() }),
                Err(error) => eprintln!("{}: {}: {error:#}", row.name, system.title()),
            }
            let took = start.elapsed().as_secs_f64();
            eprintln!("{}: {}: {took:.1} s", row.name, system.title());
        }
    }
    figures
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
        limit: Duration::from_secs(20),
        ours: String::new(),
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
            "--limit" => options.limit = Duration::from_secs(value()?.parse()?),
            "--options" => options.ours = format!(",{}", value()?),
            "--directory" => options.directory = value()?.into(),
            "--systems" => {
                options.systems = value()?.split(',').map(System::named).collect::<Result<_>>()?;
            }
            other => bail!("unknown argument {other}"),
        }
    }
    Ok(options)
}
