//! How many filters each layer keeps: exact ratios, rounding, and which layers a rule is about.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, ErrorKind, Result};

/// The part of a layer's filters that is kept: a reduced fraction over 0 and at most 1.
///
/// Serialised as its text, `"5/8"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ratio {
    numerator: u64,
    denominator: u64,
}

impl Ratio {
    /// Keep everything.
    pub const ONE: Ratio = Ratio { numerator: 1, denominator: 1 };

    /// The ratio `numerator / denominator`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] unless it is over 0 and at most 1.
    pub fn new(numerator: u64, denominator: u64) -> Result<Self> {
        Self::checked(numerator, denominator)
            .ok_or_else(|| Self::invalid("choosing what to keep", &format!("{numerator}/{denominator}")))
    }

    /// Reads `5/8`, `0.625` or `62.5%`; `flag` (`--keep`) says in the error where the text came from.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] unless the text is one of these and the value is over 0 and at most 1.
    pub fn parse(flag: &str, text: &str) -> Result<Self> {
        let text = text.trim();
        let value = if let Some((numerator, denominator)) = text.split_once('/') {
            digits(numerator.trim_end()).zip(digits(denominator.trim_start()))
        } else if let Some(percent) = text.strip_suffix('%') {
            decimal(percent.trim_end())
                .and_then(|(numerator, denominator)| Some((numerator, denominator.checked_mul(100)?)))
        } else {
            decimal(text)
        };
        value
            .and_then(|(numerator, denominator)| Self::checked(numerator, denominator))
            .ok_or_else(|| Self::invalid(&format!("{flag} {text}"), text))
    }

    /// The numerator, in lowest terms.
    pub fn numerator(&self) -> u64 {
        self.numerator
    }

    /// The denominator, in lowest terms.
    pub fn denominator(&self) -> u64 {
        self.denominator
    }

    fn checked(numerator: u64, denominator: u64) -> Option<Self> {
        if numerator == 0 || numerator > denominator {
            return None;
        }
        let divisor = greatest_common_divisor(numerator, denominator);
        Some(Ratio { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    fn invalid(doing: &str, found: &str) -> Error {
        Error::new(ErrorKind::Argument, doing)
            .expected("a fraction over 0 and at most 1")
            .found(if found.is_empty() { "nothing" } else { found })
            .next("Write the part of the filters to keep as 5/8, 0.625 or 62.5%.")
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

impl FromStr for Ratio {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Ratio::parse("the ratio", text)
    }
}

impl TryFrom<String> for Ratio {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Ratio> for String {
    fn from(ratio: Ratio) -> Self {
        ratio.to_string()
    }
}

/// Unlike `parse::<u64>` this takes no sign.
fn digits(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// `0.625` as `(625, 1000)`.
fn decimal(text: &str) -> Option<(u64, u64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let denominator = 10u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some((digits(&format!("{whole}{fraction}"))?, denominator))
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Which whole number a fraction of a width becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Down, as the official ResNet-56.
    #[default]
    Floor,
    /// Up, as the official ResNet-50.
    Ceil,
}

impl FromStr for Rounding {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "floor" => Ok(Rounding::Floor),
            "ceil" => Ok(Rounding::Ceil),
            _ => Err(Error::new(ErrorKind::Argument, "choosing how widths are rounded")
                .expected("floor or ceil")
                .found(format!("{text:?}"))),
        }
    }
}

/// The width of a layer of `channels` filters that keeps `ratio` of them, rounded to a multiple of `round_to`
/// (0 and 1: any width).
///
/// At least 1 and at least `round_to`, never above `channels`: a layer that is narrower than `round_to`, that
/// would have to round up past its own width, or whose ratio is 1 keeps its width.
pub fn target_width(channels: usize, ratio: &Ratio, rounding: Rounding, round_to: usize) -> usize {
    let unit = round_to.max(1);
    if *ratio == Ratio::ONE || channels <= unit {
        return channels;
    }
    let kept = channels as u128 * u128::from(ratio.numerator);
    // Saturating: a unit this large is wider than any layer and has already returned.
    let whole = u128::from(ratio.denominator).saturating_mul(unit as u128);
    let units = match rounding {
        Rounding::Floor => kept / whole,
        Rounding::Ceil => kept.div_ceil(whole),
    };
    let width = (units * unit as u128).clamp(unit as u128, channels as u128);
    usize::try_from(width).unwrap_or(channels)
}

/// What one line of a widths file asks of a layer. Serialised as the file writes it: `10` or `"5/8"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WidthSpec {
    /// Exactly so many filters, whatever `round_to` says.
    Width(usize),
    /// This part of the filters, rounded.
    Keep(Ratio),
}

impl WidthSpec {
    /// Reads a whole number as a width and anything else as a ratio; `flag` as in [`Ratio::parse`].
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] for width 0 and for what is neither.
    pub fn parse(flag: &str, text: &str) -> Result<Self> {
        match digits(text) {
            Some(0) => Err(Error::new(ErrorKind::Argument, format!("{flag} {text}"))
                .expected("a width of at least 1, or a ratio such as 5/8")
                .found("0")),
            Some(width) if usize::try_from(width).is_ok() => Ok(WidthSpec::Width(width as usize)),
            _ => Ratio::parse(flag, text).map(WidthSpec::Keep),
        }
    }
}

impl fmt::Display for WidthSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WidthSpec::Width(width) => width.fmt(f),
            WidthSpec::Keep(ratio) => ratio.fmt(f),
        }
    }
}

impl Serialize for WidthSpec {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            WidthSpec::Width(width) => width.serialize(serializer),
            WidthSpec::Keep(ratio) => ratio.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for WidthSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct SpecVisitor;

        impl Visitor<'_> for SpecVisitor {
            type Value = WidthSpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a width (10) or a ratio (\"5/8\")")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<WidthSpec, E> {
                WidthSpec::parse("the width", text).map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, width: u64) -> std::result::Result<WidthSpec, E> {
                self.visit_str(&width.to_string())
            }

            fn visit_f64<E: de::Error>(self, ratio: f64) -> std::result::Result<WidthSpec, E> {
                // `Debug` writes 1.0 with its point, so that it stays a ratio.
                self.visit_str(&format!("{ratio:?}"))
            }
        }

        deserializer.deserialize_any(SpecVisitor)
    }
}

/// Whether a group of coupled channels crosses the end of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupKind {
    /// Free: no residual sum ties it to other layers.
    Internal,
    /// The layers' outputs are added, so that all must keep the same channels.
    Tied,
}

/// The rule that gives every group of coupled layers its width.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WidthRule {
    /// `--keep`: the same part of every layer.
    All(Ratio),
    /// `--keep-internal`: this part of [`GroupKind::Internal`] groups, the rest stays.
    Internal(Ratio),
    /// `--widths`: by layer name, exact or with `*` for any run of characters; what no name matches stays.
    PerLayer(BTreeMap<String, WidthSpec>),
    /// By the group's place in [`crate::graph::Coupling::groups`]; what is not listed stays. For widths that are computed.
    Groups(BTreeMap<usize, usize>),
}

impl WidthRule {
    /// The width to keep of a group of `channels` channels that `layers` produce together.
    ///
    /// Of the names that match any layer of the group the most specific decides: an exact name, else the pattern
    /// with the most characters besides `*`.
    ///
    /// # Errors
    /// [`ErrorKind::Argument`] if a wanted width is above `channels`, or if two equally specific names want
    /// different widths of the group.
    pub fn width<S: AsRef<str>>(
        &self,
        layers: &[S],
        kind: GroupKind,
        channels: usize,
        rounding: Rounding,
        round_to: usize,
    ) -> Result<usize> {
        let specs = match (self, kind) {
            (WidthRule::All(ratio), _) | (WidthRule::Internal(ratio), GroupKind::Internal) => {
                return Ok(target_width(channels, ratio, rounding, round_to));
            }
            // Groups are known by their place, which `Clusters::find` looks up.
            (WidthRule::Internal(_), GroupKind::Tied) | (WidthRule::Groups(_), _) => return Ok(channels),
            (WidthRule::PerLayer(specs), _) => specs,
        };
        let mut chosen: Option<(usize, &str, usize)> = None;
        for (pattern, spec) in specs {
            if !layers.iter().any(|layer| matches(pattern, layer.as_ref())) {
                continue;
            }
            let width = match spec {
                WidthSpec::Width(width) if *width > channels => {
                    return Err(Error::new(ErrorKind::Argument, format!("{pattern} {spec}"))
                        .expected(format!("a width of 1 to {channels}, the layer's own"))
                        .found(width));
                }
                WidthSpec::Width(width) => *width,
                WidthSpec::Keep(ratio) => target_width(channels, ratio, rounding, round_to),
            };
            let rank = specificity(pattern);
            match chosen {
                Some((best, other, wanted)) if best == rank && wanted != width => {
                    let names: Vec<&str> = layers.iter().map(AsRef::as_ref).collect();
                    return Err(Error::new(ErrorKind::Argument, "giving coupled layers their width")
                        .expected(format!("one width for {}", names.join(", ")))
                        .found(format!("{wanted} by {other} and {width} by {pattern}"))
                        .next("Their outputs share channels, so give them the same width."));
                }
                Some((best, ..)) if best >= rank => {}
                _ => chosen = Some((rank, pattern, width)),
            }
        }
        Ok(chosen.map_or(channels, |(.., width)| width))
    }

    /// The first name of a [`WidthRule::PerLayer`] that gives any of `layers` a number of channels and not a part.
    pub fn absolute<S: AsRef<str>>(&self, layers: &[S]) -> Option<&str> {
        let WidthRule::PerLayer(specs) = self else { return None };
        let mut numbers = specs.iter().filter(|(_, spec)| matches!(spec, WidthSpec::Width(_)));
        let found = numbers.find(|(pattern, _)| layers.iter().any(|layer| matches(pattern, layer.as_ref())));
        found.map(|(pattern, _)| pattern.as_str())
    }

    /// The names of a [`WidthRule::PerLayer`] that match none of `layers`: misspelt, or of another model.
    pub fn unmatched<S: AsRef<str>>(&self, layers: &[S]) -> Vec<&str> {
        let WidthRule::PerLayer(specs) = self else { return Vec::new() };
        let unknown = |pattern: &&str| !layers.iter().any(|layer| matches(pattern, layer.as_ref()));
        specs.keys().map(String::as_str).filter(unknown).collect()
    }

    /// The rule in the text of a `--widths` file called `file`: either one `name width` a line with `#` comments,
    /// or a JSON object.
    ///
    /// ```text
    /// conv1            5/8
    /// layer1.*.conv1   10    # of 16
    /// ```
    /// ```json
    /// {"conv1": "5/8", "layer1.*.conv1": 10}
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Format`] or [`ErrorKind::Argument`], with the line, for anything else, for a name given twice
    /// and for a file without names.
    pub fn parse_file(file: &str, text: &str) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let specs = if text.trim_start().starts_with('{') {
            let Entries(specs) = serde_json::from_str(text).map_err(|error| {
                Error::new(ErrorKind::Format, format!("reading the widths in {file}")).found(error)
            })?;
            specs
        } else {
            parse_lines(file, text)?
        };
        if specs.is_empty() {
            return Err(Error::new(ErrorKind::Format, format!("reading the widths in {file}"))
                .expected("at least one layer name with its width")
                .found("none"));
        }
        Ok(WidthRule::PerLayer(specs))
    }
}

fn parse_lines(file: &str, text: &str) -> Result<BTreeMap<String, WidthSpec>> {
    let mut specs = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let place = format!("{file}, line {}:", index + 1);
        match words[..] {
            [] => {}
            [name, width] => {
                let spec = WidthSpec::parse(&place, width)?;
                if specs.insert(name.to_string(), spec).is_some() {
                    return Err(Error::new(ErrorKind::Format, format!("{place} {name}"))
                        .expected("every name once")
                        .found("it again"));
                }
            }
            _ => {
                return Err(Error::new(ErrorKind::Format, format!("{place} {}", line.trim()))
                    .expected("a layer name and a width, such as `layer1.*.conv1 10` or `conv1 5/8`")
                    .found(format!("{} words", words.len())));
            }
        }
    }
    Ok(specs)
}

/// A JSON object whose names may not repeat; a plain map would silently take the last.
struct Entries(BTreeMap<String, WidthSpec>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of layer names and widths")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
                let mut specs = BTreeMap::new();
                while let Some((name, spec)) = map.next_entry::<String, WidthSpec>()? {
                    if specs.contains_key(&name) {
                        return Err(de::Error::custom(format!("{name} is there twice")));
                    }
                    specs.insert(name, spec);
                }
                Ok(Entries(specs))
            }
        }

        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Exact names rank above all patterns, patterns by their characters besides `*`.
fn specificity(pattern: &str) -> usize {
    if pattern.contains('*') { pattern.bytes().filter(|&byte| byte != b'*').count() } else { usize::MAX }
}

/// Whether `name` is `pattern` with each `*` replaced by some run of characters, dots included.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((prefix, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(prefix) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let suffix = parts.pop().unwrap_or_default();
    for part in parts {
        // The earliest place leaves the most for the parts that follow.
        let Some(position) = name.find(part) else { return false };
        name = &name[position + part.len()..];
    }
    name.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ratio(text: &str) -> Ratio {
        text.parse().unwrap()
    }

    #[test]
    fn ratios_are_exact_and_reduced() {
        for text in ["5/8", "10/16", "0.625", ".625", "62.5%", " 5 / 8 ", "62.500 %"] {
            assert_eq!(ratio(text), Ratio { numerator: 5, denominator: 8 }, "{text}");
        }
        for text in ["1", "1.0", "100%", "7/7"] {
            assert_eq!(ratio(text), Ratio::ONE, "{text}");
        }
        assert_eq!(ratio("0.3").to_string(), "3/10");
        assert_eq!(Ratio::new(6, 9).unwrap().to_string(), "2/3");
    }

    #[test]
    fn ratios_that_cannot_be_are_refused() {
        assert_eq!(
            Ratio::parse("--keep", "9/8").unwrap_err().to_string(),
            "--keep 9/8: expected a fraction over 0 and at most 1, found 9/8. \
             Write the part of the filters to keep as 5/8, 0.625 or 62.5%."
        );
        let bad =
            "0 0/8 0% 0.0 1.01 101% 5/0 0/0 -1/2 -5/-8 +1/2 1/2/3 1/2% / % . half NaN inf 1e-1 0x1 5/8x";
        for text in bad.split(' ').chain(["", " ", "99999999999999999999/99999999999999999999"]) {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        assert!(format!("0.{}1", "0".repeat(400)).parse::<Ratio>().is_err());
        assert!(Ratio::new(3, 2).is_err() && Ratio::new(0, 2).is_err());
    }

    #[test]
    fn official_widths() {
        let widths = |text| [16, 32, 64].map(|c| target_width(c, &ratio(text), Rounding::Floor, 1));
        assert_eq!(widths("5/8"), [10, 20, 40]);
        assert_eq!(widths("13/16"), [13, 26, 52]);
        assert_eq!(widths("0.625"), [10, 20, 40]);
        assert_eq!(target_width(64, &ratio("70%"), Rounding::Ceil, 0), 45);
        assert_eq!(target_width(64, &ratio("70%"), Rounding::Floor, 0), 44);
        // 0.7 * 10 is 7.000000000000001 in some orders of floating-point arithmetic.
        assert_eq!(target_width(10, &ratio("0.7"), Rounding::Ceil, 1), 7);
    }

    #[test]
    fn rounding_to_multiples() {
        let width = |c, text, rounding, n| target_width(c, &ratio(text), rounding, n);
        assert_eq!(width(64, "5/8", Rounding::Floor, 16), 32);
        assert_eq!(width(64, "5/8", Rounding::Ceil, 16), 48);
        assert_eq!(width(64, "1/64", Rounding::Floor, 8), 8);
        assert_eq!(width(6, "1/2", Rounding::Floor, 8), 6);
        assert_eq!(width(10, "0.95", Rounding::Ceil, 8), 10);
        assert_eq!(width(10, "1", Rounding::Floor, 8), 10);
        assert_eq!(width(16, "1/100", Rounding::Floor, 1), 1);
        assert_eq!(width(16, "1/2", Rounding::Ceil, usize::MAX), 16);
        for channels in 1..70 {
            for numerator in 1..=9 {
                for n in [0, 1, 3, 8] {
                    for rounding in [Rounding::Floor, Rounding::Ceil] {
                        let w = target_width(channels, &Ratio::new(numerator, 9).unwrap(), rounding, n);
                        assert!((1..=channels).contains(&w));
                        assert!(
                            w == channels || w.is_multiple_of(n.max(1)),
                            "{channels} {numerator}/9 {n}: {w}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn rounding_by_name() {
        assert_eq!("floor".parse::<Rounding>().unwrap(), Rounding::Floor);
        assert_eq!("ceil".parse::<Rounding>().unwrap(), Rounding::Ceil);
        assert!("up".parse::<Rounding>().is_err());
    }

    #[test]
    fn stars_match_any_run() {
        let cases = [
            ("conv1", "conv1", true),
            ("conv1", "conv10", false),
            ("layer1.*.conv1", "layer1.12.conv1", true),
            ("layer1.*.conv1", "layer1.conv1", false),
            ("layer1.*", "layer1.0.conv2", true),
            ("*conv2", "layer1.0.conv2", true),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*b*c", "axbxbxc", true),
            ("a*b*b", "ab", false),
            ("l*1*conv*", "layer1.0.conv2", true),
            ("é*", "élan", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    const LINES: &str = "\
# ResNet-20
conv1 5/8

layer1.*.conv1   10  # of 16
layer2.* 62.5%
";

    #[test]
    fn widths_as_lines_and_as_json() {
        let lines = WidthRule::parse_file("widths.txt", LINES).unwrap();
        let json = r#" {"conv1": "5/8", "layer1.*.conv1": 10, "layer2.*": 0.625}"#;
        assert_eq!(WidthRule::parse_file("widths.json", json).unwrap(), lines);
        assert_eq!(WidthRule::parse_file("w", &LINES.replace('\n', "\r\n")).unwrap(), lines);
        let stored = serde_json::to_string(&lines).unwrap();
        assert_eq!(stored, r#"{"per-layer":{"conv1":"5/8","layer1.*.conv1":10,"layer2.*":"5/8"}}"#);
        assert_eq!(serde_json::from_str::<WidthRule>(&stored).unwrap(), lines);
        assert_eq!(lines.unmatched(&["conv1", "layer1.0.conv1"]), ["layer2.*"]);
        assert_eq!(WidthRule::All(Ratio::ONE).unmatched(&["conv1"]), [""; 0]);
    }

    #[test]
    fn errors_in_widths_files_name_the_line() {
        let message = |text: &str| WidthRule::parse_file("w.txt", text).unwrap_err().to_string();
        assert!(message("a 1\nb 9/8").starts_with("w.txt, line 2: 9/8: expected a fraction"));
        assert!(message("a 1\n\nb").starts_with("w.txt, line 3: b: expected a layer name and a width"));
        assert!(message("a b 1").contains("found 3 words"));
        assert!(message("a 0").contains("line 1: 0: expected a width of at least 1"));
        assert!(message("a 1\na 2").contains("line 2: a: expected every name once"));
        assert!(message("# nothing").contains("at least one layer name"));
        assert!(message("{}").contains("at least one layer name"));
        assert!(message("{\"a\": 1,\n\"a\": 2}").contains("a is there twice at line 2"));
        assert!(message("{\"a\": 1,\n\"b\": \"9/8\"}").contains("line 2"));
        for bad in
            ["{\"a\": -1}", "{\"a\": [1]}", "{\"a\": null}", "{\"a\": 0}", "{\"a\": 1.5}", "{\"a\": 1", "{"]
        {
            assert!(message(bad).contains("line 1"), "{bad}: {}", message(bad));
        }
    }

    #[test]
    fn rules_give_groups_their_width() {
        let width =
            |rule: &WidthRule, layers: &[&str], kind| rule.width(layers, kind, 16, Rounding::Floor, 1);
        let all = WidthRule::All(ratio("5/8"));
        let internal = WidthRule::Internal(ratio("1/2"));
        assert_eq!(width(&all, &["conv1"], GroupKind::Tied).unwrap(), 10);
        assert_eq!(width(&internal, &["conv1"], GroupKind::Tied).unwrap(), 16);
        assert_eq!(width(&internal, &["conv1"], GroupKind::Internal).unwrap(), 8);

        let file = "* 12\nlayer1.*.conv2 5/8\nlayer1.0.* 8\nlayer1.0.conv1 4\nbig 17";
        let rule = WidthRule::parse_file("w", file).unwrap();
        assert_eq!(width(&rule, &["conv1"], GroupKind::Tied).unwrap(), 12);
        assert_eq!(width(&rule, &["conv1", "layer1.0.conv2"], GroupKind::Tied).unwrap(), 10);
        assert_eq!(width(&rule, &["layer1.0.conv1"], GroupKind::Internal).unwrap(), 4);
        let error = width(&rule, &["big"], GroupKind::Internal).unwrap_err().to_string();
        assert_eq!(error, "big 17: expected a width of 1 to 16, the layer's own, found 17");

        let rule = WidthRule::parse_file("w", "conv1 8\nlayer1.0.conv2 9").unwrap();
        let error = width(&rule, &["conv1", "layer1.0.conv2"], GroupKind::Tied).unwrap_err().to_string();
        assert!(error.contains("found 8 by conv1 and 9 by layer1.0.conv2"), "{error}");
        assert_eq!(width(&rule, &["other"], GroupKind::Tied).unwrap(), 16);
    }
}
