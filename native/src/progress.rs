//! What is said and where: results on stdout, progress and notes on stderr.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use centripetal::device::{DeviceInfo, DeviceKind};
use centripetal::{Error, ErrorKind, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::args::Common;

/// Where text goes, by `--json` and `--quiet`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    json: bool,
    quiet: bool,
    terminal: bool,
}

impl Console {
    pub(crate) fn new(common: &Common) -> Self {
        Console { json: common.json, quiet: common.quiet, terminal: std::io::stderr().is_terminal() }
    }

    /// A line that can be missed, on stderr.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            line(&mut std::io::stderr(), text);
        }
    }

    /// A line that should not be missed, on stderr.
    pub(crate) fn warn(&self, text: &str) {
        self.note(&format!("warning: {text}"));
    }

    /// Says where is computed and why.
    pub(crate) fn device(&self, info: &DeviceInfo) {
        self.note(&format!("device: {}", describe(info)));
    }

    /// The result of a command that writes files, on stdout: `document` with `--json`, else `text` unless `--quiet`.
    ///
    /// # Errors
    /// When the document cannot be written as JSON.
    pub(crate) fn result(&self, text: &str, document: &impl Serialize) -> Result<()> {
        if self.quiet && !self.json { Ok(()) } else { self.answer(text, document) }
    }

    /// What a command was asked for, on stdout, quiet or not: `document` with `--json`, else `text`.
    ///
    /// # Errors
    /// When the document cannot be written as JSON.
    pub(crate) fn answer(&self, text: &str, document: &impl Serialize) -> Result<()> {
        let json;
        let text = if self.json {
            json = to_json(document)?;
            &json
        } else {
            text
        };
        line(&mut std::io::stdout(), text.trim_end());
        Ok(())
    }

    /// A bar of `length` steps, `start` of them done; hidden when there is nobody to see it.
    pub(crate) fn bar(&self, length: u64, start: u64) -> ProgressBar {
        const REDRAWS_A_SECOND: u8 = 10;
        let target = if self.quiet || !self.terminal {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(REDRAWS_A_SECOND)
        };
        let bar = ProgressBar::with_draw_target(Some(length), target).with_position(start);
        if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:20} {percent:>3}%  {msg}  {eta} left")
        {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_secs(1));
        bar
    }

    /// A line between a bar's redraws, or alone where the bar is hidden.
    pub(crate) fn above(&self, bar: &ProgressBar, text: &str) {
        if bar.is_hidden() {
            self.note(text);
        } else {
            bar.println(text);
        }
    }
}

/// A reader that has gone away (`centripetal info | head`) is no failure of ours.
fn line(stream: &mut dyn Write, text: &str) {
    let _ = writeln!(stream, "{text}");
    let _ = stream.flush();
}

/// A device in one line.
pub(crate) fn describe(info: &DeviceInfo) -> String {
    let kind = match info.kind {
        DeviceKind::SoftwareGpu => " in software",
        DeviceKind::Cpu | DeviceKind::Gpu => "",
    };
    format!("{} ({}; {}){kind}: {}", info.name, info.backend, info.driver, info.reason)
}

/// Indented JSON.
///
/// # Errors
/// When the document cannot be written as JSON.
pub(crate) fn to_json(document: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(document)
        .map_err(|error| Error::new(ErrorKind::Format, "writing JSON").found(error))
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in three digits with its unit: `41.3 M`.
pub(crate) fn scaled(number: u64) -> String {
    let value = number as f64;
    match number {
        0..10_000 => grouped(number),
        10_000..1_000_000 => format!("{:.1} k", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", value / 1e6),
        _ => format!("{:.2} G", value / 1e9),
    }
}

/// Bytes in KiB, MiB or GiB.
pub(crate) fn bytes(number: u64) -> String {
    let value = number as f64;
    match number {
        0..1024 => format!("{number} B"),
        1024..1_048_576 => format!("{:.1} KiB", value / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", value / 1_048_576.0),
        _ => format!("{:.2} GiB", value / 1_073_741_824.0),
    }
}

/// A part as a percentage with two digits after the point.
pub(crate) fn percent(part: f64) -> String {
    format!("{:.2} %", part * 100.0)
}

/// Seconds as `12 s` or `3 min 20 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..120 => format!("{seconds:.0} s"),
        120..7200 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole / 60 % 60),
    }
}

/// Rows as text in columns: the first flush left, the others flush right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &if index == 0 { format!("{cell:<width$}") } else { format!("   {cell:>width$}") };
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([9_999, 41_300_000, 4_089_000_000].map(scaled), ["9,999", "41.3 M", "4.09 G"]);
        assert_eq!([12, 2048, 5 << 20].map(bytes), ["12 B", "2.0 KiB", "5.0 MiB"]);
        assert_eq!([0.4, 119.0, 200.0, 7260.0].map(duration), ["0 s", "119 s", "3 min 20 s", "2 h 1 min"]);
        assert_eq!(percent(0.91234), "91.23 %");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["".into(), "before".into()], vec!["MACs".into(), "1".into()]];
        assert_eq!(table(&rows), "       before\nMACs        1\n");
    }
}
