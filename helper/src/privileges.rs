//! Drops every capability that a mount does not need, before anything else happens.
//!
//! Kept, with reasons; all of them end with this process:
//! SYS_ADMIN: fsopen, fsmount, move_mount, loop devices, FUSE on block devices.
//! DAC_READ_SEARCH: the source, the directory and the server program may lie where root has no
//! entry of its own.
//! DAC_OVERRIDE: an image to be written may belong to someone else, as for every mount by root.
//! SETUID, SETGID: only to map an unused uid into the namespace of a server that we start.
//! KILL: to end a server that misbehaved, whatever uid systemd gave it.
//! SYS_RESOURCE: a server that we start can write its file system out when memory is short
//! (PR_SET_IO_FLUSHER), hears of that sooner (PSI triggers), and is not the first to be killed for it.

use caps::{CapSet, Capability, CapsHashSet};

use crate::report::Failure;

const KEPT: [Capability; 7] = [
    Capability::CAP_SYS_ADMIN,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_SETUID,
    Capability::CAP_SETGID,
    Capability::CAP_KILL,
    Capability::CAP_SYS_RESOURCE,
];

/// To ask how mounts are doing: their roots may be directories that root has no entry of its own to.
const KEPT_TO_ASK: [Capability; 1] = [Capability::CAP_DAC_READ_SEARCH];

/// Leaves at most [`KEPT`] in every set; what was not there before does not appear.
pub(crate) fn drop_unneeded() -> Result<(), Failure> {
    keep(&KEPT)
}

/// The same with [`KEPT_TO_ASK`].
pub(crate) fn drop_all_but_to_ask() -> Result<(), Failure> {
    keep(&KEPT_TO_ASK)
}

fn keep(kept: &[Capability]) -> Result<(), Failure> {
    drop_all_but(&kept.iter().copied().collect())
        .map_err(|error| Failure::system(format!("cannot give up capabilities: {error}")))
}

fn drop_all_but(kept: &CapsHashSet) -> Result<(), caps::errors::CapsError> {
    let has = |set| caps::read(None, set);
    // The bounding set first: dropping from it takes SETPCAP, which goes below.
    if has(CapSet::Effective)?.contains(&Capability::CAP_SETPCAP) {
        for capability in has(CapSet::Bounding)?.difference(kept) {
            caps::drop(None, CapSet::Bounding, *capability)?;
        }
    }
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    let effective = has(CapSet::Effective)?.intersection(kept).copied().collect();
    caps::set(None, CapSet::Effective, &effective)?;
    let permitted = has(CapSet::Permitted)?.intersection(kept).copied().collect();
    caps::set(None, CapSet::Permitted, &permitted)?;
    Ok(())
}
