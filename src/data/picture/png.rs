//! PNG: a signature, then chunks of length, name, content and CRC-32, from `IHDR` to `IEND`.

use super::{CEILING, Format, Outline, TOO_LARGE, Why};

pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

const BAD_HEADER: Why = "the file is damaged: its header has a wrong length or content";
const CUT: Why = "the file is cut short: it has no end (IEND)";

/// Looks through all chunks. What follows `IEND` belongs to nobody.
pub(super) fn inspect(bytes: &[u8]) -> Result<Outline, Why> {
    let mut rest = bytes.get(SIGNATURE.len()..).ok_or(CUT)?;
    let mut found: Option<Outline> = None;
    let (mut has_pixels, mut needed) = (false, 0u64);
    loop {
        let (length, after) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        let length = u32::from_be_bytes(*length) as usize;
        // The name is part of what is summed.
        let covered = length.checked_add(4).and_then(|length| after.get(..length)).ok_or(CUT)?;
        let (sum, next) = after[covered.len()..].split_first_chunk::<4>().ok_or(CUT)?;
        if crc(covered) != u32::from_be_bytes(*sum) {
            return Err("the file is damaged: a checksum is wrong");
        }
        let (name, content) = covered.split_at(4);
        match (name, &mut found) {
            (b"IHDR", None) => {
                let &[a, b, c, d, e, f, g, h, depth, colour, ..] = content else { return Err(BAD_HEADER) };
                let size = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                if size.0 == 0 || size.1 == 0 {
                    return Err("a picture without pixels");
                }
                // A palette's colours are looked up; transparency is a channel of its own.
                needed = match colour {
                    0 => 1,
                    2 | 3 => 3,
                    4 => 2,
                    6 => 4,
                    _ => return Err(BAD_HEADER),
                };
                let factors = [u64::from(size.0), u64::from(size.1), if depth == 16 { 2 } else { 1 }];
                needed = factors.iter().fold(needed, |product, &factor| product.saturating_mul(factor));
                // The second bit of the colour type: grey, and grey with alpha, lack it.
                let grey = colour & 2 == 0;
                found = Some(Outline { format: Format::Png, stored: size, grey, orientation: 1 });
            }
            (b"eXIf", Some(outline)) => outline.orientation = super::orientation(content),
            (b"IDAT", Some(_)) => has_pixels = true,
            (b"IEND", &mut Some(outline)) if has_pixels => {
                return if needed > CEILING { Err(TOO_LARGE) } else { Ok(outline) };
            }
            (_, None) => return Err("the file is damaged: it does not begin with its header"),
            (b"IEND", _) => return Err("the file is damaged: it has no pixels"),
            _ => {}
        }
        rest = next;
    }
}

/// CRC-32 as in gzip, four bits a step: a table of bytes would be a kilobyte of the browser's module.
fn crc(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 16] = {
        let mut table = [0; 16];
        let mut at = 0;
        while at < 16 {
            let mut sum = at as u32;
            let mut bit = 0;
            while bit < 4 {
                sum = sum >> 1 ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 };
                bit += 1;
            }
            table[at] = sum;
            at += 1;
        }
        table
    };
    let step = |sum: u32, bits: u32| sum >> 4 ^ TABLE[((sum ^ bits) & 15) as usize];
    !bytes.iter().fold(!0, |sum, &byte| step(step(sum, byte.into()), u32::from(byte) >> 4))
}
