//! Host names as the policy sees them: their one form, what is below what, and the names that are never public.

/// Names under which clouds answer with the machine's credentials. A name below one of these is refused as well.
pub(super) const METADATA_NAMES: [&str; 7] = [
    "metadata",
    "metadata.google.internal",
    "metadata.goog",
    "metadata.tencentyun.com",
    "metadata.packet.net",
    "instance-data",
    "instance-data.ec2.internal",
];

/// Suffixes that are never public (RFC 6761, 6762, 8375, ICANN's `internal`, Kubernetes): not asked of an upstream
/// proxy, which resolves by itself.
pub(super) const PRIVATE_SUFFIXES: [&str; 8] = [
    "localhost",
    "local",
    "localdomain",
    "internal",
    "home.arpa",
    "intranet",
    "lan",
    "svc",
];

/// The one form in which a host name is compared, kept and sent on: lower case, without a final dot. None if it is not
/// a host name (letters, digits, `-` and `_` in labels of 1 to 63 bytes, 253 bytes in all).
pub fn normal_name(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label_is_plain = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let is_plain = name.len() <= 253 && name.split('.').all(label_is_plain);
    is_plain.then(|| name.to_ascii_lowercase())
}

/// Whether `name` is `domain` or below it.
pub(super) fn is_below(name: &str, domain: &str) -> bool {
    !domain.is_empty()
        && name
            .strip_suffix(domain)
            .is_some_and(|front| front.is_empty() || front.ends_with('.'))
}

/// `*.Corp.Example.` and `.corp.example` mean `corp.example`.
pub(super) fn plain_suffix(written: &str) -> String {
    written
        .trim_start_matches('*')
        .trim_matches('.')
        .to_ascii_lowercase()
}

/// `127.1`, `0x7f.1` and `2130706433` are addresses to many programs, though no address to Rust's parser.
pub(super) fn ends_in_a_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    let is_hexadecimal = last
        .strip_prefix("0x")
        .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    is_hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit())
}
