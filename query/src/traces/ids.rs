//! Trace ids in every form that Jaeger accepts.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use pharos_model::TraceId;

/// 1 to 32 hex digits, or base64 of 16 bytes in the standard or the URL alphabet, padded or not.
pub(crate) fn parse_trace_id(text: &str) -> Option<TraceId> {
    if let Ok(id) = text.parse::<TraceId>() {
        return Some(id);
    }
    if text.len() > 24 {
        return None;
    }
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    [alphabet::STANDARD, alphabet::URL_SAFE]
        .iter()
        .find_map(|alphabet| GeneralPurpose::new(alphabet, config).decode(text).ok())
        .and_then(|bytes| TraceId::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_gives_the_same_id() {
        let id: TraceId = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0".parse().expect("an id");
        for form in [
            "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0",
            "FFFEFDFCFBFAF9F8F7F6F5F4F3F2F1F0",
            "//79/Pv6+fj39vX08/Lx8A==",
            "__79_Pv6-fj39vX08_Lx8A",
        ] {
            assert_eq!(parse_trace_id(form), Some(id), "{form}");
        }
        assert_eq!(parse_trace_id("1f"), "1f".parse().ok());
        assert_eq!(parse_trace_id("not a trace"), None);
        assert_eq!(parse_trace_id(""), None);
    }
}
