use proptest::prelude::*;

use super::{Features, MAX_DEPTH, parse, parse_with};
use crate::{BinaryOp, ExprKind, format_query, parse_selector};

/// What a query prints as; nothing where it prints as it was written.
fn check_prints(query: &str, printed: &str) {
    let expr = parse_with(query, &Features::ALL).unwrap_or_else(|error| panic!("{query}: {error}"));
    assert_eq!(expr.to_string(), printed, "{query}");
    let again = parse_with(printed, &Features::ALL).unwrap_or_else(|error| panic!("{printed}: {error}"));
    assert_eq!(again.to_string(), printed);
}

#[test]
fn queries_print_as_prometheus_prints_them() {
    for query in [
        "1",
        "-1",
        "5m",
        "\"text\"",
        "up",
        "up{job=\"a\"}",
        "{__name__=~\"a.*\",job!=\"b\"}",
        "{\"my.label\"=\"x\",__name__=\"http.status\"}",
        "rate(m[5m])",
        "m[5m] @ 1.500 offset 1h",
        "m offset -5m",
        "m @ start()",
        "sum by (a, \"b.c\") (m)",
        "sum without (a) (m)",
        "topk(5, m)",
        "count_values(\"v\", m)",
        "a / on (x) group_left (y) b",
        "a and b or c unless d",
        "a > bool 1",
        "-(a + b) ^ 2",
        "max_over_time(rate(m[5m])[1h:1m] @ end() offset 5m)",
        "m[5m * 2]",
        "m[max_of(step(), 5s)]",
        "rate(m[5m] anchored)",
        "m smoothed",
        "a + fill (0) b",
        "h </ 5",
    ] {
        check_prints(query, query);
    }
    for (query, printed) in [
        ("SUM(m) BY (a)", "sum by (a) (m)"),
        ("a OR b", "a or b"),
        ("m [ 90s ]", "m[1m30s]"),
        ("m[300]", "m[5m]"),
        ("m{b=\"1\",a='2',}", "m{a=\"2\",b=\"1\"}"),
        ("+1", "1"),
        ("0x1F", "31"),
        ("1_000.5", "1000.5"),
        (".5e1", "5"),
        ("m offset 300", "m offset 5m"),
        ("m # why\n + 1", "m + 1"),
        ("sum({\"a\\u00e9\"})", "sum({__name__=\"aé\"})"),
    ] {
        check_prints(query, printed);
    }
}

#[test]
fn operators_bind_as_in_prometheus() {
    let tree = |query: &str| {
        fn show(expr: &crate::Expr) -> String {
            match &expr.kind {
                ExprKind::Binary(binary) => {
                    format!("({} {} {})", show(&binary.left), binary.op.symbol(), show(&binary.right))
                }
                ExprKind::Unary { operand, .. } => format!("(-{})", show(operand)),
                _ => expr.to_string(),
            }
        }
        show(&parse(query).unwrap_or_else(|error| panic!("{query}: {error}")))
    };
    for (query, expected) in [
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("-a ^ b", "(-(a ^ b))"),
        ("-a * b", "((-a) * b)"),
        ("a == b + c", "(a == (b + c))"),
        ("a or b and c", "(a or (b and c))"),
        ("a and b or c", "((a and b) or c)"),
        ("a * -b ^ c", "(a * (-(b ^ c)))"),
        ("a atan2 b % c", "((a atan2 b) % c)"),
    ] {
        assert_eq!(tree(query), expected, "{query}");
    }
    assert_eq!(BinaryOp::Pow.precedence(), 6);
}

/// A fault is named with its place.
#[test]
fn faults_are_named_with_their_place() {
    for (query, message) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("# nothing\n", "1:1: parse error: no expression found in input"),
        // What is wrong first is told first, be it a word or a character.
        ("a b )", "1:3: parse error: unexpected identifier \"b\""),
        ("sum(a by)", "1:7: parse error: unexpected <by> in aggregation"),
        (
            "a{b=\"c\" sum}",
            "1:9: parse error: unexpected identifier \"sum\" in label matching, expected \",\" or \"}\"",
        ),
        ("a or 5mm", "1:6: parse error: bad number or duration syntax: \"5mm\""),
        ("sum(", "1:5: parse error: unclosed left parenthesis"),
        ("a +", "1:4: parse error: unexpected end of input"),
        ("a b", "1:3: parse error: unexpected identifier \"b\""),
        ("foo(m)", "1:1: parse error: unknown function with name \"foo\""),
        ("foo(m", "1:6: parse error: unclosed left parenthesis"),
        ("sum(abs(m - ))", "1:13: parse error: unexpected \")\" in aggregation"),
        ("on(m)", "1:1: parse error: unexpected <on>"),
        ("m x:y(1)", "1:3: parse error: unexpected metric identifier \"x:y\""),
        ("topk(1, =m)", "1:7: parse error: trailing commas not allowed in function call args"),
        (
            "a + on(b) group_left",
            "1:21: parse error: unexpected end of input in grouping opts, expected \"(\"",
        ),
        ("m =~ 1", "1:3: parse error: unexpected character after '=': '~'"),
        ("m !~ 1", "1:3: parse error: unexpected character after '!': '~'"),
        ("m \\", "1:3: parse error: unexpected character: '\\\\'"),
        ("m{a>\"b\"}", "1:4: parse error: unexpected character inside braces: '>'"),
        ("m{a==\"b\"}", "1:5: parse error: unexpected \"=\" in label matching, expected string"),
        ("m{a!\"b\"}", "1:4: parse error: unexpected character after '!' inside braces: '\"'"),
        (
            "{\"m\" a}",
            "1:6: parse error: unexpected identifier \"a\" in label matching, expected \",\" or \"}\"",
        ),
        ("m[", "1:3: parse error: unexpected end of input in duration expression"),
        ("m[abc]", "1:3: parse error: unexpected character in duration expression: 'a'"),
        ("m[:5m]", "1:4: parse error: unexpected colon before duration in duration expression"),
        ("m[5m x]", "1:6: parse error: unexpected character: 'x', expected ':'"),
        ("m[0s]", "1:3: parse error: duration must be greater than 0"),
        ("m[-1]", "1:3: parse error: duration must be greater than 0"),
        ("m[step() / 0]", "1:10: parse error: division by zero"),
        ("m offset 1e11", "1:10: parse error: duration out of range"),
        (
            "m offset x",
            "1:10: parse error: unexpected identifier \"x\" in offset, expected number, duration, step(), or range()",
        ),
        ("m @ x", "1:5: parse error: unexpected identifier \"x\" in @, expected timestamp"),
        ("1.2.", "1:1: parse error: bad number or duration syntax: \"1.2.\""),
        ("5many", "1:1: parse error: bad number or duration syntax: \"5ma\""),
        ("1e", "1:1: parse error: bad number or duration syntax: \"1e\""),
        ("1e ", "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e\": invalid syntax"),
        ("m[1h2h]", "1:3: parse error: not a valid duration string: \"1h2h\""),
        ("m[1y1hs]", "1:3: parse error: unknown unit \"hs\" in duration \"1y1hs\""),
        ("\"\\q\"", "1:1: parse error: unknown escape sequence U+0071 'q'"),
        ("\"\\x.\"", "1:1: parse error: illegal character U+002E '.' in escape sequence"),
        ("\"\\", "1:1: parse error: escape sequence not terminated"),
        ("m[5m][5m:]", "1:1: parse error: subquery is only allowed on instant vector, got matrix instead"),
        ("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators"),
        ("1 + on (a) b", "1:1: parse error: vector matching only allowed between instant vectors"),
        (
            "rate(m)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("rate(m[5m], 1)", "1:1: parse error: expected 1 argument(s) in call to \"rate\", got 2"),
        ("sum(1)", "1:5: parse error: expected type instant vector in aggregation expression, got scalar"),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("1 and 1", "1:1: parse error: set operator \"and\" not allowed in binary scalar expression"),
        ("a and on(x) group_left b", "1:1: parse error: no grouping allowed for \"and\" operation"),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("{a=~\".*\"}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        ("m{a=~\"(\"}", "1:3: parse error: error parsing regexp: missing closing ): `(`"),
        ("m{a=}", "1:5: parse error: unexpected \"}\" in label matching, expected string"),
        ("m{\n  a=\"b\n\"}", "2:5: parse error: unterminated quoted string"),
        ("m[5m", "1:5: parse error: unclosed left bracket"),
        ("m[5z]", "1:3: parse error: bad number or duration syntax: \"5\""),
        ("(m)[5m]", "1:4: parse error: ranges only allowed for vector selectors"),
        ("m offset 5m[5m]", "1:12: parse error: no offset modifiers allowed before range"),
        (
            "1 offset 5m",
            "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("m @ inf", "1:1: parse error: timestamp out of bounds for @ modifier: +Inf"),
        (
            "a + on(x) group_left(x) b",
            "1:3: parse error: label \"x\" must not occur in ON and GROUP clause at once",
        ),
        ("m{__name__=\"x\"}", "1:1: parse error: metric name must not be set twice: \"m\" or \"x\""),
        ("mad_over_time(m[5m])", "1:1: parse error: function \"mad_over_time\" is not enabled"),
        ("m smoothed", "1:3: parse error: smoothed modifier is experimental and not enabled"),
        ("é", "1:1: parse error: unexpected character: 'é'"),
        ("sum(a,)", "1:6: parse error: trailing commas not allowed in function call args"),
        (
            "-\"a\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
    ] {
        match parse(query) {
            Ok(expr) => panic!("{query} is taken for {expr}"),
            Err(error) => assert_eq!(error.to_string(), message, "{query}"),
        }
    }
}

/// What nests too deep is refused, wherever the depth is; what is just allowed prints and parses again.
#[test]
fn deep_queries_are_refused() {
    let many = usize::from(MAX_DEPTH) * 40;
    for query in [
        format!("{}1{}", "(".repeat(many), ")".repeat(many)),
        format!("{}m", "-".repeat(many)),
        format!("m{}", " + m".repeat(many)),
        format!("m{}", " ^ m".repeat(many)),
        format!("{}m{}", "abs(".repeat(many), ")".repeat(many)),
        format!("{}m{}", "sum(".repeat(many), ")".repeat(many)),
        format!("m{}", "[5m:]".repeat(many)),
        format!("m[{}5m{}]", "(".repeat(many), ")".repeat(many)),
        format!("m[5m{}]", " + 5m".repeat(many)),
        format!("m[{}5m]", "-".repeat(many)),
        format!("m offset {}5m", "-".repeat(many)),
        format!("m[{}5m{}]", "min_of(1,".repeat(many), ")".repeat(many)),
        "(".repeat(super::MAX_QUERY_BYTES + 1),
    ] {
        let start: String = query.chars().take(20).collect();
        assert!(parse_with(&query, &Features::ALL).is_err(), "{start}…");
    }
    let deep = usize::from(MAX_DEPTH) / 3;
    check_prints(
        &format!("{}m{}", "abs(".repeat(deep), ")".repeat(deep)),
        &format!("{}m{}", "abs(".repeat(deep), ")".repeat(deep)),
    );
    let chain = format!("m{}", " or m".repeat(usize::from(MAX_DEPTH) - 2));
    check_prints(&chain, &chain);
}

#[test]
fn keywords_can_be_names() {
    for query in [
        "sum",
        "by",
        "offset",
        "start",
        "rate + on",
        "m{sum=\"a\"}",
        "sum by (by) (m)",
        "{on=\"x\"}",
        "step{}",
    ] {
        match (query, parse(query)) {
            // `on` starts a matching clause wherever an operand could stand.
            ("rate + on", result) => assert!(result.is_err()),
            (_, result) => assert!(result.is_ok(), "{query}: {result:?}"),
        }
    }
}

#[test]
fn series_selectors_stand_alone() {
    assert!(parse_selector("up{job=\"a\"}").is_ok());
    for query in ["up offset 5m", "up[5m]", "sum(up)", "1"] {
        assert!(parse_selector(query).is_err(), "{query}");
    }
}

#[test]
fn long_queries_are_broken_over_lines() {
    let query = "sum by (destination_workload, destination_workload_namespace) (rate(istio_requests_total{reporter=\"destination\"}[5m])) / on (x) group_left () vector(1)";
    let expr = parse(query).expect(query);
    let pretty = format_query(&expr);
    assert!(pretty.lines().count() > 1);
    assert!(pretty.lines().all(|line| line.len() <= 130), "{pretty}");
    assert_eq!(parse(&pretty).expect("the pretty form").to_string(), expr.to_string());
}

/// Token by token from the language, so that most of it gets past the lexer.
fn token_soup() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "m",
        "1",
        "5m",
        "\"a\"",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        ":",
        "+",
        "-",
        "^",
        "==",
        "=~",
        "=",
        "@",
        "offset",
        "by",
        "sum",
        "rate",
        "on",
        "ignoring",
        "group_left",
        "bool",
        "and",
        "or",
        "unless",
        "start",
        "end",
        "step",
        "min_of",
        "smoothed",
        "anchored",
        "fill",
        "topk",
        "inf",
        "nan",
        "</",
        "le",
        "#",
        "\n",
        "'",
        "`",
        "0x",
        "é",
    ]);
    prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.join(" "))
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_prints_and_parses_again(text in prop_oneof![token_soup(), ".{0,60}"]) {
        if let Ok(expr) = parse_with(&text, &Features::ALL) {
            let printed = expr.to_string();
            let again = parse_with(&printed, &Features::ALL);
            prop_assert!(again.is_ok(), "{text:?} prints as {printed:?}: {again:?}");
            prop_assert_eq!(again.map(|expr| expr.to_string()).unwrap_or_default(), printed);
        }
    }
}
