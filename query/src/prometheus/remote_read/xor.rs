//! Prometheus' XOR chunks: times as differences of differences, values as the bits that changed. Source: its
//! `tsdb/docs/format/chunks.md`.

/// Most-significant bit first.
#[derive(Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are not used yet.
    free: u32,
}

impl Bits {
    /// Goes on behind whole bytes.
    pub(super) fn after(bytes: &[u8]) -> Bits {
        Bits { bytes: bytes.to_vec(), free: 0 }
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The lowest `count` bits, at most 64.
    pub(super) fn push(&mut self, bits: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let taken = left.min(self.free);
            let part = (bits >> (left - taken)) & ((1 << taken) - 1);
            if let Some(last) = self.bytes.last_mut() {
                *last |= (part << (self.free - taken)) as u8;
            }
            self.free -= taken;
            left -= taken;
        }
    }

    fn push_varint(&mut self, value: u64) {
        let mut bytes = Vec::with_capacity(10);
        push_varint(&mut bytes, value);
        bytes.into_iter().for_each(|byte| self.push(u64::from(byte), 8));
    }
}

/// Seven bits a byte, the lowest first.
pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Encodes up to 65,535 samples of rising times.
pub(super) fn encode(times_ms: &[i64], values: &[f64]) -> Vec<u8> {
    let count = u16::try_from(times_ms.len()).unwrap_or(u16::MAX);
    let mut bits = Bits::after(&count.to_be_bytes());
    let (mut time, mut delta, mut previous) = (0i64, 0u64, 0u64);
    let mut window = None;
    for (index, (&next, value)) in times_ms.iter().zip(values).take(usize::from(count)).enumerate() {
        let value = value.to_bits();
        match index {
            0 => {
                // Zigzag, as Go writes signed varints.
                bits.push_varint(((next << 1) ^ (next >> 63)) as u64);
                bits.push(value, 64);
            }
            1 => {
                delta = next.wrapping_sub(time) as u64;
                bits.push_varint(delta);
                push_value(&mut bits, previous ^ value, &mut window);
            }
            _ => {
                let next_delta = next.wrapping_sub(time) as u64;
                push_delta_of_delta(&mut bits, next_delta.wrapping_sub(delta) as i64);
                delta = next_delta;
                push_value(&mut bits, previous ^ value, &mut window);
            }
        }
        time = next;
        previous = value;
    }
    bits.bytes
}

fn push_delta_of_delta(bits: &mut Bits, change: i64) {
    if change == 0 {
        return bits.push(0, 1);
    }
    // The range of `n` bits lies one to the right of two's complement.
    let fits = |n: u32| (-((1 << (n - 1)) - 1)..=1 << (n - 1)).contains(&change);
    let (prefix, prefix_bits, size) = match () {
        () if fits(14) => (0b10, 2, 14),
        () if fits(17) => (0b110, 3, 17),
        () if fits(20) => (0b1110, 4, 20),
        () => (0b1111, 4, 64),
    };
    bits.push(prefix, prefix_bits);
    bits.push(change as u64, size);
}

/// `window`: how many zeros stood before and behind the changed bits the last time that they were written in full.
pub(super) fn push_value(bits: &mut Bits, changed: u64, window: &mut Option<(u32, u32)>) {
    if changed == 0 {
        return bits.push(0, 1);
    }
    bits.push(1, 1);
    // Five bits hold the count.
    let leading = changed.leading_zeros().min(31);
    let trailing = changed.trailing_zeros();
    if let Some((known_leading, known_trailing)) = *window
        && leading >= known_leading
        && trailing >= known_trailing
    {
        bits.push(0, 1);
        return bits.push(changed >> known_trailing, 64 - known_leading - known_trailing);
    }
    *window = Some((leading, trailing));
    let significant = 64 - leading - trailing;
    bits.push(1, 1);
    bits.push(u64::from(leading), 5);
    // 64 does not fit in six bits; 0 never occurs and stands for it.
    bits.push(u64::from(significant & 63), 6);
    bits.push(changed >> trailing, significant);
}

#[cfg(test)]
pub(super) mod decode {
    pub(crate) struct Reader<'b> {
        pub(crate) bytes: &'b [u8],
        pub(crate) at: usize,
    }

    impl Reader<'_> {
        pub(crate) fn bits(&mut self, count: u32) -> u64 {
            (0..count).fold(0, |value, _| {
                let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
                self.at += 1;
                value << 1 | u64::from(bit)
            })
        }

        fn varint(&mut self) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = self.bits(8);
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }

        /// A number after as many ones as there are smaller sizes, without its sign.
        pub(crate) fn varbit(&mut self) -> (u64, u32) {
            let size = [0, 3, 6, 9, 12, 18, 25, 56, 64][(0..8).take_while(|_| self.bits(1) == 1).count()];
            (if size == 0 { 0 } else { self.bits(size) }, size)
        }

        pub(crate) fn varbit_int(&mut self) -> i64 {
            match self.varbit() {
                (bits, 0 | 64) => bits as i64,
                (bits, size) if bits > 1 << (size - 1) => bits as i64 - (1 << size),
                (bits, _) => bits as i64,
            }
        }

        /// What differs from the value before.
        pub(crate) fn changed(&mut self, window: &mut (u32, u32)) -> u64 {
            if self.bits(1) == 0 {
                return 0;
            }
            if self.bits(1) == 1 {
                let leading = self.bits(5) as u32;
                let significant = match self.bits(6) as u32 {
                    0 => 64,
                    some => some,
                };
                *window = (64 - leading - significant, significant);
            }
            self.bits(window.1) << window.0
        }

        fn delta_of_delta(&mut self) -> i64 {
            let size = [0, 14, 17, 20, 64][(0..4).take_while(|_| self.bits(1) == 1).count()];
            let bits = if size == 0 { 0 } else { self.bits(size) };
            match size {
                0 | 64 => bits as i64,
                size if bits > 1 << (size - 1) => bits as i64 - (1 << size),
                _ => bits as i64,
            }
        }
    }

    /// Written from the format's description alone.
    pub(crate) fn samples(chunk: &[u8]) -> Vec<(i64, f64)> {
        let count = usize::from(u16::from_be_bytes([chunk[0], chunk[1]]));
        let mut reader = Reader { bytes: chunk, at: 16 };
        let (mut time, mut delta, mut value, mut window) = (0i64, 0i64, 0u64, (0, 0));
        let mut samples = Vec::new();
        for index in 0..count {
            if index == 0 {
                let zigzag = reader.varint();
                time = (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64);
                value = reader.bits(64);
            } else {
                delta = if index == 1 { reader.varint() as i64 } else { delta + reader.delta_of_delta() };
                time += delta;
                value ^= reader.changed(&mut window);
            }
            samples.push((time, f64::from_bits(value)));
        }
        samples
    }
}
