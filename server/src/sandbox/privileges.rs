//! User, groups and capabilities: all of them given up, and looked at again afterwards.

use std::io;

use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};

use super::{SandboxError, Step};

/// nobody and nogroup, which own no file worth having.
const NOBODY: u32 = 65534;

/// Gives up everything.
///
/// # Errors
/// Anything that would leave a privilege.
pub(super) fn drop_all() -> Result<(), SandboxError> {
    rustix::thread::set_no_new_privs(true).step("no_new_privs")?;
    drop_bounding().step("dropping the capability bounding set")?;
    if rustix::process::geteuid().is_root() {
        leave_root().step("changing to an unprivileged user")?;
    }
    // Neither ptrace(2) nor /proc/PID/mem for anyone but the host's root.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).step("dumpable")?;
    rustix::thread::clear_ambient_capability_set().step("dropping ambient capabilities")?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).step("dropping capabilities")?;
    verify().step("checking what is left")
}

/// Where CAP_SETPCAP is missing there is nothing to gain from the set: no_new_privs holds.
fn drop_bounding() -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that this kernel has no capability for.
            Err(Errno::INVAL) => break,
            Err(Errno::PERM) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// In a user namespace that maps one user only, that user is root in here and an ordinary one
/// outside: nobody is EINVAL then, and there is nothing to leave.
fn leave_root() -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    match rustix::thread::set_thread_groups(&[]) {
        // Denied where an ordinary user made the namespace.
        Ok(()) | Err(Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    for result in [
        rustix::thread::set_thread_res_gid(gid, gid, gid),
        rustix::thread::set_thread_res_uid(uid, uid, uid),
    ] {
        match result {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn verify() -> io::Result<()> {
    let sets = rustix::thread::capabilities(None)?;
    let left = sets.effective | sets.permitted | sets.inheritable;
    if !left.is_empty() || !rustix::thread::no_new_privs()? {
        return Err(io::Error::other("a privilege is left"));
    }
    Ok(())
}
