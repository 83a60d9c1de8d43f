use super::*;

struct World;

impl Surroundings for World {
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        match query {
            "up" => Ok(vec![
                Value::sample([("job", "b"), ("__value__", "x")], 1.0),
                Value::sample([("job", "a")], 0.5),
            ]),
            "none" => Ok(Vec::new()),
            other => Err(format!("unknown metric {other}")),
        }
    }

    fn external_url(&self) -> &str {
        "http://pharos.example:9090/prom"
    }
}

fn expand(text: &str) -> Result<String, TemplateError> {
    let data = Value::record([
        ("Labels", Value::texts([("instance", "host-1.example:9100"), ("job", "node")])),
        ("ExternalLabels", Value::texts([("cluster", "east")])),
        ("ExternalURL", Value::Text("http://pharos.example:9090/prom".into())),
        ("Value", Value::Float(1_234_567.5)),
    ]);
    Template::parse(text)?.expand(&data, &World)
}

#[test]
fn templates_expand_as_in_prometheus() {
    for (template, want) in [
        ("plain text, no braces } {", "plain text, no braces } {"),
        ("{{ $value }}", "1.2345675e+06"),
        ("{{ .Value | humanize }}", "1.235M"),
        (
            "{{ $labels.instance }} of {{ $labels.job }}, {{ $labels.nothing }}.",
            "host-1.example:9100 of node, .",
        ),
        ("{{ $labels }}", "map[instance:host-1.example:9100 job:node]"),
        (
            "{{ $externalLabels.cluster }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}",
            "east http://pharos.example:9090/prom http://pharos.example:9090/prom /prom",
        ),
        ("{{ printf \"%.2f%% of %s\" 12.345 .Labels.job }}", "12.35% of node"),
        ("{{ $value | printf \"%.1f\" }}", "1234567.5"),
        ("{{ printf \"%d|%5d|%-5d|%05d|%+d\" 7 7 7 7 7 }}", "7|    7|7    |00007|+7"),
        (
            "{{ printf \"%e %g %q %v %t %x\" 1500.0 0.00001 \"a\\\"b\" 2.5 true 255 }}",
            "1.500000e+03 1e-05 \"a\\\"b\" 2.5 true ff",
        ),
        (
            "{{ printf \"%d\" 1.5 }} {{ printf \"%s\" }} {{ printf \"x\" 1 }}",
            "%!d(float64=1.5) %!s(MISSING) x%!(EXTRA int=1)",
        ),
        ("{{ if gt $value 1000.0 }}high{{ else }}low{{ end }}", "high"),
        ("{{ if eq .Labels.job \"a\" \"node\" }}yes{{ end }}", "yes"),
        ("{{ if false }}a{{ else if eq 1 2 }}b{{ else if true }}c{{ else }}d{{ end }}", "c"),
        ("{{ with query \"up\" }}{{ . | first | value }}{{ end }}", "1"),
        ("{{ with query \"none\" }}some{{ else }}none{{ end }}", "none"),
        (
            "{{ range query \"up\" | sortByLabel \"job\" }}{{ .Labels.job }}={{ .Value }} {{ end }}",
            "a=0.5 b=1 ",
        ),
        ("{{ range $i, $s := query \"up\" }}{{ $i }}:{{ label \"job\" $s }};{{ end }}", "0:b;1:a;"),
        ("{{ range query \"none\" }}x{{ else }}empty{{ end }}", "empty"),
        ("{{ range query \"up\" }}{{ if eq .Value 0.5 }}{{ break }}{{ end }}{{ .Value }}{{ end }}", "1"),
        ("{{ query \"up\" | first | strvalue }}", "x"),
        ("{{ (query \"up\" | first).Labels.job }}", "b"),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ end }}{{ $x }}", "2"),
        ("a {{- 1 -}} b", "a1b"),
        ("a {{/* not\nshown */ -}} b", "a b"),
        ("{{ `raw \\n` }}{{ \"tab\\t\" }}", "raw \\ntab\t"),
        ("{{ reReplaceAll \"(.*):\\\\d+\" \"$1\" .Labels.instance }}", "host-1.example"),
        (
            "{{ match \"^n.*e$\" \"node\" }} {{ title \"two words\" }} {{ toUpper \"a\" }}{{ toLower \"B\" }}",
            "true Two Words Ab",
        ),
        (
            "{{ stripPort \"h:1\" }} {{ stripDomain \"a.b.c:1\" }} {{ stripDomain \"10.0.0.1\" }}",
            "h a:1 10.0.0.1",
        ),
        (
            "{{ index .Labels \"job\" }} {{ len .Labels }} {{ and 1 0 }} {{ or 0 \"x\" }} {{ not true }}",
            "node 2 0 x false",
        ),
        ("{{ args 1 \"b\" }} {{ print 1 2 \"c\" 3 }}", "map[arg0:1 arg1:b] 1 2c3"),
        ("{{ graphLink \"up{job=\\\"a b\\\"}\" }}", "/graph?g0.expr=up%7Bjob%3D%22a+b%22%7D&g0.tab=0"),
        (
            "{{ humanizeTimestamp 1435065584.128 }} {{ toTime 0.0 }}",
            "2015-06-23 13:19:44.128 +0000 UTC 1970-01-01 00:00:00 +0000 UTC",
        ),
        ("{{ parseDuration \"1h30m\" }} {{ humanizePercentage \"0.1234567\" }}", "5400 12.35%"),
        (
            "{{ humanize 0.0 }} {{ humanize 999.96 }} {{ humanize -1e-3 }} {{ humanize 1e-30 }}",
            "0 1000 -1m 1e-06y",
        ),
        ("{{ humanize1024 1048576.0 }} {{ humanize1024 0.5 }}", "1Mi 0.5"),
        (
            "{{ humanizeDuration 0 }} {{ humanizeDuration 90061 }} {{ humanizeDuration 3600 }} {{ humanizeDuration 61.5 }} {{ humanizeDuration 1.2345 }} {{ humanizeDuration 0.0012 }} {{ humanizeDuration -90 }}",
            "0s 1d 1h 1m 1s 1h 0m 0s 1m 1s 1.234s 1.2ms -1m 30s",
        ),
    ] {
        assert_eq!(expand(template).as_deref(), Ok(want), "{template}");
    }
}

#[test]
fn faults_are_told_with_their_line() {
    for (template, line, message) in [
        ("{{ $value", 1, "unclosed action"),
        ("a\n{{ nosuch 1 }}", 2, "function \"nosuch\" not defined"),
        ("{{ $nothing }}", 1, "undefined variable \"$nothing\""),
        ("{{ if true }}", 1, "{{if}} has no {{end}}"),
        ("{{ end }}", 1, "unexpected {{end}}"),
        ("{{ else }}", 1, "unexpected {{else}}"),
        ("{{ }}", 1, "missing value"),
        ("{{ break }}", 1, "outside {{range}}"),
        ("{{ template \"x\" }}", 1, "not supported"),
        ("{{ \"a }}", 1, "unterminated quoted string"),
        ("{{ 1 2 }}", 1, "can't give argument to non-function"),
        ("{{ (1 }}", 1, "unclosed left parenthesis"),
        ("{{ 1x }}", 1, "bad number syntax"),
        ("\n\n{{ .Nothing }}", 3, "can't evaluate field Nothing"),
        ("{{ query \"none\" | first }}", 1, "no elements"),
        ("{{ query \"bad\" }}", 1, "unknown metric bad"),
        ("{{ humanize \"x\" }}", 1, "cannot read \"x\" as a number"),
        ("{{ gt 1 \"a\" }}", 1, "incompatible types"),
        ("{{ first 1 }}", 1, "expected a query's result"),
        ("{{ reReplaceAll \"(\" \"\" \"\" }}", 1, "error parsing regexp"),
        ("{{ humanize }}", 1, "wrong number of args"),
        ("{{ range 5.0 }}{{ end }}", 1, "can't iterate"),
    ] {
        let error = expand(template).expect_err(template);
        assert_eq!(error.line, line, "{template}: {error}");
        assert!(error.message.contains(message), "{template}: {error}");
    }
}

#[test]
fn hostile_templates_end() {
    let deep = format!("{}{}", "{{ if true }}".repeat(200), "{{ end }}".repeat(200));
    assert!(expand(&deep).expect_err("too deep").message.contains("deep"));
    let parens = format!("{{{{ {}1{} }}}}", "(".repeat(5_000), ")".repeat(5_000));
    assert!(expand(&parens).expect_err("too deep").message.contains("deep"));
    let loops = format!("{}x{}", "{{ range query \"up\" }}".repeat(20), "{{ end }}".repeat(20));
    assert!(expand(&loops).expect_err("too many steps").message.contains("steps"));
    assert!(expand(&"x".repeat(300 << 10)).expect_err("too long").message.contains("longer"));
    assert_eq!(expand("{{ printf \"%99999999999d\" 1 }}").map(|text| text.len()), Ok(200));
}
