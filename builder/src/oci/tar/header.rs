//! The header of one entry as bytes: ustar, with a PAX header before it where ustar cannot say it (cnb §5.3).

use crate::model::timestamp::Timestamp;

/// The size of a tar block in bytes.
pub const BLOCK_BYTES: usize = 512;
const NAME_BYTES_MAX: usize = 100;
const PREFIX_BYTES_MAX: usize = 155;

/// One entry of a tar, without its contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name as it is written; absolute and without a final slash in layers. Any bytes but NUL.
    pub path: Vec<u8>,
    /// What the entry is.
    pub kind: Kind,
    /// Permission, set-id and sticky bits; other bits are not written.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The time of last modification.
    pub mtime: Timestamp,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// The length of its contents in bytes.
        size: u64,
    },
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The target, as it stands in the link.
        target: Vec<u8>,
    },
    /// A second name of an entry before it.
    Hardlink {
        /// The name of that entry.
        target: Vec<u8>,
    },
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
}

impl Kind {
    fn type_flag(&self) -> u8 {
        match self {
            Self::File { .. } => b'0',
            Self::Hardlink { .. } => b'1',
            Self::Symlink { .. } => b'2',
            Self::CharDevice { .. } => b'3',
            Self::BlockDevice { .. } => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
        }
    }

    fn target(&self) -> &[u8] {
        match self {
            Self::Symlink { target } | Self::Hardlink { target } => target,
            _ => b"",
        }
    }

    fn size(&self) -> u64 {
        match self {
            Self::File { size } => *size,
            _ => 0,
        }
    }

    fn device(&self) -> (u32, u32) {
        match self {
            Self::CharDevice { major, minor } | Self::BlockDevice { major, minor } => (*major, *minor),
            _ => (0, 0),
        }
    }
}

/// Appends the header of an entry to `output`: one block, or a PAX header with its records and then one block.
pub fn encode(header: &Header, output: &mut Vec<u8>) {
    let records = pax_records(header);
    let (prefix, name) = match split_name(&header.path) {
        Some(parts) if records.is_empty() => parts,
        _ => (&b""[..], &header.path[..]),
    };
    if !records.is_empty() {
        encode_pax(&header.path, &records, output);
    }
    let (major, minor) = header.kind.device();
    let mut block = [0; BLOCK_BYTES];
    if records.is_empty() {
        put_text(&mut block[0..100], name);
        put_text(&mut block[157..257], header.kind.target());
    } else {
        put_text(&mut block[0..100], &ascii_only(name));
        put_text(&mut block[157..257], &ascii_only(header.kind.target()));
    }
    put_octal(&mut block[100..108], u64::from(header.mode & 0o7777));
    put_octal(&mut block[108..116], u64::from(header.uid));
    put_octal(&mut block[116..124], u64::from(header.gid));
    put_octal(&mut block[124..136], header.kind.size());
    put_octal(&mut block[136..148], u64::try_from(header.mtime.0).unwrap_or(0));
    block[156] = header.kind.type_flag();
    put_octal(&mut block[329..337], u64::from(major));
    put_octal(&mut block[337..345], u64::from(minor));
    put_text(&mut block[345..500], prefix);
    seal(&mut block);
    output.extend_from_slice(&block);
}

/// The fields that ustar cannot hold, sorted by key. A name over 100 bytes has a record whenever there is any other,
/// even if ustar could split it; alone it has none then.
fn pax_records(header: &Header) -> Vec<(&'static str, Vec<u8>)> {
    let mut records = Vec::new();
    let mut needed = false;
    let mut add_number = |key, value: u64, width: u32| {
        if value >= 1 << (3 * (width - 1)) {
            records.push((key, value.to_string().into_bytes()));
        }
    };
    add_number("gid", u64::from(header.gid), 8);
    add_number("size", header.kind.size(), 12);
    add_number("uid", u64::from(header.uid), 8);
    if !(0..1 << 33).contains(&header.mtime.0) {
        records.push(("mtime", header.mtime.0.to_string().into_bytes()));
    }
    let target = header.kind.target();
    if target.len() > NAME_BYTES_MAX || !target.is_ascii() {
        records.push(("linkpath", target.to_vec()));
    }
    needed |= !records.is_empty();
    if header.path.len() > NAME_BYTES_MAX || !header.path.is_ascii() {
        needed |= split_name(&header.path).is_none();
        records.push(("path", header.path.clone()));
    }
    records.sort_by_key(|(key, _)| *key);
    if needed { records } else { Vec::new() }
}

/// The prefix and the rest of a name that fits ustar's two fields: cut at the last slash that leaves at most 155
/// bytes of prefix, if at most 100 are left.
fn split_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME_BYTES_MAX || !path.is_ascii() {
        return None;
    }
    let searched = if path.len() > PREFIX_BYTES_MAX + 1 {
        PREFIX_BYTES_MAX + 1
    } else if path.ends_with(b"/") {
        path.len() - 1
    } else {
        path.len()
    };
    let slash = path[..searched].iter().rposition(|&byte| byte == b'/')?;
    let rest = &path[slash + 1..];
    let fits = slash > 0 && slash <= PREFIX_BYTES_MAX && (1..=NAME_BYTES_MAX).contains(&rest.len());
    fits.then_some((&path[..slash], rest))
}

fn encode_pax(path: &[u8], records: &[(&'static str, Vec<u8>)], output: &mut Vec<u8>) {
    let body: Vec<u8> = records
        .iter()
        .flat_map(|(key, value)| pax_record(key, value))
        .collect();
    let mut name = ascii_only(&pax_name(path));
    name.truncate(NAME_BYTES_MAX);
    while name.ends_with(b"/") {
        name.pop();
    }
    let mut block = [0; BLOCK_BYTES];
    put_text(&mut block[0..100], &name);
    for zero in [100..108, 108..116, 116..124, 136..148] {
        put_octal(&mut block[zero], 0);
    }
    put_octal(&mut block[124..136], body.len() as u64);
    block[156] = b'x';
    seal(&mut block);
    output.extend_from_slice(&block);
    output.extend_from_slice(&body);
    output.resize(output.len().next_multiple_of(BLOCK_BYTES), 0);
}

/// `DIR/PaxHeaders.0/BASE`, cleaned of empty components as Go's `path.Join` does.
fn pax_name(path: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|&byte| byte == b'/');
    let (directory, base) = slash.map_or((&b""[..], path), |slash| (&path[..slash], &path[slash + 1..]));
    let parts = directory
        .split(|&byte| byte == b'/')
        .chain([&b"PaxHeaders.0"[..], base]);
    let joined = parts
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(&b'/');
    if path.starts_with(b"/") {
        [b"/", &joined[..]].concat()
    } else {
        joined
    }
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let fixed = key.len() + value.len() + 3;
    let mut length = fixed + decimal_digits(fixed);
    length = fixed + decimal_digits(length);
    let mut record = format!("{length} {key}=").into_bytes();
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

fn decimal_digits(number: usize) -> usize {
    number.to_string().len()
}

fn ascii_only(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(u8::is_ascii).collect()
}

/// Cuts a text to its field. A cut that leaves a slash at the end of the field is ended before the slashes, since
/// some readers take such a name for a folder's.
fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
    if text.len() > field.len() && field.ends_with(b"/") {
        let kept = field
            .iter()
            .rposition(|&byte| byte != b'/')
            .map_or(0, |last| last + 1);
        field[kept] = 0;
    }
}

/// Octal digits and a NUL; zero if the number does not fit (a PAX record then has it).
fn put_octal(field: &mut [u8], number: u64) {
    let digits = field.len() - 1;
    let fits = number < 1 << (3 * digits);
    let text = format!("{:0digits$o}", if fits { number } else { 0 });
    field[..digits].copy_from_slice(text.as_bytes());
}

/// Writes the magic and, last, the checksum.
fn seal(block: &mut [u8; BLOCK_BYTES]) {
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    put_octal(&mut block[148..155], sum);
    block[154] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &[u8]) -> Header {
        let kind = Kind::File { size: 0 };
        Header {
            path: path.to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp::BUILDPACKS,
        }
    }

    #[test]
    fn a_record_counts_its_own_length() {
        assert_eq!(pax_record("path", b"x"), b"9 path=x\n");
        assert_eq!(pax_record("path", &[b'x'; 92]).len(), 102);
        assert!(pax_record("path", &[b'x'; 92]).starts_with(b"102 path="));
        assert!(pax_record("path", b"").starts_with(b"8 path="));
    }

    #[test]
    fn long_names_are_split_at_a_slash_or_written_as_a_record() {
        let splittable = [&b"/"[..], &[b'd'; 60], b"/", &[b'f'; 60]].concat();
        let mut bytes = Vec::new();
        encode(&file(&splittable), &mut bytes);
        assert_eq!(bytes.len(), BLOCK_BYTES);
        assert_eq!(&bytes[345..406], &splittable[..61]);

        let whole = [b'f'; 101];
        bytes.clear();
        encode(&file(&whole), &mut bytes);
        assert_eq!(bytes.len(), 3 * BLOCK_BYTES);
        assert_eq!(bytes[156], b'x');
    }

    #[test]
    fn numbers_that_do_not_fit_go_into_records() {
        let mut header = file(b"/big");
        header.kind = Kind::File { size: 1 << 33 };
        header.uid = 1 << 21;
        header.mtime = Timestamp(-1);
        let keys: Vec<_> = pax_records(&header).into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["mtime", "size", "uid"]);
    }

    #[test]
    fn a_cut_that_ends_in_a_slash_is_ended_before_it() {
        let name = [&[b'n'; 99][..], "/é".as_bytes()].concat();
        let mut bytes = Vec::new();
        encode(&file(&name), &mut bytes);
        let header = &bytes[bytes.len() - BLOCK_BYTES..];
        assert_eq!(
            &header[..100],
            &name[..100],
            "a name of 100 bytes after the filter is not cut"
        );

        let name = [&[b'n'; 99][..], b"/", &[b'm'; 200]].concat();
        bytes.clear();
        encode(&file(&name), &mut bytes);
        assert_eq!(bytes[bytes.len() - BLOCK_BYTES + 99], 0);
    }
}
