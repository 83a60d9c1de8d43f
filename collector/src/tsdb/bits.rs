//! Bits of a chunk, most significant first, and the numbers that Prometheus' chunks write with them.

/// A chunk ends too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunk ends too early")]
pub(super) struct EndOfChunk;

pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// In bits.
    at: usize,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Bits<'a> {
        Bits { bytes, at: 0 }
    }

    pub(super) fn bit(&mut self) -> Result<bool, EndOfChunk> {
        let byte = self.bytes.get(self.at / 8).ok_or(EndOfChunk)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// At most 64.
    pub(super) fn bits(&mut self, mut count: u32) -> Result<u64, EndOfChunk> {
        let mut value = 0u64;
        while count > 0 {
            let byte = *self.bytes.get(self.at / 8).ok_or(EndOfChunk)?;
            let used = (self.at % 8) as u32;
            let taken = count.min(8 - used);
            let part = (u64::from(byte) >> (8 - used - taken)) & ((1 << taken) - 1);
            value = (value << taken) | part;
            self.at += taken as usize;
            count -= taken;
        }
        Ok(value)
    }

    pub(super) fn float(&mut self) -> Result<f64, EndOfChunk> {
        self.bits(64).map(f64::from_bits)
    }

    /// LEB128, as Go's `binary.ReadUvarint`.
    pub(super) fn uvarint(&mut self) -> Result<u64, EndOfChunk> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.bits(8)?;
            value |= (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(EndOfChunk)
    }

    /// Zigzag, as Go's `binary.ReadVarint`.
    pub(super) fn varint(&mut self) -> Result<i64, EndOfChunk> {
        self.uvarint().map(unzigzag)
    }

    /// A number in as many bits as fit it, after a prefix that says how many (`tsdb/chunkenc/varbit.go`).
    pub(super) fn varbit_uint(&mut self) -> Result<u64, EndOfChunk> {
        match self.varbit_size()? {
            0 => Ok(0),
            size => self.bits(size),
        }
    }

    pub(super) fn varbit_int(&mut self) -> Result<i64, EndOfChunk> {
        match self.varbit_size()? {
            0 => Ok(0),
            size => self.signed(size),
        }
    }

    /// Two's complement but for its range, which is one higher at the top.
    pub(super) fn signed(&mut self, size: u32) -> Result<i64, EndOfChunk> {
        let bits = self.bits(size)?;
        Ok(match size {
            64 => bits as i64,
            _ if bits > 1 << (size - 1) => bits as i64 - (1 << size),
            _ => bits as i64,
        })
    }

    fn varbit_size(&mut self) -> Result<u32, EndOfChunk> {
        const SIZES: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];
        let mut ones = 0;
        while ones < 8 && self.bit()? {
            ones += 1;
        }
        Ok(SIZES.get(ones).copied().unwrap_or(64))
    }
}

pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

/// A float that is written as what it differs by from the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct XorFloat {
    pub(super) value: f64,
    leading: u32,
    trailing: u32,
}

impl XorFloat {
    pub(super) fn new(value: f64) -> XorFloat {
        XorFloat { value, leading: 0, trailing: 0 }
    }

    pub(super) fn read(&mut self, bits: &mut Bits<'_>) -> Result<f64, EndOfChunk> {
        if !bits.bit()? {
            return Ok(self.value);
        }
        if bits.bit()? {
            self.leading = bits.bits(5)? as u32;
            // 0 stands for 64, which does not fit.
            let significant = match bits.bits(6)? as u32 {
                0 => 64,
                other => other,
            };
            self.trailing = 64u32.checked_sub(self.leading + significant).ok_or(EndOfChunk)?;
        }
        let significant = 64u32.checked_sub(self.leading + self.trailing).ok_or(EndOfChunk)?;
        let difference = bits.bits(significant)?.checked_shl(self.trailing).unwrap_or(0);
        self.value = f64::from_bits(self.value.to_bits() ^ difference);
        Ok(self.value)
    }
}
