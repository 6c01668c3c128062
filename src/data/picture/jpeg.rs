//! JPEG (ITU-T T.81): every code word of every scan is read, and nothing is made of it but the way to the next.
//!
//! Baseline, extended and progressive frames with Huffman codes and 8-bit samples. A scan is whole if it has the code words of
//! all its blocks, its restart markers in order, and nothing behind the last block but padding. The file must end with EOI.

use super::{CEILING, Format, Outline, TOO_LARGE, Why};

const CUT: Why = "the file is cut short: it ends before its last pixels (no EOI)";
const ENDS_EARLY: Why = "the file is damaged: a scan ends before its last pixels";
const BAD_CODE: Why = "the file is damaged: a scan holds a code that means nothing";
const TOO_LONG: Why = "the file is damaged: a scan holds more than its pixels need";
const BAD_RESTART: Why = "the file is damaged: a restart marker is missing or out of order";
const BAD_SEGMENT: Why = "the file is damaged: a header segment has a wrong length or content";
const NO_TABLE: Why = "the file is damaged: a table that its scan needs is missing";
const LACKS_SCAN: Why = "the file is damaged: a scan is missing";

/// Scans that no encoder comes near, so that a small file cannot ask for endless work.
const MOST_SCANS: usize = 500;

/// Blocks of a unit, at most.
const MOST_BLOCKS: usize = 10;

#[derive(Clone, Copy)]
struct Component {
    id: u8,
    h: usize,
    v: usize,
    quantization: usize,
}

struct Frame {
    progressive: bool,
    width: usize,
    height: usize,
    components: Vec<Component>,
    /// Units of a scan of several components.
    units: (usize, usize),
    h_max: usize,
    v_max: usize,
    /// A word a block: which coefficients are not zero. Of progressive frames alone.
    nonzero: Vec<Vec<u64>>,
    /// The bit from which on each coefficient is known; -1 where no scan has told it.
    known: Vec<[i8; 64]>,
}

/// Looks through all segments and scans. What follows EOI belongs to nobody.
pub(super) fn inspect(bytes: &[u8]) -> Result<Outline, Why> {
    let mut reader = Reader { bytes, at: 2 };
    let mut frame: Option<Frame> = None;
    let (mut dc, mut ac): ([Option<Table>; 4], [Option<Table>; 4]) = Default::default();
    let mut quantization = [false; 4];
    let (mut restart, mut scans) = (0usize, 0);
    let mut orientation = None;
    loop {
        let marker = reader.marker()?;
        match marker {
            // Second pictures, restarts behind the last unit: they have no content.
            0x01 | 0xd0..=0xd8 => continue,
            0xd9 => break,
            _ => {}
        }
        let mut segment = reader.segment()?;
        match marker {
            0xc0..=0xc2 => {
                if frame.is_some() {
                    return Err(BAD_SEGMENT);
                }
                frame = Some(Frame::read(segment, marker == 0xc2)?);
            }
            0xc4 => {
                while let [place, rest @ ..] = segment {
                    let (table, rest) = Table::read(rest)?;
                    let tables = if place >> 4 == 0 { &mut dc } else { &mut ac };
                    *tables.get_mut(usize::from(place & 15)).ok_or(BAD_SEGMENT)? = Some(table);
                    segment = rest;
                }
            }
            0xc3 => return Err("lossless JPEG, which is not supported: save it as PNG"),
            0xc5..=0xc7 => return Err("hierarchical JPEG, which is not supported: save it as PNG"),
            0xc8..=0xcf => {
                return Err("a JPEG with arithmetic codes, which is not supported: save it as PNG");
            }
            0xda => {
                let frame = frame.as_mut().ok_or(BAD_SEGMENT)?;
                scans += 1;
                if scans > MOST_SCANS {
                    return Err("more than 500 scans, as no encoder writes them");
                }
                let scan = Scan::read(segment, frame, &quantization, restart)?;
                reader.at = scan.walk(frame, bytes, reader.at, &dc, &ac)?;
            }
            0xdb => {
                while let [place, rest @ ..] = segment {
                    let length = if place >> 4 == 0 { 64 } else { 128 };
                    *quantization.get_mut(usize::from(place & 15)).ok_or(BAD_SEGMENT)? = true;
                    segment = rest.get(length..).ok_or(BAD_SEGMENT)?;
                }
            }
            0xdc => return Err("a JPEG whose height comes after its pixels, which is not supported"),
            0xdd => match segment {
                &[high, low] => restart = usize::from(u16::from_be_bytes([high, low])),
                _ => return Err(BAD_SEGMENT),
            },
            0xe1 => {
                if let (None, Some(exif)) = (orientation, segment.strip_prefix(b"Exif\0\0")) {
                    orientation = Some(super::orientation(exif));
                }
            }
            _ => {}
        }
    }
    let frame = frame.ok_or(LACKS_SCAN)?;
    if frame.known.iter().any(|bits| bits[0] < 0) {
        return Err(LACKS_SCAN);
    }
    Ok(Outline {
        format: Format::Jpeg,
        stored: (frame.width as u32, frame.height as u32),
        grey: frame.components.len() == 1,
        orientation: orientation.unwrap_or(1),
    })
}

/// Markers and the segments behind them.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// The next marker. Fill bytes before it are allowed, and so is what other programs left there.
    fn marker(&mut self) -> Result<u8, Why> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let start = rest.iter().position(|&byte| byte == 0xff).ok_or(CUT)?;
            let code = rest[start..].iter().position(|&byte| byte != 0xff).ok_or(CUT)? + start;
            self.at += code + 1;
            if rest[code] != 0 {
                return Ok(rest[code]);
            }
        }
    }

    /// The content behind a marker.
    fn segment(&mut self) -> Result<&'a [u8], Why> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let length = usize::from(u16::from_be_bytes(*rest.first_chunk().ok_or(CUT)?));
        if length < 2 {
            return Err(BAD_SEGMENT);
        }
        let content = rest.get(2..length).ok_or(CUT)?;
        self.at += length;
        Ok(content)
    }
}

impl Frame {
    fn read(segment: &[u8], progressive: bool) -> Result<Frame, Why> {
        let &[precision, y1, y0, x1, x0, count, ref rest @ ..] = segment else { return Err(BAD_SEGMENT) };
        match precision {
            8 => {}
            12 => return Err("a JPEG of 12 bits a sample, which is not supported: save it with 8"),
            _ => return Err("a JPEG of other than 8 bits a sample, which is not supported: save it with 8"),
        }
        let height = usize::from(u16::from_be_bytes([y1, y0]));
        let width = usize::from(u16::from_be_bytes([x1, x0]));
        let count = usize::from(count);
        if width == 0 || height == 0 {
            return Err("a JPEG without a width or height in its header, which is not supported");
        }
        if !matches!(count, 1 | 3 | 4) || rest.len() != 3 * count {
            return Err(BAD_SEGMENT);
        }
        if (width * height * count.min(3)) as u64 > CEILING {
            return Err(TOO_LARGE);
        }
        let components: Vec<Component> = rest
            .chunks_exact(3)
            .map(|c| Component {
                id: c[0],
                h: usize::from(c[1] >> 4),
                v: usize::from(c[1] & 15),
                quantization: usize::from(c[2]),
            })
            .collect();
        if components.iter().any(|c| !(1..=4).contains(&c.h) || !(1..=4).contains(&c.v) || c.quantization > 3)
        {
            return Err(BAD_SEGMENT);
        }
        let h_max = components.iter().fold(1, |most, c| most.max(c.h));
        let v_max = components.iter().fold(1, |most, c| most.max(c.v));
        let units = (width.div_ceil(8 * h_max), height.div_ceil(8 * v_max));
        let blocks = |c: &Component| if progressive { units.0 * c.h * units.1 * c.v } else { 0 };
        let nonzero = components.iter().map(|c| vec![0; blocks(c)]).collect();
        let known = vec![[-1; 64]; count];
        Ok(Frame { progressive, width, height, components, units, h_max, v_max, nonzero, known })
    }
}

/// One scan: which coefficients of which components it tells.
struct Scan {
    /// Components, with their tables for DC and AC.
    parts: Vec<(usize, usize, usize)>,
    first: usize,
    last: usize,
    /// Whether it adds a bit to what is known.
    refines: bool,
    restart: usize,
}

impl Scan {
    fn read(
        segment: &[u8],
        frame: &mut Frame,
        quantization: &[bool; 4],
        restart: usize,
    ) -> Result<Scan, Why> {
        let (&count, rest) = segment.split_first().ok_or(BAD_SEGMENT)?;
        let count = usize::from(count);
        let Some((parts, &[first, last, bits])) = rest.split_at_checked(2 * count) else {
            return Err(BAD_SEGMENT);
        };
        let parts: Vec<(usize, usize, usize)> = parts
            .chunks_exact(2)
            .map(|part| {
                let index = frame.components.iter().position(|c| c.id == part[0]).ok_or(BAD_SEGMENT)?;
                let is_there = quantization.get(frame.components[index].quantization) == Some(&true);
                if !is_there {
                    return Err(NO_TABLE);
                }
                Ok((index, usize::from(part[1] >> 4), usize::from(part[1] & 15)))
            })
            .collect::<Result<_, Why>>()?;
        let blocks = |part: &(usize, usize, usize)| frame.components[part.0].h * frame.components[part.0].v;
        if !(1..=4).contains(&count)
            || count > 1 && parts.iter().map(blocks).sum::<usize>() > MOST_BLOCKS
            || (1..count).any(|at| parts[..at].iter().any(|part| part.0 == parts[at].0))
        {
            return Err(BAD_SEGMENT);
        }
        let (mut first, mut last) = (usize::from(first), usize::from(last));
        let (high, low) = ((bits >> 4) as i8, (bits & 15) as i8);
        if !frame.progressive {
            // Sequential scans tell everything, whatever stands here.
            (first, last) = (0, 63);
        } else if first > last
            || last > 63
            || first == 0 && last > 0
            || first > 0 && count > 1
            || low > 13
            || high > 0 && high != low + 1
        {
            return Err(BAD_SEGMENT);
        }
        for &(index, ..) in &parts {
            let known = &mut frame.known[index];
            // Each bit is told once, those of the mean before the others.
            let expected = if frame.progressive && high > 0 { high } else { -1 };
            if first > 0 && known[0] < 0 || known[first..=last].iter().any(|&bit| bit != expected) {
                return Err("the file is damaged: its scans do not follow each other");
            }
            known[first..=last].fill(if frame.progressive { low } else { 0 });
        }
        Ok(Scan { parts, first, last, refines: frame.progressive && high > 0, restart })
    }

    /// Reads the scan whose codes begin at `at`, and says where they end.
    fn walk(
        &self,
        frame: &mut Frame,
        bytes: &[u8],
        at: usize,
        dc: &[Option<Table>; 4],
        ac: &[Option<Table>; 4],
    ) -> Result<usize, Why> {
        let mut bits = Bits { bytes, at, word: 0, left: 0, ended: false };
        // Blocks of a unit: component, and its place in the unit; and how many units there are.
        let mut blocks: Vec<(usize, usize, usize)> = Vec::new();
        let units;
        if let &[(index, ..)] = self.parts.as_slice() {
            let c = frame.components[index];
            let side = |length: usize, own: usize, most: usize| (length * own).div_ceil(most).div_ceil(8);
            units = (side(frame.width, c.h, frame.h_max), side(frame.height, c.v, frame.v_max));
            blocks.push((0, 0, 0));
        } else {
            units = frame.units;
            for (part, &(index, ..)) in self.parts.iter().enumerate() {
                let c = frame.components[index];
                blocks.extend((0..c.v).flat_map(|y| (0..c.h).map(move |x| (part, x, y))));
            }
        }
        let alone = self.parts.len() == 1;
        let needs_dc = self.first == 0 && !self.refines;
        let needs_ac = self.last > 0;
        let mut tables = Vec::with_capacity(self.parts.len());
        for &(_, d, a) in &self.parts {
            let find = |tables: &'_ [Option<Table>; 4], place: usize, needed: bool| -> Result<usize, Why> {
                let is_there = tables.get(place).is_some_and(Option::is_some);
                if needed && !is_there { Err(NO_TABLE) } else { Ok(place.min(3)) }
            };
            tables.push((find(dc, d, needs_dc)?, find(ac, a, needs_ac)?));
        }
        let mut run = 0u32;
        let (mut until_restart, mut next_restart) = (self.restart, 0u8);
        for row in 0..units.1 {
            for column in 0..units.0 {
                if self.restart > 0 && until_restart == 0 {
                    if run > 0 {
                        return Err(TOO_LONG);
                    }
                    bits.restart(next_restart)?;
                    next_restart = (next_restart + 1) % 8;
                    until_restart = self.restart;
                }
                until_restart = until_restart.wrapping_sub(1);
                for &(part, x, y) in &blocks {
                    let (dc, ac) = (&dc[tables[part].0], &ac[tables[part].1]);
                    if !frame.progressive {
                        // Looked for before the first unit.
                        let (Some(dc), Some(ac)) = (dc, ac) else { return Err(NO_TABLE) };
                        bits.block(dc, ac)?;
                        continue;
                    }
                    let index = self.parts[part].0;
                    let c = frame.components[index];
                    let (x, y) = if alone { (column, row) } else { (column * c.h + x, row * c.v + y) };
                    match (self.first, self.refines) {
                        (0, false) => {
                            let Some(dc) = dc else { return Err(NO_TABLE) };
                            bits.mean(dc)?;
                        }
                        (0, true) => bits.skip(1)?,
                        (_, refines) => {
                            let Some(ac) = ac else { return Err(NO_TABLE) };
                            let place = y * frame.units.0 * c.h + x;
                            let known = frame.nonzero[index].get_mut(place).ok_or(BAD_SEGMENT)?;
                            if refines {
                                bits.refine(ac, self.first, self.last, known, &mut run)?;
                            } else {
                                bits.band(ac, self.first, self.last, known, &mut run)?;
                            }
                        }
                    }
                }
            }
        }
        if run > 0 {
            return Err(TOO_LONG);
        }
        bits.end()
    }
}

/// A Huffman code.
struct Table {
    /// By the next nine bits: length and value of the code word, length 0 where it is longer.
    short: [(u8, u8); 1 << SHORT],
    /// By length: the first number that is no code word of this length or shorter, and where its values are.
    limits: [(u32, i32); 17],
    values: Vec<u8>,
}

const SHORT: usize = 9;

impl Table {
    /// A table from the beginning of `bytes`, and what follows.
    fn read(bytes: &[u8]) -> Result<(Table, &[u8]), Why> {
        let (counts, rest) = bytes.split_first_chunk::<16>().ok_or(BAD_SEGMENT)?;
        let total = counts.iter().map(|&count| usize::from(count)).sum::<usize>();
        let (values, rest) = rest.split_at_checked(total).ok_or(BAD_SEGMENT)?;
        let mut table = Table { short: [(0, 0); 1 << SHORT], limits: [(0, 0); 17], values: values.to_vec() };
        let (mut code, mut at) = (0u32, 0usize);
        for length in 1..=16 {
            code <<= 1;
            let count = usize::from(counts[length - 1]);
            table.limits[length].1 = at as i32 - code as i32;
            for _ in 0..count {
                if code >= 1 << length {
                    return Err(BAD_SEGMENT);
                }
                if length <= SHORT {
                    let free = SHORT - length;
                    let entry = (length as u8, values[at]);
                    table.short[(code as usize) << free..][..1 << free].fill(entry);
                }
                code += 1;
                at += 1;
            }
            table.limits[length].0 = code;
        }
        Ok((table, rest))
    }
}

/// The bits of a scan, up to the next marker.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, the first of them on top.
    word: u64,
    left: usize,
    /// Whether a marker or the end of the file is next.
    ended: bool,
}

impl Bits<'_> {
    fn fill(&mut self) {
        if self.left > 56 {
            return;
        }
        if let Some(next) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk()) {
            // Eight bytes at once where none of them is 0xff, as is usual: where no byte of the complement is 0.
            const ONES: u64 = u64::MAX / 255;
            let next = u64::from_be_bytes(*next);
            if (!next).wrapping_sub(ONES) & next & (ONES << 7) == 0 {
                let bytes = (64 - self.left) / 8;
                self.word |= next >> self.left;
                self.left += 8 * bytes;
                self.word &= u64::MAX << (64 - self.left);
                self.at += bytes;
                return;
            }
        }
        while self.left <= 56 && !self.ended {
            let byte = match self.bytes.get(self.at..) {
                Some([0xff, 0, ..]) => {
                    self.at += 1;
                    0xff
                }
                None | Some([] | [0xff, ..]) => {
                    self.ended = true;
                    return;
                }
                Some(&[byte, ..]) => byte,
            };
            self.at += 1;
            self.word |= u64::from(byte) << (56 - self.left);
            self.left += 8;
        }
    }

    /// What is wrong where bits are missing.
    fn missing(&self) -> Why {
        if self.at >= self.bytes.len() { CUT } else { ENDS_EARLY }
    }

    /// The next `count` bits, at most 16.
    fn take(&mut self, count: usize) -> Result<u32, Why> {
        if count == 0 {
            return Ok(0);
        }
        if self.left < count {
            self.fill();
            if self.left < count {
                return Err(self.missing());
            }
        }
        let bits = (self.word >> (64 - count)) as u32;
        self.word <<= count;
        self.left -= count;
        Ok(bits)
    }

    /// Goes over `count` bits, at most 16.
    fn skip(&mut self, count: usize) -> Result<(), Why> {
        if self.left < count {
            self.fill();
            if self.left < count {
                return Err(self.missing());
            }
        }
        self.word <<= count;
        self.left -= count;
        Ok(())
    }

    /// The value of the next code word.
    fn code(&mut self, table: &Table) -> Result<u8, Why> {
        if self.left < 16 {
            self.fill();
        }
        let (length, value) = table.short[(self.word >> (64 - SHORT)) as usize];
        let (length, value) = if length > 0 {
            (usize::from(length), value)
        } else {
            let length = (SHORT + 1..=16)
                .find(|&length| ((self.word >> (64 - length)) as u32) < table.limits[length].0)
                .ok_or(if self.left < 16 { self.missing() } else { BAD_CODE })?;
            let at = (self.word >> (64 - length)) as i32 + table.limits[length].1;
            (length, usize::try_from(at).ok().and_then(|at| table.values.get(at)).copied().ok_or(BAD_CODE)?)
        };
        if length > self.left {
            return Err(self.missing());
        }
        self.word <<= length;
        self.left -= length;
        Ok(value)
    }

    /// The first coefficient of a block: the difference of means.
    fn mean(&mut self, table: &Table) -> Result<(), Why> {
        const LONGEST: u8 = 11;
        let length = self.code(table)?;
        if length > LONGEST {
            return Err(BAD_CODE);
        }
        self.skip(usize::from(length))
    }

    /// A block of a sequential scan.
    fn block(&mut self, dc: &Table, ac: &Table) -> Result<(), Why> {
        self.mean(dc)?;
        let mut next = 1;
        while next < 64 {
            let code = self.code(ac)?;
            let (zeros, length) = (usize::from(code >> 4), usize::from(code & 15));
            match (zeros, length) {
                (15, 0) => next += 16,
                (_, 0) => return Ok(()),
                _ => {
                    next += zeros + 1;
                    self.skip(length)?;
                }
            }
            if next > 64 {
                return Err(BAD_CODE);
            }
        }
        Ok(())
    }

    /// Blocks that end here: `2^zeros` and as many bits, this one among them.
    fn run(&mut self, zeros: usize) -> Result<u32, Why> {
        Ok((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// The first bits of some coefficients of a block.
    fn band(
        &mut self,
        ac: &Table,
        first: usize,
        last: usize,
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Why> {
        if *run > 0 {
            *run -= 1;
            return Ok(());
        }
        let mut next = first;
        while next <= last {
            let code = self.code(ac)?;
            let (zeros, length) = (usize::from(code >> 4), usize::from(code & 15));
            match (zeros, length) {
                (15, 0) => next += 16,
                (_, 0) => {
                    *run = self.run(zeros)?;
                    return Ok(());
                }
                _ => {
                    next += zeros;
                    if next > last {
                        return Err(BAD_CODE);
                    }
                    *known |= 1 << next;
                    next += 1;
                    self.skip(length)?;
                }
            }
            if next > last + 1 {
                return Err(BAD_CODE);
            }
        }
        Ok(())
    }

    /// One bit more of some coefficients of a block, and those that begin to be other than zero with it.
    fn refine(
        &mut self,
        ac: &Table,
        first: usize,
        last: usize,
        known: &mut u64,
        run: &mut u32,
    ) -> Result<(), Why> {
        let mut next = first;
        if *run == 0 {
            while next <= last {
                let code = self.code(ac)?;
                let (mut zeros, length) = (usize::from(code >> 4), usize::from(code & 15));
                match length {
                    0 if zeros < 15 => {
                        *run = self.run(zeros)? + 1;
                        break;
                    }
                    0 => {}
                    1 => self.skip(1)?,
                    _ => return Err(BAD_CODE),
                }
                // Over those that are known, a bit each, to the place behind so many that stay zero.
                loop {
                    if next > last {
                        return Err(BAD_CODE);
                    }
                    if *known >> next & 1 == 1 {
                        self.skip(1)?;
                    } else if zeros == 0 {
                        break;
                    } else {
                        zeros -= 1;
                    }
                    next += 1;
                }
                if length == 1 {
                    *known |= 1 << next;
                }
                next += 1;
            }
        }
        if *run > 0 {
            while next <= last {
                if *known >> next & 1 == 1 {
                    self.skip(1)?;
                }
                next += 1;
            }
            *run -= 1;
        }
        Ok(())
    }

    /// Where the marker behind the scan is: behind the rest of a byte, and bytes that some programs fill up with.
    fn end(&mut self) -> Result<usize, Why> {
        self.word <<= self.left % 8;
        self.left -= self.left % 8;
        loop {
            self.fill();
            if self.left == 0 {
                return Ok(self.at);
            }
            if !matches!(self.word >> 56, 0 | 0xff) {
                return Err(TOO_LONG);
            }
            self.word <<= 8;
            self.left -= 8;
        }
    }

    /// Goes over the restart marker of this number.
    fn restart(&mut self, number: u8) -> Result<(), Why> {
        let mut reader = Reader { bytes: self.bytes, at: self.end()? };
        if reader.marker()? != 0xd0 + number {
            return Err(BAD_RESTART);
        }
        *self = Bits { bytes: self.bytes, at: reader.at, word: 0, left: 0, ended: false };
        Ok(())
    }
}
