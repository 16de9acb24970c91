//! A limit in bytes as a person types it: `64 MiB`.

use std::fmt;

/// Bytes of a limit. Shown in the largest binary unit that says it exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let fits = |(shift, _): &&(u32, &str)| self.0 != 0 && self.0.trailing_zeros() >= *shift;
        match UNITS.iter().find(fits) {
            Some((shift, unit)) => write!(formatter, "{} {unit}", self.0 >> shift),
            None => write!(formatter, "{} bytes", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_reads_as_it_was_typed() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (1000, "1000 bytes"),
            (64 << 20, "64 MiB"),
            (1 << 40, "1 TiB"),
            ((1 << 30) + (1 << 10), "1048577 KiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
