//! Medians, and how they are printed.

use std::time::Duration;

/// Times of the same thing, made again and again.
#[derive(Debug, Clone)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    /// Of at least one time.
    pub(crate) fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// In milliseconds.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.get(middle) {
            None => f64::NAN,
            Some(upper) if self.0.len() % 2 == 1 => milliseconds(*upper),
            Some(upper) => f64::midpoint(milliseconds(self.0[middle - 1]), milliseconds(*upper)),
        }
    }

    /// The shortest, in milliseconds.
    pub(crate) fn best(&self) -> f64 {
        self.0.first().map_or(f64::NAN, |time| milliseconds(*time))
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The heading of one part.
pub(crate) fn heading(part: char, text: &str) {
    println!("\n({part}) {text}");
}

/// A line of times with what its median is measured by: a target or another program's median.
pub(crate) fn times(name: &str, times: &Times, beside: Option<(&str, f64)>) {
    let ratio = beside.map_or_else(String::new, |(what, other)| {
        format!("{:6.2} × {what}", times.median() / other)
    });
    println!(
        "    {name:<48} {:9.1} ms   best {:8.1}   {ratio}",
        times.median(),
        times.best()
    );
}

/// A line of a rate with what it is measured by.
pub(crate) fn rate(name: &str, bytes: u64, times: &Times, note: &str, beside: Option<(&str, f64)>) {
    let ratio = beside.map_or_else(String::new, |(what, other)| {
        format!("{:6.2} × as fast as {what}", other / times.median())
    });
    println!(
        "    {name:<48} {:6.2} s  best {:5.2} s {:5.0} MB/s  {note:<7} {ratio}",
        times.median() / 1e3,
        times.best() / 1e3,
        megabytes(bytes) / (times.median() / 1e3),
    );
}

/// Any other line.
pub(crate) fn line(name: &str, value: &str) {
    println!("    {name:<48} {value}");
}

/// Bytes in MB of a million.
#[expect(clippy::cast_precision_loss, reason = "a size to print, far below 2^52 bytes")]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
