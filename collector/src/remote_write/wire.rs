//! Protobuf's wire format, read where it lies: nothing is copied and nothing allocated.

/// A field's value; groups, which no message of ours has, are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message, in the order in which they were written.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Number and value of the next field, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, String> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
        let number = number.ok_or_else(|| format!("field number {} is not possible", key >> 3))?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).unwrap_or(usize::MAX);
                let cut = self.rest.split_at_checked(length);
                let (bytes, rest) = cut.ok_or_else(|| {
                    format!("field {number} is cut short at {} of {length} bytes", self.rest.len())
                })?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            wire_type => return Err(format!("field {number} has the wire type {wire_type}")),
        };
        Ok(Some((number, value)))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (array, rest) = self.rest.split_first_chunk().ok_or("a number is cut short")?;
        self.rest = rest;
        Ok(*array)
    }

    /// A number that has no key before it, as packed ones have none.
    pub(super) fn varint(&mut self) -> Result<u64, String> {
        let mut number = 0;
        for shift in (0..70).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or("a number is cut short")?;
            self.rest = rest;
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if *byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number is longer than ten bytes".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u32, Value<'_>)>, String> {
        let mut fields = Fields::new(bytes);
        let mut all = Vec::new();
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn fields_come_as_written_and_faults_are_named() {
        let message = [0x0a, 2, b'h', b'i', 0x10, 0xac, 0x02, 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0];
        let wanted = [
            (1, Value::Bytes(b"hi")),
            (2, Value::Varint(300)),
            (3, Value::Fixed32(1)),
            (4, Value::Fixed64(2)),
        ];
        assert_eq!(read(&message).unwrap(), wanted);
        let minus_one = [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(read(&minus_one).unwrap(), [(2, Value::Varint(u64::MAX))]);
        for (bytes, fault) in [
            (&[0x0a, 5, b'h'][..], "cut short at 1 of 5"),
            (&[0x10], "cut short"),
            (&[0x10, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], "longer than ten"),
            (&[0x21, 1], "cut short"),
            (&[0x0b], "wire type 3"),
            (&[0x02, 0], "field number 0"),
        ] {
            assert!(read(bytes).unwrap_err().contains(fault), "{bytes:?}: {:?}", read(bytes));
        }
    }
}
