//! What a picture's file says of itself, without its pixels: whether it is whole, how large it is and how it is to be turned.
//!
//! Decoders fill in what a damaged file lacks: a JPEG with a tenth of its scan is a picture with nine tenths of grey. So every
//! byte that decides a pixel is looked at here first: the checksums of a PNG (`png`), every code word of a JPEG (`jpeg`).
//! A changed bit that leaves a JPEG's code words sound cannot be seen: the format has no checksum.

mod jpeg;
mod png;

/// Most bytes that the pixels of one picture may take: 64 million pixels in colour.
pub const CEILING: u64 = 192 << 20;

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Portable Network Graphics.
    Png,
    /// JPEG.
    Jpeg,
    /// A picture in another format, by its name.
    Other(&'static str),
}

/// Bytes that [`Format::of`] needs.
pub const MAGIC: usize = 32;

impl Format {
    /// The format of a file that begins with `start`, at least [`MAGIC`] bytes of it or all; `None` where it is no picture.
    pub fn of(start: &[u8]) -> Option<Format> {
        const OTHERS: [(&[u8], &str); 13] = [
            (b"GIF8", "GIF"),
            (b"II*\0", "TIFF"),
            (b"MM\0*", "TIFF"),
            (b"II+\0", "TIFF"),
            (b"MM\0+", "TIFF"),
            (b"\0\0\0\x0cjP  ", "JPEG 2000"),
            (b"\xff\x4f\xff\x51", "JPEG 2000"),
            (b"\0\0\0\x0cJXL ", "JPEG XL"),
            (b"\xff\x0a", "JPEG XL"),
            (b"8BPS", "Photoshop"),
            (b"\x76\x2f\x31\x01", "OpenEXR"),
            (b"qoif", "QOI"),
            (b"DDS ", "DDS"),
        ];
        let at = |place: usize, mark: &[u8]| start.get(place..).is_some_and(|rest| rest.starts_with(mark));
        if at(0, png::SIGNATURE) {
            return Some(Format::Png);
        }
        if at(0, &[0xff, 0xd8, 0xff]) {
            return Some(Format::Jpeg);
        }
        if at(0, b"RIFF") && at(8, b"WEBP") {
            return Some(Format::Other("WebP"));
        }
        if at(4, b"ftyp") {
            let brands: [(&[u8], &str); 6] = [
                (b"avi", "AVIF"),
                (b"hei", "HEIC"),
                (b"hev", "HEIC"),
                (b"mif1", "HEIC"),
                (b"msf1", "HEIC"),
                (b"crx ", "CR3"),
            ];
            return brands.iter().find(|(brand, _)| at(8, brand)).map(|&(_, name)| Format::Other(name));
        }
        // Two letters are not much: the header's own length comes with them.
        if at(0, b"BM") && at(15, &[0, 0, 0]) {
            return Some(Format::Other("BMP"));
        }
        if let [b'P', b'1'..=b'7', blank, ..] = start
            && blank.is_ascii_whitespace()
            && start.get(3).is_some_and(|next| next.is_ascii_digit() || *next == b'#')
        {
            return Some(Format::Other("PNM"));
        }
        OTHERS.iter().find(|(mark, _)| at(0, mark)).map(|&(_, name)| Format::Other(name))
    }
}

/// What is known of a picture without decoding it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Its format: [`Format::Png`] or [`Format::Jpeg`].
    pub format: Format,
    /// Columns and rows as they are stored.
    pub stored: (u32, u32),
    /// Whether it has no colours.
    pub grey: bool,
    /// EXIF's orientation, from 1 (as it is stored) to 8.
    pub orientation: u8,
}

impl Outline {
    /// Width and height as it is seen: turned as its orientation says.
    pub fn size(&self) -> (u32, u32) {
        let (width, height) = self.stored;
        if self.orientation > 4 { (height, width) } else { (width, height) }
    }
}

/// Why a picture cannot be used, as a part of a sentence.
pub type Why = &'static str;

/// Looks through the whole of a PNG or JPEG.
///
/// # Errors
/// What is damaged, missing or not supported. `bytes` that are neither are told too.
pub fn inspect(bytes: &[u8]) -> Result<Outline, Why> {
    match Format::of(bytes) {
        Some(Format::Png) => png::inspect(bytes),
        Some(Format::Jpeg) => jpeg::inspect(bytes),
        Some(Format::Other(_)) => Err("a picture in another format than PNG and JPEG"),
        None if bytes.is_empty() => Err("an empty file"),
        None => Err("no PNG and no JPEG by its first bytes"),
    }
}

const TOO_LARGE: Why = "more pixels than 192 MiB hold, which is the ceiling: make the picture smaller";

/// The orientation that EXIF data state, 1 if they state none.
fn orientation(exif: &[u8]) -> u8 {
    const ORIENTATION: u64 = 0x0112;
    let little = match exif.get(..4) {
        Some(b"II*\0") => true,
        Some(b"MM\0*") => false,
        _ => return 1,
    };
    let number = |at: usize, length: usize| {
        let bytes = exif.get(at..at.checked_add(length)?)?;
        let digits = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if little { bytes.iter().rev().fold(0, digits) } else { bytes.iter().fold(0, digits) })
    };
    let found = || {
        let directory = usize::try_from(number(4, 4)?).ok()?;
        let entries = directory.checked_add(2)?;
        (0..number(directory, 2)? as usize).find_map(|entry| {
            let at = entries.checked_add(12 * entry)?;
            // A number of two bytes; some programs write one or four.
            let length = match number(at + 2, 2)? {
                1 => 1,
                4 => 4,
                _ => 2,
            };
            (number(at, 2)? == ORIENTATION).then(|| number(at + 8, length)).flatten()
        })
    };
    found().filter(|value| (1..=8).contains(value)).unwrap_or(1) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEGS: [(&str, &[u8]); 9] = [
        ("baseline-444", include_bytes!("../../tests/pictures/baseline-444.jpg")),
        ("baseline-422", include_bytes!("../../tests/pictures/baseline-422.jpg")),
        ("baseline-420", include_bytes!("../../tests/pictures/baseline-420.jpg")),
        ("baseline-grey", include_bytes!("../../tests/pictures/baseline-grey.jpg")),
        ("baseline-restarts", include_bytes!("../../tests/pictures/baseline-restarts.jpg")),
        ("progressive-420", include_bytes!("../../tests/pictures/progressive-420.jpg")),
        ("progressive-grey", include_bytes!("../../tests/pictures/progressive-grey.jpg")),
        ("progressive-restarts", include_bytes!("../../tests/pictures/progressive-restarts.jpg")),
        ("cmyk-red", include_bytes!("../../tests/pictures/cmyk-red.jpg")),
    ];

    /// What is done to a picture at a place.
    type Damage<'a> = &'a dyn Fn(usize) -> Vec<u8>;

    /// Where the codes of each scan begin.
    fn scans(jpeg: &[u8]) -> Vec<usize> {
        let starts = (0..jpeg.len() - 3).filter(|&at| jpeg[at..].starts_with(&[0xff, 0xda]));
        starts.map(|at| at + 2 + usize::from(jpeg[at + 3])).collect()
    }

    fn chunk(name: &[u8], content: &[u8]) -> Vec<u8> {
        let covered = [name, content].concat();
        let sum = covered.iter().fold(!0u32, |sum, byte| {
            (0..8)
                .fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 })
        });
        [&(content.len() as u32).to_be_bytes()[..], &covered, &(!sum).to_be_bytes()].concat()
    }

    fn png(colour: u8, depth: u8, before: &[u8], after: &[u8]) -> Vec<u8> {
        let header = [0, 0, 0, 5, 0, 0, 0, 3, depth, colour, 0, 0, 0];
        let parts =
            [png::SIGNATURE.to_vec(), chunk(b"IHDR", &header), before.to_vec(), chunk(b"IDAT", b"pixels")];
        [parts.concat(), after.to_vec(), chunk(b"IEND", b"")].concat()
    }

    /// EXIF data that state `value` as a number of this kind.
    fn exif(little: bool, kind: u8, value: u8) -> Vec<u8> {
        let number = |value: u8, length: usize| {
            let mut bytes = vec![0; length];
            bytes[if little { 0 } else { length - 1 }] = value;
            bytes
        };
        let tag = if little { vec![0x12, 1] } else { vec![1, 0x12] };
        let width = [(1, 1), (3, 2), (4, 4)].iter().find(|(k, _)| *k == kind).unwrap().1;
        let start = if little { b"II*\0" } else { b"MM\0*" };
        // Another entry before it.
        let other = [number(7, 2), number(3, 2), number(1, 4), number(0, 4)].concat();
        let held = [number(value, width), vec![0; 4 - width]].concat();
        let entry = [tag, number(kind, 2), number(1, 4), held].concat();
        [start.to_vec(), number(8, 4), number(2, 2), other, entry, vec![0; 4]].concat()
    }

    fn with_exif(jpeg: &[u8], exif: &[u8]) -> Vec<u8> {
        let content = [b"Exif\0\0", exif].concat();
        let length = (content.len() as u16 + 2).to_be_bytes();
        [&jpeg[..2], &[0xff, 0xe1], &length, &content, &jpeg[2..]].concat()
    }

    #[test]
    fn whole_pictures_are_told() {
        for (name, jpeg) in JPEGS {
            let expected = Outline {
                format: Format::Jpeg,
                stored: if name == "cmyk-red" { (16, 16) } else { (37, 29) },
                grey: name.ends_with("grey"),
                orientation: 1,
            };
            assert_eq!(inspect(jpeg), Ok(expected), "{name}");
        }
        for (colour, grey) in [(0, true), (2, false), (3, false), (4, true), (6, false)] {
            let expected = Outline { format: Format::Png, stored: (5, 3), grey, orientation: 1 };
            assert_eq!(inspect(&png(colour, 8, b"", b"")), Ok(expected));
        }
    }

    #[test]
    fn every_cut_is_seen() {
        for (name, jpeg) in JPEGS {
            for length in 0..jpeg.len() {
                assert!(inspect(&jpeg[..length]).is_err(), "{name} at {length}");
                // With an end set behind the cut, scans still lack their codes. Between two scans of a progressive file
                // nothing is missing but the next: such a file is whole, if coarse.
                let closed = [&jpeg[..length], &[0xff, 0xd9]].concat();
                let between =
                    name.starts_with("progressive") && scans(jpeg).iter().skip(1).any(|&at| length < at);
                if scans(jpeg)[0] < length && length < jpeg.len() - 3 && !between {
                    assert!(inspect(&closed).is_err(), "{name} closed at {length}");
                }
            }
        }
        let whole = png(2, 8, b"", b"");
        for length in 0..whole.len() {
            assert!(inspect(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn damaged_scans_are_seen() {
        for (name, jpeg) in JPEGS.into_iter().filter(|(name, _)| *name != "cmyk-red") {
            let start = scans(jpeg)[0];
            let other = &JPEGS[0].1[scans(JPEGS[0].1)[0] + 100..][..24];
            let over = |at: usize, bytes: &[u8]| [&jpeg[..at], bytes, &jpeg[at + bytes.len()..]].concat();
            let kinds: [(&str, usize, Damage<'_>); 5] = [
                ("zeros", 33, &|at| over(at, &[0; 24])),
                ("ones", 95, &|at| over(at, &[0xff; 24])),
                ("another picture", 33, &|at| over(at, other)),
                ("a byte less", 12, &|at| [&jpeg[..at], &jpeg[at + 1..]].concat()),
                ("bytes twice", 90, &|at| [&jpeg[..at + 24], &jpeg[at..]].concat()),
            ];
            // In percent of all places: a stretch that happens to hold as many code words as what it replaces shows nowhere, as
            // is often so in pictures of a few blocks, and hardly ever in photographs.
            let places = start..jpeg.len() - 40;
            for (kind, least, damage) in kinds {
                let seen = places.clone().filter(|&at| inspect(&damage(at)).is_err()).count();
                assert!(100 * seen >= least * places.len(), "{name}, {kind}: {seen} of {}", places.len());
            }
        }
        let restarts = JPEGS[4].1;
        let first = (0..restarts.len()).find(|&at| restarts[at..].starts_with(&[0xff, 0xd0])).unwrap();
        let mut swapped = restarts.to_vec();
        swapped[first + 1] = 0xd1;
        assert_eq!(
            inspect(&swapped),
            Err("the file is damaged: a restart marker is missing or out of order")
        );
        let without = [&restarts[..first], &restarts[first + 2..]].concat();
        assert!(inspect(&without).is_err());
    }

    #[test]
    fn every_changed_bit_of_a_png_is_seen() {
        let whole = png(6, 16, &chunk(b"tEXt", b"a note"), b"");
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(inspect(&damaged).is_err(), "{bit}");
        }
    }

    #[test]
    fn odd_but_sound_files_are_read() {
        for (name, jpeg) in JPEGS {
            let expected = inspect(jpeg);
            let end = jpeg.len() - 2;
            for odd in [
                // Fill bytes before a marker, rubbish behind the end, a comment, a restart nobody asked for.
                [&jpeg[..2], &[0xff, 0xff, 0xff], &jpeg[2..]].concat(),
                [jpeg, &b"trailing rubbish \xff\xd8\xff"[..]].concat(),
                [&jpeg[..2], &b"\xff\xfe\0\x08a note"[..], &jpeg[2..]].concat(),
                [&jpeg[..end], &[0xff, 0xff, 0xff, 0xd9]].concat(),
                [&jpeg[..end], &[0, 0, 0, 0xff, 0xd9]].concat(),
                [&jpeg[..end], &b"\xff\xe5\0\x04ab\xff\xd9"[..]].concat(),
            ] {
                assert_eq!(inspect(&odd), expected, "{name}");
            }
        }
        let trailing = [png(2, 8, b"", b""), b"rubbish".to_vec()].concat();
        assert!(inspect(&trailing).is_ok());
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let jpeg = JPEGS[0].1;
        let frame = (0..jpeg.len()).find(|&at| jpeg[at..].starts_with(&[0xff, 0xc0])).unwrap();
        let changed = |at: usize, byte: u8| {
            let mut changed = jpeg.to_vec();
            changed[at] = byte;
            inspect(&changed).unwrap_err()
        };
        assert!(changed(frame + 4, 12).contains("12 bits a sample"));
        assert!(changed(frame + 1, 0xc3).contains("lossless JPEG"));
        assert!(changed(frame + 1, 0xc9).contains("arithmetic codes"));
        assert!(changed(frame + 1, 0xc5).contains("hierarchical JPEG"));
        let mut flat = jpeg.to_vec();
        flat[frame + 5..frame + 7].fill(0);
        assert!(inspect(&flat).unwrap_err().contains("without a width or height"));
        assert_eq!(inspect(b""), Err("an empty file"));
        assert!(inspect(b"hello").unwrap_err().contains("no PNG and no JPEG"));
        assert!(inspect(b"GIF89a").unwrap_err().contains("another format"));
        let huge = [0, 0, 0x9c, 0x40, 0, 0, 0x9c, 0x40, 8, 2, 0, 0, 0];
        let huge =
            [png::SIGNATURE, &chunk(b"IHDR", &huge), &chunk(b"IDAT", b""), &chunk(b"IEND", b"")].concat();
        assert!(inspect(&huge).unwrap_err().contains("192 MiB"));
    }

    #[test]
    fn formats_are_told_by_their_first_bytes() {
        let of = |start: &[u8]| Format::of(start);
        assert_eq!(of(JPEGS[0].1), Some(Format::Jpeg));
        assert_eq!(of(&png(0, 8, b"", b"")), Some(Format::Png));
        for (start, name) in [
            (&b"RIFF\x10\0\0\0WEBPVP8 "[..], "WebP"),
            (b"GIF89a", "GIF"),
            (b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "BMP"),
            (b"II*\0\x08\0\0\0", "TIFF"),
            (b"MM\0*\0\0\0\x08", "TIFF"),
            (b"\0\0\0\x1cftypheic", "HEIC"),
            (b"\0\0\0\x1cftypavif", "AVIF"),
            (b"\0\0\0\x0cjP  \r\n", "JPEG 2000"),
            (b"P6\n3 4 255\n", "PNM"),
        ] {
            assert_eq!(of(start), Some(Format::Other(name)));
        }
        for text in [
            &b"BMW is no picture at all"[..],
            b"P6x",
            b"P1 is a patient",
            b"",
            b"hello",
            b"\0\0\0\x18ftypmp42",
        ] {
            assert_eq!(of(text), None, "{text:?}");
        }
    }

    #[test]
    fn orientations_are_read_from_both_formats() {
        for orientation in 1..=8 {
            for (little, kind) in [(true, 3), (false, 3), (true, 4), (false, 4), (true, 1), (false, 1)] {
                let exif = exif(little, kind, orientation);
                let turned = inspect(&with_exif(JPEGS[2].1, &exif)).unwrap();
                assert_eq!(turned.orientation, orientation, "{little} {kind}");
                assert_eq!(turned.size(), if orientation > 4 { (29, 37) } else { (37, 29) });
                for png in [png(2, 8, &chunk(b"eXIf", &exif), b""), png(2, 8, b"", &chunk(b"eXIf", &exif))] {
                    assert_eq!(inspect(&png).unwrap().orientation, orientation);
                }
            }
        }
        // What makes no sense turns nothing, and nothing is read beyond the data.
        for senseless in
            [exif(true, 3, 0), exif(true, 3, 9), b"II*\0\xff\xff\xff\xff".to_vec(), b"MM".to_vec()]
        {
            assert_eq!(inspect(&with_exif(JPEGS[0].1, &senseless)).unwrap().orientation, 1);
        }
        let cut = exif(false, 3, 6);
        for length in 0..cut.len() - 6 {
            assert!(inspect(&with_exif(JPEGS[0].1, &cut[..length])).is_ok());
        }
    }
}
