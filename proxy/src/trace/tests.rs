use super::*;

const T32: &str = "463ac35c9f6413ad48485a3953bb6124";
const T16: &str = "48485a3953bb6124";
const S: &str = "a2fb4a1d1a96d312";
const P: &str = "0020000000000001";

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(k, v)| (HeaderName::from_static(k), HeaderValue::try_from(*v).unwrap())).collect()
}

fn continues(trace: &str, sampled: Option<bool>, debug: bool) -> Incoming {
    Incoming::Continue { trace_id: trace.parse().unwrap(), span_id: S.parse().unwrap(), sampled, debug }
}

#[test]
fn the_b3_single_header_follows_its_grammar() {
    let check = |value: &str, expected: Incoming| {
        assert_eq!(extract(&headers(&[("b3", value)]), &[Propagation::B3]), expected, "{value}");
    };
    check(&format!("{T32}-{S}"), continues(T32, None, false));
    check(&format!("{T16}-{S}"), continues(T16, None, false));
    check(&format!("{T32}-{S}-1"), continues(T32, Some(true), false));
    check(&format!("{T32}-{S}-0"), continues(T32, Some(false), false));
    check(&format!("{T32}-{S}-d"), continues(T32, Some(true), true));
    check(&format!("{T32}-{S}-1-{P}"), continues(T32, Some(true), false));
    check("0", Incoming::New { sampled: Some(false), debug: false });
    check("1", Incoming::New { sampled: Some(true), debug: false });
    check("d", Incoming::New { sampled: Some(true), debug: true });
    for bad in [
        String::new(),
        "2".into(),
        T32.into(),
        format!("{T32}-{S}-"),
        format!("{T32}-{S}-x"),
        format!("{T32}-{S}-{P}"),
        format!("{T32}-{S}-1-{P}-1"),
        format!("{T32}-{}", &S[1..]),
        format!("{}-{S}", &T32[1..]),
        format!("{}-{S}", "0".repeat(32)),
        format!("{T32}-{}", "0".repeat(16)),
        format!("{}g-{S}", &T32[1..]),
    ] {
        check(&bad, Incoming::Broken);
    }
}

#[test]
fn the_b3_headers_need_both_ids() {
    let check = |pairs: &[(&'static str, &str)], expected: Incoming| {
        assert_eq!(extract(&headers(pairs), &[Propagation::B3]), expected, "{pairs:?}");
    };
    let new = |sampled| Incoming::New { sampled, debug: false };
    check(&[("x-b3-traceid", T32), ("x-b3-spanid", S)], continues(T32, None, false));
    check(
        &[("x-b3-traceid", T16), ("x-b3-spanid", S), ("x-b3-sampled", "1")],
        continues(T16, Some(true), false),
    );
    check(
        &[("x-b3-traceid", T32), ("x-b3-spanid", S), ("x-b3-sampled", "false")],
        continues(T32, Some(false), false),
    );
    check(
        &[("x-b3-traceid", T32), ("x-b3-spanid", S), ("x-b3-flags", "1")],
        continues(T32, Some(true), true),
    );
    check(&[("x-b3-traceid", T32)], new(None));
    check(&[("x-b3-sampled", "0")], new(Some(false)));
    check(&[], new(None));
    check(&[("x-b3-traceid", "nonsense"), ("x-b3-spanid", S)], Incoming::Broken);
    check(&[("x-b3-traceid", T32), ("x-b3-spanid", S), ("x-b3-parentspanid", "1")], Incoming::Broken);
    // The single header wins, even when it is broken.
    check(&[("b3", "zz"), ("x-b3-traceid", T32), ("x-b3-spanid", S)], Incoming::Broken);
}

#[test]
fn a_traceparent_is_exact_or_starts_a_new_trace() {
    let check = |value: &str, expected: Incoming| {
        assert_eq!(extract(&headers(&[("traceparent", value)]), &[Propagation::W3c]), expected, "{value}");
    };
    check(&format!("00-{T32}-{S}-01"), continues(T32, Some(true), false));
    check(&format!("00-{T32}-{S}-00"), continues(T32, Some(false), false));
    check(&format!("00-{T32}-{S}-03"), continues(T32, Some(true), false));
    check(&format!("cc-{T32}-{S}-01"), continues(T32, Some(true), false));
    for bad in [
        String::new(),
        format!("ff-{T32}-{S}-01"),
        format!("00-{T32}-{S}-1"),
        format!("00-{T32}-{S}-01-x"),
        format!("00-{}-{S}-01", T32.to_uppercase()),
        format!("00-{}-{S}-01", "0".repeat(32)),
        format!("00-{T32}-{}-01", "0".repeat(16)),
        format!("00_{T32}_{S}_01"),
        format!("0x-{T32}-{S}-01"),
    ] {
        check(&bad, Incoming::New { sampled: None, debug: false });
    }
}

#[test]
fn the_order_decides_between_families() {
    let both = headers(&[
        ("b3", &format!("{T32}-{S}-1")),
        ("traceparent", &format!("00-{}-{S}-00", "1".repeat(32))),
    ]);
    let b3_first = extract(&both, &[Propagation::B3, Propagation::W3c]);
    assert_eq!(b3_first, continues(T32, Some(true), false));
    let w3c_first = extract(&both, &[Propagation::W3c, Propagation::B3]);
    assert_eq!(w3c_first, continues(&"1".repeat(32), Some(false), false));
    let w3c_only = headers(&[("traceparent", &format!("00-{T32}-{S}-01"))]);
    assert_eq!(extract(&w3c_only, &[Propagation::B3, Propagation::W3c]), continues(T32, Some(true), false));
    let with_decision = headers(&[("x-b3-sampled", "0"), ("traceparent", &format!("00-{T32}-{S}-01"))]);
    let both_orders = extract(&with_decision, &[Propagation::B3, Propagation::W3c]);
    assert_eq!(both_orders, continues(T32, Some(true), false), "a lone decision does not cut a trace");
    assert_eq!(
        extract(&w3c_only, &[Propagation::B3]),
        Incoming::New { sampled: None, debug: false },
        "W3C is not asked for"
    );
}

#[test]
fn what_is_written_is_read_back_by_either_family() {
    let context = Context {
        trace_id: T32.parse().unwrap(),
        span_id: S.parse().unwrap(),
        parent: Some(P.parse().unwrap()),
        sampled: true,
        debug: false,
    };
    let mut written = HeaderMap::new();
    context.inject(&mut written, &[Propagation::B3, Propagation::W3c]);
    for order in [[Propagation::B3], [Propagation::W3c]] {
        assert_eq!(extract(&written, &order), continues(T32, Some(true), false), "{order:?}");
    }
    assert_eq!(text(&written, &B3_PARENT), Some(P));
    assert!(!written.contains_key(B3), "the single form is only written where it was used");

    let mut with_single = headers(&[("b3", "0")]);
    context.inject(&mut with_single, &[Propagation::B3]);
    assert_eq!(text(&with_single, &B3), Some(&*format!("{T32}-{S}-1-{P}")));
}

#[test]
fn short_trace_ids_keep_their_width_and_foreign_state_is_dropped() {
    let context = Context {
        trace_id: T16.parse().unwrap(),
        span_id: S.parse().unwrap(),
        parent: None,
        sampled: false,
        debug: false,
    };
    let mut written =
        headers(&[("traceparent", &format!("00-{}-{S}-01", "2".repeat(32))), ("tracestate", "a=1")]);
    context.inject(&mut written, &[Propagation::B3, Propagation::W3c]);
    assert_eq!(text(&written, &B3_TRACE_ID), Some(T16));
    assert_eq!(text(&written, &TRACEPARENT), Some(&*format!("00-0000000000000000{T16}-{S}-00")));
    assert!(!written.contains_key(TRACESTATE), "the state belonged to another trace");
}

proptest::proptest! {
    /// Whatever a client sends, a context is read whole or not at all, and what we write can be read.
    #[test]
    fn any_header_is_read_or_refused(
        name in proptest::sample::select(vec!["b3", "traceparent", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled"]),
        value in "[0-9a-fA-Fdz_-]{0,72}",
        trace in 1u128..,
        span in 1u64..,
        sampled: bool,
    ) {
        let mut headers = headers(&[(name, &value)]);
        extract(&headers, &[Propagation::B3, Propagation::W3c]);
        let context = Context {
            trace_id: TraceId(trace.to_be_bytes()),
            span_id: SpanId(span.to_be_bytes()),
            parent: None,
            sampled,
            debug: false,
        };
        context.inject(&mut headers, &[Propagation::B3, Propagation::W3c]);
        let expected = Incoming::Continue {
            trace_id: context.trace_id,
            span_id: context.span_id,
            sampled: Some(sampled),
            debug: false,
        };
        proptest::prop_assert_eq!(extract(&headers, &[Propagation::B3]), expected);
        proptest::prop_assert_eq!(extract(&headers, &[Propagation::W3c]), expected);
    }
}
