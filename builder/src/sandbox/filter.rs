//! The two system call filters of a command: what is unknown does not exist, what is known and refused is forbidden.

use std::collections::BTreeMap;

use seccompiler::BpfProgram;
use seccompiler::SeccompAction;
use seccompiler::SeccompCmpArgLen;
use seccompiler::SeccompCmpOp;
use seccompiler::SeccompCondition;
use seccompiler::SeccompFilter;
use seccompiler::SeccompRule;
use seccompiler::TargetArch;

use crate::sandbox::ladder::Walls;
use crate::sandbox::syscalls;

/// Both filters, ready to be installed.
pub(crate) struct Filters {
    known: BpfProgram,
    refused: BpfProgram,
}

/// System V's and POSIX's IPC, which is the machine's where there is no namespace: refused there.
const MACHINES_IPC: &[i64] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Filters {
    /// Compiles both; 0.1 ms.
    pub(crate) fn compile(walls: Walls) -> Result<Self, String> {
        Ok(Self {
            known: compile(
                known_calls(),
                SeccompAction::Errno(errno(libc::ENOSYS)),
                SeccompAction::Allow,
            )?,
            refused: compile(
                refused_calls(walls).map_err(|error| error.to_string())?,
                SeccompAction::Allow,
                SeccompAction::Errno(errno(libc::EPERM)),
            )?,
        })
    }

    /// Installs both on this process; there is no way back. The refusing one last: of two answers the kernel gives the
    /// one of the filter that is newer.
    pub(crate) fn install(&self) -> Result<(), String> {
        seccompiler::apply_filter(&self.known).map_err(|error| error.to_string())?;
        seccompiler::apply_filter(&self.refused).map_err(|error| error.to_string())
    }
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

fn compile(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<BpfProgram, String> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter =
        SeccompFilter::new(rules, otherwise, matched, architecture).map_err(|error| error.to_string())?;
    BpfProgram::try_from(filter).map_err(|error| error.to_string())
}

/// Everything that passes the first filter: what is allowed, and what the second refuses. `clone3` is unknown, so that
/// the C library falls back to `clone`, whose flags can be looked at.
fn known_calls() -> Rules {
    syscalls::ALLOWED
        .iter()
        .chain(syscalls::REFUSED)
        .map(|call| (*call, Vec::new()))
        .collect()
}

fn refused_calls(walls: Walls) -> Result<Rules, seccompiler::BackendError> {
    let of_walls = match walls {
        Walls::Namespaces => [].as_slice(),
        Walls::Chroot => MACHINES_IPC,
    };
    let refused = syscalls::REFUSED.iter().chain(of_walls);
    let mut rules: Rules = refused.map(|call| (*call, Vec::new())).collect();
    let namespaces = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
    ];
    let with_flag = |flag: i32| {
        let bit = u64::from(flag.unsigned_abs());
        rule(vec![condition(
            0,
            SeccompCmpArgLen::Qword,
            SeccompCmpOp::MaskedEq(bit),
            bit,
        )?])
    };
    rules.insert(
        libc::SYS_clone,
        namespaces.into_iter().map(with_flag).collect::<Result<_, _>>()?,
    );
    rules.insert(libc::SYS_socket, refused_sockets(walls)?);
    if walls == Walls::Chroot {
        rules.extend(refused_sending()?);
    }
    // Typing into a terminal, for one; the kernel looks at the low 32 bits alone.
    let terminal = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD];
    let is_request = |request: libc::Ioctl| {
        rule(vec![condition(
            1,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::Eq,
            request & 0xffff_ffff,
        )?])
    };
    rules.insert(
        libc::SYS_ioctl,
        terminal.into_iter().map(is_request).collect::<Result<_, _>>()?,
    );
    // Limits of others: of init, who may have the same id, a limit of CPU seconds would end the job.
    rules.insert(libc::SYS_prlimit64, vec![none_of(0, &[0])?]);
    // Plain Linux, with and without address randomisation, and asking which one it is.
    let personalities = [0, 0x0008, 0x0004_0000, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
    rules.insert(libc::SYS_personality, vec![none_of(0, &personalities)?]);
    Ok(rules)
}

/// Unix, IPv4, IPv6 and routing; no packet, vsock, crypto or XDP sockets. Of a network that is the machine's, streams
/// alone, which Landlock can tell by their port.
fn refused_sockets(walls: Walls) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    const TYPE_MASK: u64 = 0xf;
    let number = |number: i32| u64::from(number.unsigned_abs());
    let internet = [libc::AF_INET, libc::AF_INET6].map(number);
    let mut families = internet.to_vec();
    families.push(number(libc::AF_UNIX));
    if walls == Walls::Namespaces {
        families.push(number(libc::AF_NETLINK));
        return Ok(vec![none_of(0, &families)?]);
    }
    let mut rules = vec![none_of(0, &families)?];
    // Landlock looks at TCP alone, and knows no other stream.
    for family in internet {
        let is = |argument, operator, value| condition(argument, SeccompCmpArgLen::Dword, operator, value);
        rules.push(rule(vec![
            is(0, SeccompCmpOp::Eq, family)?,
            is(2, SeccompCmpOp::Ne, 0)?,
            is(2, SeccompCmpOp::Ne, number(libc::IPPROTO_TCP))?,
        ])?);
    }
    let others = [
        libc::SOCK_DGRAM,
        libc::SOCK_RAW,
        libc::SOCK_RDM,
        libc::SOCK_SEQPACKET,
        libc::SOCK_DCCP,
    ];
    for family in internet {
        for kind in others.map(number) {
            rules.push(rule(vec![
                condition(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family)?,
                condition(
                    1,
                    SeccompCmpArgLen::Dword,
                    SeccompCmpOp::MaskedEq(TYPE_MASK),
                    kind,
                )?,
            ])?);
        }
    }
    Ok(rules)
}

/// Connections that are made while sending, at which Landlock does not look.
fn refused_sending() -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    for (call, flags) in [
        (libc::SYS_sendto, 3),
        (libc::SYS_sendmsg, 2),
        (libc::SYS_sendmmsg, 3),
    ] {
        let fast_open = u64::from(libc::MSG_FASTOPEN.unsigned_abs());
        let is_fast_open = condition(
            flags,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(fast_open),
            fast_open,
        )?;
        rules.insert(call, vec![rule(vec![is_fast_open])?]);
    }
    Ok(rules)
}

/// Matches when the low half of an argument is none of the values.
fn none_of(argument: u8, values: &[u64]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions = values
        .iter()
        .map(|value| condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value));
    rule(conditions.collect::<Result<_, _>>()?)
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions)
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, length, operator, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_filters_compile_within_the_kernels_length() {
        for walls in [Walls::Namespaces, Walls::Chroot] {
            let filters = Filters::compile(walls).unwrap();
            assert!(filters.known.len() < 4096 && filters.refused.len() < 4096);
        }
    }

    #[test]
    fn no_call_is_both_allowed_and_refused() {
        for call in syscalls::ALLOWED {
            assert!(!syscalls::REFUSED.contains(call), "{call}");
        }
        assert!(!syscalls::ALLOWED.contains(&libc::SYS_clone3));
        // Else a step down would allow more.
        for call in MACHINES_IPC {
            assert!(syscalls::ALLOWED.contains(call), "{call}");
        }
    }
}
