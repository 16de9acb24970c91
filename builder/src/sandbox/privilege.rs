//! Whom a process of the job becomes, and what of privilege it keeps: for the user's steps none, for root's a little.

use std::io;

use rustix::process::Gid;
use rustix::process::Uid;
use rustix::thread::CapabilitySet;
use rustix::thread::CapabilitySets;
use rustix::thread::UnshareFlags;

use crate::sandbox::identity::map_self;
use crate::sandbox::linux;
use crate::sandbox::message::Ids;
use crate::sandbox::message::Start;
use crate::sandbox::step::Step;
use crate::sandbox::step::StepError;

/// The highest capability that could exist.
const CAPABILITY_NUMBERS: u32 = 64;

/// Becomes the job's user: without capabilities, now and for ever, and without groups where there is a choice.
pub(crate) fn become_user(start: &Start) -> io::Result<()> {
    match start.ids {
        Ids::Mapped(_) | Ids::Outer => {
            drop_capabilities_for_ever(CapabilitySet::empty())?;
            change_ids(start.uid, start.gid, start.mark)?;
        }
        // The one id gets the user's number in a namespace of its own.
        Ids::Single => {
            linux::unshare(UnshareFlags::NEWUSER)?;
            map_self([start.uid, 0], [start.gid, 0])?;
            drop_capabilities_for_ever(CapabilitySet::empty())?;
        }
    }
    keep_capabilities(CapabilitySet::empty())
}

/// The same for the processes of file calls, which run nothing of the job and may keep their number.
pub(crate) fn become_user_for_files(start: &Start) -> io::Result<()> {
    drop_capabilities_for_ever(CapabilitySet::empty())?;
    if !matches!(start.ids, Ids::Single) {
        change_ids(start.uid, start.gid, start.mark)?;
    }
    keep_capabilities(CapabilitySet::empty())
}

/// Becomes root of the job, for a step that changes the image's own files. What it may do, it may do inside: to files of
/// the job's ids and to the job's processes. No capabilities on files (they would be real on the machine's disk), no
/// devices, no mounts, no settings of the network.
pub(crate) fn become_root(start: &Start) -> Result<(), StepError> {
    if !matches!(start.ids, Ids::Mapped(_)) {
        return Err(StepError {
            step: "run a step as root".to_owned(),
            why: "this rung has no range of ids for the job: its root would be packhorse's own user"
                .to_owned(),
            number: None,
        });
    }
    let kept = CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::SETGID
        | CapabilitySet::SETUID
        | CapabilitySet::NET_BIND_SERVICE;
    drop_capabilities_for_ever(kept)
        .and_then(|()| change_ids(0, 0, None))
        .map_err(io::Error::from)
        .and_then(|()| keep_capabilities(kept))
        .step(|| "become root of the job".to_owned())
}

fn drop_capabilities_for_ever(but: CapabilitySet) -> rustix::io::Result<()> {
    for number in 0..CAPABILITY_NUMBERS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if but.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // The kernel's last capability was the one before.
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    Ok(())
}

fn change_ids(uid: u32, gid: u32, mark: Option<u32>) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let groups: Vec<Gid> = mark.into_iter().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

fn keep_capabilities(kept: CapabilitySet) -> io::Result<()> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(rustix::thread::set_no_new_privs(true)?)
}
