//! Protobuf's wire format, as much of it as ONNX needs: fields out of borrowed bytes, and messages into bytes.
//!
//! By hand, since it is little: reading borrows, so that weights are not copied before they are checked; nothing is
//! allocated by a length that a file states; and messages do not nest without bound, for each is read by its own
//! function.

/// What is wrong with the bytes.
pub(super) type Damage = &'static str;

/// A field's content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Fields { rest: bytes }
    }

    /// The next field's number and content; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Damage> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let field = u32::try_from(key >> 3).ok().filter(|&field| field > 0).ok_or("an impossible field")?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| "an impossible length")?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err("a field of unknown type"),
        };
        Ok(Some((field, value)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or("an end in the middle of a field")?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        self.take(N)?.try_into().map_err(|_| "an end in the middle of a number")
    }

    fn varint(&mut self) -> Result<u64, Damage> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 127).checked_shl(shift).unwrap_or(0);
            if byte < 128 {
                return Ok(value);
            }
        }
        Err("a number of more than ten bytes")
    }
}

impl<'a> Value<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Damage> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            _ => Err("a number where text or a message belongs"),
        }
    }

    pub(super) fn text(self) -> Result<&'a str, Damage> {
        std::str::from_utf8(self.bytes()?).map_err(|_| "text that is not UTF-8")
    }

    pub(super) fn int(self) -> Result<i64, Damage> {
        match self {
            Value::Varint(value) => Ok(value as i64),
            _ => Err("something else where a whole number belongs"),
        }
    }

    pub(super) fn float(self) -> Result<f32, Damage> {
        match self {
            Value::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err("something else where a number belongs"),
        }
    }

    /// Appends a repeated whole number, packed or not, up to `most` of them.
    pub(super) fn append_ints(self, list: &mut Vec<i64>, most: usize) -> Result<(), Damage> {
        match self {
            Value::Varint(value) => list.push(value as i64),
            Value::Bytes(packed) => {
                let mut packed = Fields::new(packed);
                while !packed.rest.is_empty() {
                    list.push(packed.varint()? as i64);
                    if list.len() > most {
                        break;
                    }
                }
            }
            _ => return Err("something else where whole numbers belong"),
        }
        if list.len() > most { Err("more numbers than there can be") } else { Ok(()) }
    }

    /// Appends a repeated float, packed or not.
    pub(super) fn append_floats(self, list: &mut Vec<f32>) -> Result<(), Damage> {
        match self {
            Value::Fixed32(bits) => list.push(f32::from_bits(bits)),
            Value::Bytes(packed) if packed.len().is_multiple_of(4) => {
                list.extend(packed.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])));
            }
            _ => return Err("something else where numbers belong"),
        }
        Ok(())
    }

    /// Appends a repeated double, packed or not, as f32.
    pub(super) fn append_doubles(self, list: &mut Vec<f32>) -> Result<(), Damage> {
        match self {
            Value::Fixed64(bits) => list.push(f64::from_bits(bits) as f32),
            Value::Bytes(packed) if packed.len().is_multiple_of(8) => {
                let double = |x: &[u8]| f64::from_le_bytes([x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]]);
                list.extend(packed.chunks_exact(8).map(|x| double(x) as f32));
            }
            _ => return Err("something else where numbers belong"),
        }
        Ok(())
    }
}

/// A message being written.
#[derive(Debug, Default)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    fn raw_varint(&mut self, mut value: u64) {
        while value > 127 {
            self.bytes.push(value as u8 | 128);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(super) fn int(&mut self, field: u32, value: i64) -> &mut Self {
        self.raw_varint(u64::from(field) << 3);
        self.raw_varint(value as u64);
        self
    }

    pub(super) fn float(&mut self, field: u32, value: f32) -> &mut Self {
        self.raw_varint(u64::from(field) << 3 | 5);
        self.bytes.extend(value.to_le_bytes());
        self
    }

    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.raw_varint(u64::from(field) << 3 | 2);
        self.raw_varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
        self
    }

    pub(super) fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    pub(super) fn message(&mut self, field: u32, value: &Message) -> &mut Self {
        self.bytes(field, &value.bytes)
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut inner = Message::default();
        inner.text(1, "abc").int(3, -1);
        let mut message = Message::default();
        message.int(1, 300).float(2, 1.5).message(16, &inner);
        let bytes = message.into_bytes();
        let mut fields = Fields::new(&bytes);
        assert_eq!(fields.next(), Ok(Some((1, Value::Varint(300)))));
        assert_eq!(fields.next().map(|f| f.map(|(n, v)| (n, v.float()))), Ok(Some((2, Ok(1.5)))));
        let Ok(Some((16, inner))) = fields.next() else { panic!("the inner message") };
        let mut inner = Fields::new(inner.bytes().expect("bytes"));
        assert_eq!(inner.next().map(|f| f.map(|(n, v)| (n, v.text()))), Ok(Some((1, Ok("abc")))));
        assert_eq!(inner.next().map(|f| f.map(|(n, v)| (n, v.int()))), Ok(Some((3, Ok(-1)))));
        assert_eq!(inner.next(), Ok(None));
        assert_eq!(fields.next(), Ok(None));
    }

    #[test]
    fn lengths_beyond_the_end_are_damage() {
        for bytes in
            [&[0x0A, 5, 1][..], &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], &[0x0D, 1]]
        {
            assert!(Fields::new(bytes).next().is_err(), "{bytes:?}");
        }
        assert!(Fields::new(&[0x08; 1]).next().is_err(), "no number after the key");
        assert!(
            Fields::new(&[0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1])
                .next()
                .is_err()
        );
        assert!(Fields::new(&[0x0B]).next().is_err(), "groups are not read");
        let mut list = Vec::new();
        assert!(Value::Bytes(&[1; 100]).append_ints(&mut list, 10).is_err());
        assert!(list.len() <= 11, "no more is taken than is looked at");
    }
}
