//! Numbers and text as a page shows them.

/// `text` for HTML, inside of elements and of quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            '\'' => escaped += "&#39;",
            other => escaped.push(other),
        }
    }
    escaped
}

/// A part of 1, such as an accuracy.
pub(super) fn percent(part: f64) -> String {
    format!("{:.2} %", 100.0 * part)
}

/// A count: whole below 100,000, then three figures with a prefix.
pub(super) fn count(x: f64) -> String {
    if x.abs() < 1e5 {
        return format!("{x:.0}");
    }
    let (scaled, prefix) = [(1e12, "T"), (1e9, "G"), (1e6, "M")]
        .into_iter()
        .find(|(unit, _)| x.abs() >= 0.9995 * unit)
        .map_or((x / 1e3, "k"), |(unit, prefix)| (x / unit, prefix));
    let decimals = if scaled.abs() < 9.995 { 2 } else { usize::from(scaled.abs() < 99.95) };
    format!("{scaled:.decimals$} {prefix}")
}

/// A duration in milliseconds.
pub(super) fn milliseconds(x: f64) -> String {
    let decimals = if x < 10.0 { 2 } else { 1 };
    format!("{x:.decimals$} ms")
}

/// A number whose size matters, not its figures.
pub(super) fn scientific(x: f64) -> String {
    if x == 0.0 { "0".to_owned() } else { format!("{x:.1e}") }
}

/// Seconds as hours, minutes and seconds.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// Bytes as base64 (RFC 4648), padded.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(chunk.get(i).copied().unwrap_or(0)));
        for i in 0..4 {
            let letter = ALPHABET[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keep_three_figures() {
        for (x, shown) in [
            (0.0, "0"),
            (99_999.0, "99999"),
            (272_186.0, "272 k"),
            (999_700.0, "1.00 M"),
            (41_214_464.0, "41.2 M"),
            (5e9, "5.00 G"),
        ] {
            assert_eq!(count(x), shown);
        }
    }

    #[test]
    fn base64_as_in_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(12.34), "12.3 s");
        assert_eq!(duration(132.9), "2 min 12 s");
        assert_eq!(duration(7265.0), "2 h 1 min");
    }

    #[test]
    fn escapes_what_html_means() {
        assert_eq!(
            escape("<a href='x'>&\"b\"</a>"),
            "&lt;a href=&#39;x&#39;&gt;&amp;&quot;b&quot;&lt;/a&gt;"
        );
    }
}
