use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text is no trace or span id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {wanted}")]
pub struct ParseIdError {
    pub text: String,
    pub wanted: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $wanted:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            pub const ZERO: $name = $name([0; $bytes]);

            /// All zero: what OTLP and W3C call invalid.
            pub fn is_zero(&self) -> bool {
                self.0 == [0; $bytes]
            }

            /// `None` unless `bytes` has this id's exact width.
            pub fn from_slice(bytes: &[u8]) -> Option<$name> {
                bytes.try_into().ok().map($name)
            }
        }

        /// Lower-case hex at full width.
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        /// Hex of either case; fewer digits than the full width count as having leading zeros, as Jaeger and
        /// Tempo print ids.
        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<$name, ParseIdError> {
                let wrong = || ParseIdError { text: text.chars().take(80).collect(), wanted: $wanted };
                if text.is_empty() || text.len() > 2 * $bytes || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(wrong());
                }
                let padded = format!("{text:0>width$}", width = 2 * $bytes);
                let mut bytes = [0; $bytes];
                hex::decode_to_slice(padded, &mut bytes).map_err(|_| wrong())?;
                Ok($name(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

id!(
    /// A trace's id, 128 bits; a 64-bit id of B3 fills the low half.
    TraceId,
    16,
    "a trace id of 1 to 32 hex digits"
);
id!(
    /// A span's id, 64 bits.
    SpanId,
    8,
    "a span id of 1 to 16 hex digits"
);

impl TraceId {
    /// The low 64 bits: what a fleet that mixes 64-bit and 128-bit B3 ids has in common.
    pub fn low(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, low @ ..] = self.0;
        u64::from_be_bytes(low)
    }

    /// Hex as Jaeger's legacy API prints it: 16 digits when the high half is zero.
    pub fn short_hex(&self) -> String {
        let full = self.to_string();
        match full.strip_prefix("0000000000000000") {
            Some(low) => low.to_string(),
            None => full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_at_any_width_and_printed_in_full() {
        let id: TraceId = "4E12".parse().unwrap();
        assert_eq!(id.to_string(), "00000000000000000000000000004e12");
        assert_eq!(id.short_hex(), "0000000000004e12");
        assert_eq!(id.low(), 0x4e12);
        assert_eq!("80000000000000000000000000000001".parse::<TraceId>().unwrap().short_hex().len(), 32);
        for wrong in ["", "xyz", "+1", &"0".repeat(33)] {
            let error = wrong.parse::<TraceId>().unwrap_err();
            assert!(error.to_string().contains("is not a trace id"), "{error}");
        }
        assert!("00112233445566778".parse::<SpanId>().is_err());
    }
}
