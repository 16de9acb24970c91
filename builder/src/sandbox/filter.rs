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

use crate::sandbox::syscalls;

/// Both filters, ready to be installed.
pub(crate) struct Filters {
    known: BpfProgram,
    refused: BpfProgram,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Filters {
    /// Compiles both; 0.1 ms.
    pub(crate) fn compile() -> Result<Self, String> {
        Ok(Self {
            known: compile(
                known_calls(),
                SeccompAction::Errno(errno(libc::ENOSYS)),
                SeccompAction::Allow,
            )?,
            refused: compile(
                refused_calls().map_err(|error| error.to_string())?,
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

fn refused_calls() -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = syscalls::REFUSED.iter().map(|call| (*call, Vec::new())).collect();
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
    // Unix, IPv4, IPv6 and routing; no packet, vsock, crypto or XDP sockets.
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    rules.insert(
        libc::SYS_socket,
        vec![none_of(
            0,
            &families.map(|family| u64::from(family.unsigned_abs())),
        )?],
    );
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
    // Plain Linux, with and without address randomisation, and asking which one it is.
    let personalities = [0, 0x0008, 0x0004_0000, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
    rules.insert(libc::SYS_personality, vec![none_of(0, &personalities)?]);
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
        let filters = Filters::compile().unwrap();
        assert!(filters.known.len() < 4096 && filters.refused.len() < 4096);
    }

    #[test]
    fn no_call_is_both_allowed_and_refused() {
        for call in syscalls::ALLOWED {
            assert!(!syscalls::REFUSED.contains(call), "{call}");
        }
        assert!(!syscalls::ALLOWED.contains(&libc::SYS_clone3));
    }
}
