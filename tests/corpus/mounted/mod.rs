//! Images mounted for real: helper, kernel and server together, and beside them fuse2fs.
//!
//! A sample over all classes, or with `FUSE4FS_CORPUS=all` every image. `FUSE4FS_CORPUS=beside` has fuse2fs
//! mount every image as well, and compares both with what the kernel reads; then `FUSE4FS_REPORT=1`
//! writes that to docs/hostile-images.md.

mod beside;
mod change;
mod fuse2fs;
mod ours;
mod visit;
mod walk;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, connection, host, shared, trial};
use libtest_mimic::Trial;
use rustix::io::Errno;

use crate::child::{self, How, Outcome};
use crate::manifest::Row;
use crate::verdict::{self, Verdict};

use beside::Table;
pub(crate) use visit::job;
use visit::{Fate, Round};

/// Of so many images of a class one is in the sample, and at least [`LEAST`].
const EACH: usize = 8;
const LEAST: usize = 2;

/// Images that the kernel shows in another way than we tell it.
const BENT: [(&str, &str); 1] = [("craft_dir_nul", "a name ends for it at its first NUL")];

/// Images with damage of which e2fsck says nothing: what is made of them afterwards it does.
const SILENT: [(&str, &str); 1] =
    [("e2fs_f_ea_inode_no_feature", "it adds the missing feature without a word")];

/// Images that e2fsck calls worse for what was not there before: the feature of attributes, with which it
/// takes a field for their block that it wanted to be zero.
const EXCUSED: [&str; 1] = ["e2fs_f_recnect_bad"];

/// One mounts at a time: they look at what is left behind on the machine.
static TURN: Mutex<()> = Mutex::new(());

/// Which images, and beside whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Sample,
    All,
    Beside,
}

impl Scope {
    fn asked() -> Self {
        match std::env::var("FUSE4FS_CORPUS").as_deref() {
            Ok("all") => Self::All,
            Ok("beside") => Self::Beside,
            _ => Self::Sample,
        }
    }
}

/// A round that ended, and e2fsck's words before and after it.
#[derive(Debug)]
struct Judged {
    round: Round,
    before: Verdict,
    after: Verdict,
    /// Some byte of it is another one.
    changed: bool,
}

impl Judged {
    /// e2fsck thinks less of the image than before.
    fn is_worse(&self) -> bool {
        self.after > self.before
    }
}

/// Both rounds with one image: read-only, and written.
type Pair = [Judged; 2];

/// The tests of `rows`, and the table that they fill.
pub(crate) fn trials(rows: &[Row]) -> (Vec<Trial>, Arc<Mutex<Table>>) {
    let (scope, table) = (Scope::asked(), Arc::new(Mutex::new(Table::new(rows.len()))));
    let chosen: Vec<Row> = if scope == Scope::Sample { sample(rows) } else { rows.to_vec() };
    let mut trials: Vec<Trial> = chosen
        .into_iter()
        .map(|row| {
            let table = Arc::clone(&table);
            trial::test(format!("{}, mounted", row.name), move || mount(&row, scope, &table))
        })
        .collect();
    if scope != Scope::Beside {
        trials.push(trial::test("fuse2fs mounts every image beside ours", || {
            trial::skip("half an hour; FUSE4FS_CORPUS=beside asks for it")
        }));
    }
    (trials, table)
}

/// Some of each class, spread over it.
fn sample(rows: &[Row]) -> Vec<Row> {
    let mut classes: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        classes.entry(&row.class).or_default().push(row);
    }
    let spread = |class: Vec<&Row>| -> Vec<Row> {
        let want = class.len().div_ceil(EACH).max(LEAST).min(class.len());
        (0..want).map(|nth| class[nth * class.len() / want].clone()).collect()
    };
    classes.into_values().flat_map(spread).collect()
}

fn mount(row: &Row, scope: Scope, table: &Mutex<Table>) -> Result<()> {
    Product::get()?;
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    connection::show()?;
    let directory = host::scratch()?;
    std::fs::create_dir(directory.path().join("mnt"))?;
    let is_silent = SILENT.iter().any(|(name, _)| *name == row.name);
    let before = verdict::of(&unpack(row, directory.path())?, row.is_dirty)?;
    let before = if is_silent { before.max(Verdict::Damaged) } else { before };
    let ours = both(row, before, directory.path(), ours::round)?;
    if scope == Scope::Beside {
        host::need_program("fuse2fs")?;
        let theirs = both(row, before, directory.path(), fuse2fs::round)?;
        table.lock().unwrap_or_else(PoisonError::into_inner).add(row, [&ours, &theirs]);
    }
    let image = unpack(row, directory.path())?;
    let [read, written] = &ours;
    let recovered = child::open(How::Recovered, &image).context("in one process")?;
    agree(row, read, &recovered).context("mounted to be read")?;
    let changed = child::open(How::Changed, &image).context("in one process, changed")?;
    // What can be read but not written is mounted read-only.
    let is_read_only = written.round.walked.as_ref().is_some_and(|walked| walked.read_only);
    let engine = if changed.mount.is_err() && is_read_only { &recovered } else { &changed };
    agree(row, written, engine).context("mounted to be written")?;
    ensure!(!read.changed, "a read-only mount wrote");
    let is_worse = written.is_worse() && !EXCUSED.contains(&row.name.as_str());
    ensure!(!is_worse, "{:?} before, {:?} after", written.before, written.after);
    Ok(())
}

fn unpack(row: &Row, directory: &Path) -> Result<PathBuf> {
    let image = directory.join("image");
    shared::unpack(&row.packed, &image)?;
    Ok(image)
}

/// Has `mount` serve fresh copies of the image, first to read and then to write.
fn both(
    row: &Row,
    before: Verdict,
    directory: &Path,
    mount: fn(&Path, &Path, bool) -> Result<Round>,
) -> Result<Pair> {
    let one = |written: bool| -> Result<Judged> {
        let image = unpack(row, directory)?;
        let fresh = directory.join("fresh");
        shared::unpack(&row.packed, &fresh)?;
        let round = mount(&image, directory, written)?;
        let changed = differs(&image, &fresh)?;
        // What cannot be checked cannot become worse.
        let is_checked = changed && before < Verdict::Uncheckable;
        let after = if is_checked { verdict::of(&image, row.is_dirty)? } else { before };
        Ok(Judged { round, before, after, changed })
    };
    Ok([one(false)?, one(true)?])
}

/// Whether `image` has become another one. It does not stay longer than a device could become.
fn differs(image: &Path, fresh: &Path) -> Result<bool> {
    let len = std::fs::metadata(fresh)?.len();
    if std::fs::metadata(image)?.len() != len {
        OpenOptions::new().write(true).open(image)?.set_len(len)?;
        return Ok(true);
    }
    let compared = command::run(Command::new("cmp").arg("-s").arg(image).arg(fresh))?;
    Ok(!compared.status.success())
}

/// Fails unless a mount of ours is what the engine makes of the image in one process.
fn agree(row: &Row, judged: &Judged, engine: &Outcome) -> Result<()> {
    let walked = match (&judged.round.fate, &judged.round.walked) {
        (Fate::Refused, _) if engine.mount.is_err() => return Ok(()),
        (Fate::Served, Some(walked)) if engine.mount.is_ok() => walked,
        (fate, _) => anyhow::bail!("{fate:?}, in one process {:?}", engine.mount),
    };
    // A directory with two places: the kernel itself sees to it that it has one.
    let is_bent = walked.loops || engine.errors.contains_key("dirloop");
    if is_bent || BENT.iter().any(|(name, _)| *name == row.name) {
        return Ok(());
    }
    // Who ran out of time has not met all.
    if !walked.complete || !engine.complete {
        return Ok(());
    }
    // Names that an index does not lead to: the kernel knows those that READDIRPLUS told it.
    let (mut here, mut there) = (walked.errnos.clone(), engine.errnos.clone());
    let [lost, most] = [&mut here, &mut there]
        .map(|errnos| errnos.remove(&Errno::NOENT.raw_os_error()).unwrap_or(0));
    ensure!(here == there && lost <= most, "errnos {here:?}, in one process {there:?}");
    // Of a file with a bad block the kernel reads what is before it in other pieces.
    if here.is_empty() && most == 0 {
        ensure!(walked.digest == engine.digest, "it shows another tree than in one process");
    }
    Ok(())
}
