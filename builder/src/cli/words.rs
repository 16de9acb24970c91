//! How numbers and receipts read: bytes, seconds, and the summary at a build's end.

use std::fmt::Write as _;
use std::time::Duration;

use crate::events::Unit;
use crate::model::phase::Phase;
use crate::model::receipt::LayerOutcome;
use crate::model::receipt::LayerReceipt;
use crate::model::receipt::Receipt;

/// Bytes as a person reads them: `512 B`, `4.2 MB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{count} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// So much of something as a person reads it: `4.2 MB`, `310 packages`.
pub fn amount(count: u64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => bytes(count),
        Unit::Objects => format!("{count} objects"),
        Unit::Packages => format!("{count} packages"),
    }
}

/// A duration as a person reads it: `8 ms`, `1.4 s`, `2 m 05 s`.
pub fn seconds(elapsed: Duration) -> String {
    if elapsed < Duration::from_secs(1) {
        format!("{} ms", elapsed.as_millis())
    } else if elapsed < Duration::from_secs(60) {
        format!("{:.1} s", elapsed.as_secs_f64())
    } else {
        format!("{} m {:02} s", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
    }
}

/// What is printed when a build has succeeded: layers, where the time went, outputs and digest.
pub fn summary(receipt: &Receipt, elapsed: Duration) -> String {
    let mut text = String::new();
    if receipt.unchanged {
        line(
            &mut text,
            &format!("nothing changed: the image is as it was ({})", seconds(elapsed)),
        );
    } else {
        line(&mut text, "layers");
        for layer in &receipt.layers {
            line(&mut text, &layer_line(layer));
        }
        line(
            &mut text,
            &format!("time   {} in all: {}", seconds(elapsed), phases(&receipt.phases)),
        );
    }
    for output in &receipt.outputs {
        line(&mut text, &format!("image  {output}"));
    }
    line(&mut text, &format!("digest {}", receipt.digest));
    text
}

fn layer_line(layer: &LayerReceipt) -> String {
    let outcome = match layer.outcome {
        LayerOutcome::Added => "added",
        LayerOutcome::Reused => "reused",
        LayerOutcome::Base => "base",
    };
    let hex = layer.diff_id.0.hex();
    format!(
        "  {outcome:<6} {:>9}  {}  {}",
        bytes(layer.size),
        &hex[..12],
        layer.name
    )
}

fn phases(phases: &[(Phase, Duration)]) -> String {
    let each: Vec<String> = phases
        .iter()
        .map(|(phase, elapsed)| format!("{phase} {}", seconds(*elapsed)))
        .collect();
    each.join(", ")
}

fn line(text: &mut String, content: &str) {
    // Writing to a String cannot fail.
    let _infallible = writeln!(text, "{content}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_seconds_are_short() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_999, "1.0 MB"),
            (4_200_000, "4.2 MB"),
        ] {
            assert_eq!(bytes(count), text);
        }
        for (elapsed, text) in [(8, "8 ms"), (1400, "1.4 s"), (125_000, "2 m 05 s")] {
            assert_eq!(seconds(Duration::from_millis(elapsed)), text);
        }
    }
}
