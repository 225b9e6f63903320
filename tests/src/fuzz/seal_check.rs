//! Whether sealing does what mke2fs, the kernel and the engine do.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Result, ensure};

use super::bases::{ALL, Base, Bases, GOLDEN, LOGS, Make};
use super::layout::Kind;
use super::overlay::Overlay;

/// Kinds of metadata that the images have among them.
const KINDS: usize = 15;

/// Made right again, the checksums of sound images are what they were.
///
/// # Errors
/// The first piece of metadata that is another one.
pub fn sealing_changes_nothing() -> Result<()> {
    crate::shared::golden_directory()?;
    // What is home already may be older than its inode where a log is dirty: there the log counts.
    let whole: fn(Kind) -> bool = |_| true;
    for (makes, is_sealed) in [(ALL, whole), (GOLDEN, whole), (LOGS, |kind| kind == Kind::Log)] {
        let bases = Bases::new(makes);
        for (which, make) in makes.iter().enumerate() {
            // The last transaction of these was never committed, and has no right sums.
            if matches!(make, Make::Golden(name) if name.starts_with("dj-db-")) {
                continue;
            }
            let Base { image, layout } = bases.get(which);
            let device = Overlay::new(Arc::clone(image));
            let pieces = layout.pieces.iter().enumerate();
            let sealed = pieces.filter(|(_, piece)| is_sealed(piece.kind)).map(|(index, _)| index);
            layout.seal(&device, &sealed.collect());
            let contents = device.contents();
            let mut pages = image.chunks(1024).zip(contents.chunks(1024));
            let changed = pages.position(|(old, new)| old != new).map(|page| page * 1024);
            let piece =
                changed.map(|at| layout.pieces.iter().find(|piece| piece.place.contains(&at)));
            ensure!(piece.is_none(), "{make:?}: {piece:?}");
        }
    }
    Ok(())
}

/// Whatever an image can have is open to edits in one of them.
///
/// # Errors
/// Which kinds of metadata there are, if some are missing.
pub fn all_metadata_are_found() -> Result<()> {
    let bases = Bases::new(ALL);
    let pieces = (0..bases.count()).flat_map(|which| bases.get(which).layout.pieces.clone());
    let found: BTreeSet<_> = pieces.map(|piece| word(piece.kind)).collect();
    ensure!(found.len() == KINDS, "{found:?}");
    Ok(())
}

/// A kind without its numbers.
fn word(kind: Kind) -> String {
    format!("{kind:?}").chars().take_while(|c| c.is_alphabetic()).collect()
}
