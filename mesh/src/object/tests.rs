use super::*;
use crate::test_paths::conformance;

fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    parsed.add("mesh.yaml", text);
    parsed
}

/// A VirtualService with these http rules, in flow style.
fn virtual_service(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{ name: r, namespace: b }}\n\
         spec:\n  hosts: [r]\n  http: {http}\n"
    )
}

#[test]
fn a_fault_spoils_its_document_alone() {
    let text = format!(
        "# a comment\n---\n{}---\nkind: [broken\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: c }}\n---\n{}",
        virtual_service("[{ route: [{ destination: { host: r } }] }]"),
        virtual_service("[{ tiemout: 1s, route: [{ destination: { host: r } }] }]"),
    );
    let parsed = parse(&text);
    let kinds: Vec<_> = parsed.objects.iter().map(|o| (o.kind.as_str(), o.namespace.as_str())).collect();
    assert_eq!(kinds, [("VirtualService", "b"), ("ConfigMap", "default"), ("VirtualService", "b")]);
    assert!(matches!(parsed.objects[0].spec, Spec::VirtualService(_)));
    assert!(matches!(parsed.objects[1].spec, Spec::Other));
    assert!(matches!(parsed.objects[2].spec, Spec::Invalid), "kept, but takes no part in routing");
    assert_eq!(parsed.objects[2].raw["spec"]["http"][0]["tiemout"], "1s");
    let [broken, unknown] = parsed.errors.as_slice() else { panic!("{:?}", parsed.errors) };
    assert_eq!((broken.document, broken.file.as_str()), (2, "mesh.yaml"));
    assert_eq!((unknown.document, unknown.line), (4, 21), "{unknown}");
    assert_eq!(unknown.object.as_deref(), Some("VirtualService b/r"));
    assert!(unknown.field.starts_with("spec.http[0]"), "{unknown}");
    assert!(unknown.to_string().contains("tiemout"), "{unknown}");
}

#[test]
fn a_wrong_value_is_named_by_its_path() {
    let check = |http: &str, field: &str, words: &str| {
        let parsed = parse(&virtual_service(http));
        let [fault] = parsed.errors.as_slice() else { panic!("{http}: {:?}", parsed.errors) };
        assert!(fault.field.starts_with(field), "{http}: {fault}");
        assert!(fault.to_string().contains(words), "{http}: {fault}");
    };
    let route = "route: [{ destination: { host: r } }]";
    check("[]", "spec.http", "must be provided");
    check("[{ name: x }]", "spec.http[0]", "must be set");
    check(&format!("[{{ {route}, redirect: {{ uri: / }} }}]"), "spec.http[0]", "cannot contain both");
    check(&format!("[{{ {route}, timeout: 5 }}]"), "spec.http[0].timeout", "not a duration");
    check(&format!("[{{ {route}, match: [{{ uri: {{ regex: '(' }} }}] }}]"), "spec.http[0].match[0].uri", "");
    check(
        &format!("[{{ {route}, match: [{{ headers: {{ a: {{ exact: x, prefix: y }} }} }}] }}]"),
        "spec.http[0].match[0].headers",
        "only one of",
    );
    check(&format!("[{{ {route}, fault: {{ abort: {{ httpStatus: 99 }} }} }}]"), "spec.http[0].fault", "99");
    check(
        &format!("[{{ {route}, fault: {{ abort: {{ grpcStatus: NOPE }} }} }}]"),
        "spec.http[0].fault",
        "NOPE",
    );
    check(
        &format!("[{{ {route}, fault: {{ delay: {{ fixedDelay: 1s, percentage: {{ value: 101 }} }} }} }}]"),
        "spec.http[0].fault.delay.percentage",
        "100",
    );
    check("[{ redirect: { uri: /, redirectCode: 200 } }]", "spec.http[0].redirect.redirectCode", "200");
    check("[{ directResponse: { status: 42 } }]", "spec.http[0].directResponse.status", "42");
    check(
        "[{ route: [{ destination: { host: a }, weight: 0 }, { destination: { host: b }, weight: 0 }] }]",
        "spec.http[0].route",
        "weights",
    );
}

#[test]
fn labels_keep_their_spelling() {
    let parsed = parse(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: { name: r, namespace: b }\n\
         spec: { host: r, subsets: [{ name: v1, labels: { version: 1.10, on: yes } }] }\n",
    );
    let Spec::DestinationRule(rule) = &parsed.objects[0].spec else { panic!("{:?}", parsed.errors) };
    let labels: Vec<_> = rule.subsets[0].labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("on", "yes"), ("version", "1.10")]);
}

/// Verdicts of Istio's own CRD schema, for the kinds that are interpreted here.
#[test]
fn crd_verdicts_agree() {
    let Some(dir) = conformance("istio-crd") else { return };
    let mut documents = 0;
    let mut wrong = Vec::new();
    for kind in ["destinationrule", "serviceentry"] {
        for verdict in ["valid", "invalid"] {
            let name = format!("{kind}-{verdict}.yaml");
            let text = std::fs::read_to_string(dir.join(&name)).unwrap();
            for (number, document) in text.split("\n---\n").enumerate() {
                let fields: Vec<&str> = document.lines().filter(|l| !l.starts_with("_err")).collect();
                let parsed = parse(&fields.join("\n"));
                documents += 1;
                if parsed.errors.is_empty() != (verdict == "valid") {
                    wrong.push(format!("{name} document {}: {:?}", number + 1, parsed.errors));
                }
            }
        }
    }
    assert!(documents >= 22 && wrong.is_empty(), "{documents} documents, wrong:\n{}", wrong.join("\n"));
}

proptest::proptest! {
    /// Pieces of YAML in any order, whole or cut: an error at worst.
    #[test]
    fn no_text_breaks_the_parser(
        pieces in proptest::collection::vec(
            proptest::sample::select(vec![
                "---", "\n", "apiVersion: networking.istio.io/v1\n", "kind: VirtualService\n", "spec:\n",
                "  http:\n", "  - match: [{ uri: { regex: '(' } }]\n", "  - route: []\n", "    timeout: ",
                "1h", "- ", "{", "}", "[", "&a ", "*a", "'", "\"", "  ", ": ", "|\n", "\u{e9}", "\t", "null", "!!binary x",
            ]),
            0..40,
        )
    ) {
        let text = pieces.concat();
        let parsed = parse(&text);
        let lines = text.lines().count();
        for error in &parsed.errors {
            proptest::prop_assert!(error.line <= lines + 1, "{error} in {text:?}");
        }
    }
}
