//! Ways to damage a file: cutting, flipping bits, and changes that leave its format whole and its content absurd.

use centripetal::rng::Rng;

/// How a format is laid out, so that damage can reach behind its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Nothing is known of it.
    Bytes,
    /// Words and numbers.
    Text,
    /// The length of a JSON header, the header, numbers.
    Safetensors,
    /// Numbered fields, nested (ONNX).
    Protobuf,
}

/// Numbers at which arithmetic breaks.
const NUMBERS: [u64; 12] =
    [0, 1, 2, 127, 255, 65_535, 65_536, 1 << 24, u32::MAX as u64, 1 << 32, i64::MAX as u64, u64::MAX];

/// The same, and worse, as text.
const WORDS: [&str; 14] = [
    "0",
    "1",
    "-1",
    "7",
    "65536",
    "16777216",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "18446744073709551615",
    "0.5",
    "1e-40",
    "1e39",
    "1e999",
];

/// A damaged copy of one of `seeds`, and what was done.
pub(crate) fn damage(format: Format, seeds: &[Vec<u8>], rng: &mut Rng) -> (Vec<u8>, &'static str) {
    let whole = &seeds[rng.below(seeds.len())];
    let how = rng.below(6);
    match (how, format) {
        (0, _) => (whole[..rng.below(whole.len())].to_vec(), "cut short"),
        (1, _) => (flipped(whole, rng), "bits flipped"),
        (2, _) | (_, Format::Bytes) => (shuffled(whole, seeds, rng), "parts filled, doubled or taken out"),
        (_, Format::Text) => (rewritten(whole, rng), "words changed"),
        (_, Format::Safetensors) => (with_header(whole, rng), "header rewritten"),
        (_, Format::Protobuf) => {
            let times = 1 + rng.below(3);
            ((0..times).fold(whole.clone(), |bytes, _| message(&bytes, 0, rng)), "messages rewritten")
        }
    }
}

/// A place in `bytes`: half of the time near the beginning, where damage does most.
fn place(bytes: &[u8], rng: &mut Rng) -> usize {
    if rng.below(2) == 0 { rng.below(bytes.len().min(64)) } else { rng.below(bytes.len()) }
}

fn flipped(whole: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=rng.below(8) {
        let at = place(whole, rng);
        bytes[at] ^= 1 << rng.below(8);
    }
    bytes
}

fn shuffled(whole: &[u8], seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    let at = place(whole, rng);
    let end = (at + 1 + rng.below(16)).min(bytes.len());
    match rng.below(4) {
        0 => bytes[at..end].fill([0, 255, 127, 128][rng.below(4)]),
        1 => drop(bytes.drain(at..end)),
        2 => bytes = [&whole[..end], &whole[at..]].concat(),
        _ => {
            let other = &seeds[rng.below(seeds.len())];
            bytes.truncate(at);
            bytes.extend_from_slice(&other[rng.below(other.len())..]);
        }
    }
    bytes
}

/// Numbers replaced, and parts between commas, brackets and line ends taken out, doubled or exchanged.
fn rewritten(text: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..=rng.below(3) {
        let marks: Vec<usize> = (0..text.len())
            .filter(|&i| matches!(text[i], b',' | b'{' | b'[' | b':' | b'\n' | b' '))
            .collect();
        let digits = |i: usize| text.get(i).is_some_and(u8::is_ascii_digit);
        let numbers: Vec<usize> =
            (0..text.len()).filter(|&i| digits(i) && (i == 0 || !digits(i - 1))).collect();
        let two = |marks: &[usize], rng: &mut Rng| {
            let from = rng.below(marks.len());
            (marks[from], marks[(from + 1 + rng.below(3)).min(marks.len() - 1)])
        };
        let changed = match rng.below(4) {
            0 | 1 if !numbers.is_empty() => {
                let start = numbers[rng.below(numbers.len())];
                let end = (start..text.len()).find(|&i| !digits(i)).unwrap_or(text.len());
                [&text[..start], WORDS[rng.below(WORDS.len())].as_bytes(), &text[end..]].concat()
            }
            2 if marks.len() > 1 => {
                let (from, to) = two(&marks, rng);
                [&text[..from], &text[to..]].concat()
            }
            _ if marks.len() > 1 => {
                let (from, to) = two(&marks, rng);
                [&text[..to], &text[from..]].concat()
            }
            _ => Vec::new(),
        };
        text = changed;
    }
    text
}

/// A safetensors file with its header rewritten and its length corrected.
fn with_header(whole: &[u8], rng: &mut Rng) -> Vec<u8> {
    let Some((length, rest)) = whole.split_first_chunk::<8>() else { return whole.to_vec() };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(0).min(rest.len());
    let (header, tensors) = rest.split_at(length);
    let header = rewritten(header, rng);
    [&(header.len() as u64).to_le_bytes()[..], &header, tensors].concat()
}

/// A field of a protobuf message: its key, and its bytes without key and length.
struct Field {
    key: u64,
    value: Vec<u8>,
}

/// The fields of `bytes`, if it is a whole message of them.
fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = number(&mut bytes)?;
        let before = bytes;
        let length = match key & 7 {
            0 => {
                number(&mut bytes)?;
                before.len() - bytes.len()
            }
            1 => 8,
            2 => {
                let length = number(&mut bytes)?;
                let value = bytes.get(..usize::try_from(length).ok()?)?;
                fields.push(Field { key, value: value.to_vec() });
                bytes = &bytes[value.len()..];
                continue;
            }
            5 => 4,
            _ => return None,
        };
        fields.push(Field { key, value: before.get(..length)?.to_vec() });
        bytes = &before[length..];
    }
    Some(fields)
}

fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 127) << shift;
        if first & 128 == 0 {
            return Some(value);
        }
    }
    None
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The message `bytes` with one field somewhere in its depth changed, all lengths right again.
fn message(bytes: &[u8], depth: usize, rng: &mut Rng) -> Vec<u8> {
    let parsed = fields(bytes).filter(|fields| !fields.is_empty() && depth < 9);
    let Some(mut fields) = parsed else {
        return if bytes.is_empty() { vec![7] } else { flipped(bytes, rng) };
    };
    let at = rng.below(fields.len());
    let other = rng.below(fields.len());
    match (rng.below(12), fields[at].key & 7) {
        (0, _) => drop(fields.remove(at)),
        (1, _) => {
            let copy = Field { key: fields[at].key, value: fields[at].value.clone() };
            fields.push(copy);
        }
        // Nodes in another order, names of one another: cycles, and what nothing gives.
        (2, _) => fields.swap(at, other),
        (3, _) => fields[at].value = fields[other].value.clone(),
        (_, 0) => fields[at].value = varint(NUMBERS[rng.below(NUMBERS.len())]),
        (_, 2) => fields[at].value = message(&fields[at].value, depth + 1, rng),
        _ => fields[at].value = flipped(&fields[at].value, rng),
    }
    let mut bytes = Vec::new();
    for Field { key, value } in fields {
        bytes.extend(varint(key));
        if key & 7 == 2 {
            bytes.extend(varint(value.len() as u64));
        }
        bytes.extend(value);
    }
    bytes
}
