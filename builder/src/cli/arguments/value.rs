//! Values with a unit: times and sizes.

use std::time::Duration;

/// A time with a unit: `90s`, `20m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let seconds_each = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(format!("`{unit}` is no unit of time: use s, m, h or d")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a duration is a whole number and a unit: 90s, 20m, 1h".to_owned())?;
    number
        .checked_mul(seconds_each)
        .map(Duration::from_secs)
        .ok_or_else(|| "too long".to_owned())
}

/// A time longer than nothing.
pub(in crate::cli) fn positive_duration(text: &str) -> Result<Duration, String> {
    duration(text).and_then(|found| {
        if found.is_zero() {
            Err("it must be longer than nothing".to_owned())
        } else {
            Ok(found)
        }
    })
}

/// A build's own processes need some memory before anything runs.
pub(in crate::cli) fn memory(text: &str) -> Result<u64, String> {
    const LEAST: u64 = 16 << 20;
    size(text).and_then(|found| {
        if found < LEAST {
            Err("it must be at least 16M".to_owned())
        } else {
            Ok(found)
        }
    })
}

/// Processors, in hundredths of one: `2`, `0.5`.
pub(in crate::cli) fn processors(text: &str) -> Result<u64, String> {
    let wrong = || "processors are a number with at most two decimals: 2, 0.5".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 6 || part.len() > 2 || !is_number(whole) || !is_number(part) {
        return Err(wrong());
    }
    let hundredths: u64 = format!("{whole}{part:0<2}").parse().map_err(|_| wrong())?;
    if hundredths == 0 {
        return Err("it must be more than nothing".to_owned());
    }
    Ok(hundredths)
}

/// Bytes with a unit: `512M`, `4G`.
pub(in crate::cli) fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let shift = match unit.trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return Err(format!("`{unit}` is no unit of size: use K, M, G or T")),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "a size is a whole number and a unit: 512M, 4G".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "too large".to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_have_two_decimals() {
        assert_eq!(processors("2"), Ok(200));
        assert_eq!(processors("0.5"), Ok(50));
        assert_eq!(processors("1.25"), Ok(125));
        for text in ["", ".5", "0", "0.00", "1.255", "-1", "x", "9999999"] {
            assert!(processors(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("20m"), Ok(Duration::from_secs(1200)));
        assert!(
            duration("1w").is_err() && duration("m").is_err() && duration("99999999999999999999s").is_err()
        );
        assert_eq!(size("4G"), Ok(4 << 30));
        assert_eq!(size("512MiB"), Ok(512 << 20));
        assert!(size("1X").is_err() && size("").is_err() && size("99999999T").is_err());
    }
}
