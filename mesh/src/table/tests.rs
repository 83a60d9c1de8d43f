use super::*;
use crate::route::{Action, Target};
use crate::{MeshSettings, Parsed, PathRewrite, Registry, split_authority};
use http::HeaderMap;

const REGISTRY: &str = "
services:
  - name: reviews
    namespace: bookinfo
    ports: [{ number: 9080, name: http }]
    addresses: [10.0.0.7]
    endpoints:
      - { address: '127.0.0.1:1', workload: reviews-v1, labels: { app: reviews, version: v1 } }
      - { address: '127.0.0.1:2', workload: reviews-v2, labels: { app: reviews, version: v2 } }
  - name: echo
    namespace: shop
    ports: [{ number: 80, name: http }, { number: 9000, name: grpc, protocol: GRPC }]
    endpoints:
      - { address: 127.0.0.2, ports: { http: 3, grpc: 4 }, workload: echo }
";

const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: reviews, namespace: bookinfo }
spec:
  host: reviews
  trafficPolicy: { loadBalancer: { simple: RANDOM }, connectionPool: { tcp: { connectTimeout: 1s } } }
  subsets:
    - { name: v1, labels: { version: v1 } }
    - { name: v2, labels: { version: v2 }, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }
";

fn mesh(config: &str) -> Mesh {
    let mut parsed = Parsed::default();
    parsed.add("test", config);
    assert!(parsed.errors.is_empty(), "{:?}", parsed.errors);
    Mesh::new(MeshSettings::default(), &parsed.objects, &Registry::parse("registry", REGISTRY).unwrap())
}

fn rule(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{ name: {name}, namespace: bookinfo }}\nspec: {spec}\n"
    )
}

fn sidecar(config: &str, namespace: &str) -> RouteTable {
    let labels = [("app".to_owned(), "productpage".to_owned())].into_iter().collect();
    RouteTable::for_sidecar(&mesh(config), ProxyWorkload { namespace, labels: &labels })
}

/// Where a GET for `authority` and `path` to the listener of `port` goes, in short.
fn decide(table: &RouteTable, port: u16, authority: &str, path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let headers = HeaderMap::new();
    let view = RequestView { method: "GET", scheme: "http", authority, path, query, headers: &headers };
    match table.decide(port, &split_authority(authority).0, &view) {
        Decision::Route(route) => match &route.action {
            Action::Forward(forward) => {
                let clusters = forward.targets.iter().map(|t| match &t.target {
                    Target::Known(cluster) => format!("{} {}", cluster.name, t.weight),
                    Target::Missing(name) => format!("missing {name}"),
                });
                clusters.collect::<Vec<_>>().join(", ")
            }
            Action::Redirect(redirect) => redirect.location("http", authority, port, path),
            Action::DirectResponse { status, .. } => status.to_string(),
        },
        other => format!("{other:?}"),
    }
}

#[test]
fn a_service_answers_to_all_its_names() {
    let own = sidecar("", "bookinfo");
    let other = sidecar("", "shop");
    let cluster = "outbound|9080||reviews.bookinfo.svc.cluster.local 1";
    for (authority, from_own, from_other) in [
        ("reviews", cluster, "Passthrough"),
        ("reviews:9080", cluster, "Passthrough"),
        ("REVIEWS.bookinfo.:9080", cluster, cluster),
        ("reviews.bookinfo.svc", cluster, cluster),
        ("reviews.bookinfo.svc.cluster.local:9080", cluster, cluster),
        ("10.0.0.7:9080", cluster, cluster),
        ("nobody", "Passthrough", "Passthrough"),
    ] {
        assert_eq!(decide(&own, 9080, authority, "/"), from_own, "{authority} from its namespace");
        assert_eq!(decide(&other, 9080, authority, "/"), from_other, "{authority} from elsewhere");
    }
    assert_eq!(decide(&own, 80, "reviews", "/"), "Passthrough", "it has no port 80");
}

#[test]
fn ports_lead_to_their_own_endpoints_and_protocols() {
    let table = sidecar("", "shop");
    let endpoint = |name: &str| {
        let cluster = table.clusters().find(|c| &*c.name == name).unwrap();
        (cluster.endpoints[0].address.to_string(), cluster.upstream)
    };
    let http = endpoint("outbound|80||echo.shop.svc.cluster.local");
    assert_eq!(http, ("127.0.0.2:3".to_owned(), crate::UpstreamProtocol::Http1));
    let grpc = endpoint("outbound|9000||echo.shop.svc.cluster.local");
    assert_eq!(grpc, ("127.0.0.2:4".to_owned(), crate::UpstreamProtocol::Http2));
}

#[test]
fn a_subset_overrides_the_rule_block_by_block() {
    let table = sidecar(SUBSETS, "bookinfo");
    let cluster = |subset: &str| {
        let name = format!("outbound|9080|{subset}|reviews.bookinfo.svc.cluster.local");
        table.clusters().find(|c| *c.name == *name).unwrap().clone()
    };
    assert_eq!((cluster("").balance.clone(), cluster("").endpoints.len()), (crate::Balance::Random, 2));
    assert_eq!(
        (cluster("v2").balance.clone(), cluster("v2").endpoints.len()),
        (crate::Balance::RoundRobin, 1)
    );
    assert_eq!(cluster("v2").pool.connect_timeout.as_secs(), 1, "what the subset leaves open is inherited");
    assert_eq!(&*cluster("v1").endpoints[0].workload.workload, "reviews-v1");
}

#[test]
fn rules_are_tried_in_order() {
    let rules = rule(
        "reviews",
        "{ hosts: [reviews], http: [
            { match: [{ uri: { exact: /v2 } }, { queryParams: { v: { exact: '2' } } }],
              route: [{ destination: { host: reviews, subset: v2 } }] },
            { match: [{ sourceLabels: { app: other } }], directResponse: { status: 401 } },
            { match: [{ port: 1 }], directResponse: { status: 402 } },
            { match: [{ gateways: [ns/gw] }], directResponse: { status: 403 } },
            { match: [{ uri: { prefix: /none } }], route: [{ destination: { host: reviews, subset: v9 } }] },
            { match: [{ uri: { prefix: /old } }], redirect: { prefixRewrite: /new, authority: x } },
            { match: [{ uri: { prefix: / } }],
              route: [{ destination: { host: reviews, subset: v1 }, weight: 90 },
                      { destination: { host: reviews, subset: v2 }, weight: 10 },
                      { destination: { host: echo.shop.svc.cluster.local, port: { number: 80 } }, weight: 0 }] },
            { directResponse: { status: 404 } } ] }",
    );
    let table = sidecar(&format!("{SUBSETS}{rules}"), "bookinfo");
    let v = |version: &str| format!("outbound|9080|{version}|reviews.bookinfo.svc.cluster.local");
    for (path, expected) in [
        ("/v2", format!("{} 1", v("v2"))),
        ("/x?a=b&v=2", format!("{} 1", v("v2"))),
        ("/none", format!("missing {}", v("v9"))),
        ("/old/tail", "http://x/new/tail".to_owned()),
        ("/", format!("{} 90, {} 10", v("v1"), v("v2"))),
    ] {
        assert_eq!(decide(&table, 9080, "reviews", path), expected, "{path}");
    }
}

#[test]
fn the_oldest_rule_of_a_host_wins_in_the_mesh_and_exact_beats_wildcard() {
    let old = rule("old", "{ hosts: [reviews], http: [{ directResponse: { status: 201 } }] }")
        .replace("name: old,", "name: old, creationTimestamp: '2025-01-01T00:00:00Z',");
    let new = rule("a-new", "{ hosts: [reviews], http: [{ directResponse: { status: 202 } }] }")
        .replace("name: a-new,", "name: a-new, creationTimestamp: '2025-02-01T00:00:00Z',");
    let wild = rule("wild", "{ hosts: ['*.cluster.local'], http: [{ directResponse: { status: 203 } }] }");
    let outside =
        rule("outside", "{ hosts: [api.vendor.test], http: [{ directResponse: { status: 204 } }] }");
    let table = sidecar(&format!("{new}{old}{wild}{outside}"), "bookinfo");
    assert_eq!(decide(&table, 9080, "reviews", "/"), "201");
    assert_eq!(decide(&table, 80, "echo.shop", "/"), "203");
    assert_eq!(decide(&table, 80, "api.vendor.test", "/"), "204", "a host without a service is on port 80");
}

#[test]
fn what_is_not_exported_or_imported_is_not_there() {
    let hidden =
        rule("r", "{ hosts: [reviews], exportTo: ['.'], http: [{ directResponse: { status: 201 } }] }");
    assert_eq!(decide(&sidecar(&hidden, "bookinfo"), 9080, "reviews", "/"), "201");
    let cluster = "outbound|9080||reviews.bookinfo.svc.cluster.local 1";
    assert_eq!(decide(&sidecar(&hidden, "shop"), 9080, "reviews.bookinfo", "/"), cluster);
    let scope = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: { name: d, namespace: shop }\n\
                 spec: { egress: [{ hosts: ['./*'] }], outboundTrafficPolicy: { mode: REGISTRY_ONLY } }\n";
    let narrow = sidecar(scope, "shop");
    assert_eq!(decide(&narrow, 9080, "reviews.bookinfo", "/"), "BlockAll");
    assert_eq!(decide(&narrow, 80, "echo", "/"), "outbound|80||echo.shop.svc.cluster.local 1");
}

#[test]
fn a_gateway_merges_rules_and_keeps_to_its_hosts() {
    let gateway = |name: &str, server: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: Gateway\n\
             metadata: {{ name: {name}, namespace: bookinfo }}\n\
             spec: {{ selector: {{ istio: ingress }}, servers: [{{ port: {{ number: 80, name: h, protocol: HTTP }}, {server} }}] }}\n"
        )
    };
    let all = |name: &str, http: &str| {
        rule(name, &format!("{{ hosts: [m.example.com], gateways: [gw], http: {http} }}"))
    };
    let config = [
        gateway("gw", "hosts: ['*.example.com', '*.example.org']"),
        gateway("tls", "hosts: ['*.secure.test'], tls: { httpsRedirect: true }"),
        all("a", "[{ directResponse: { status: 201 } }]"),
        all("b", "[{ match: [{ uri: { prefix: /b } }], directResponse: { status: 202 } }]"),
        rule("c", "{ hosts: ['*'], gateways: [bookinfo/gw], http: [{ directResponse: { status: 203 } }] }"),
        rule("mesh", "{ hosts: [n.example.com], http: [{ directResponse: { status: 204 } }] }"),
    ]
    .concat();
    let labels = [("istio".to_owned(), "ingress".to_owned())].into_iter().collect();
    let workload = ProxyWorkload { namespace: "istio-system", labels: &labels };
    let table = RouteTable::for_gateway(&mesh(&config), workload);
    for (authority, path, expected) in [
        ("m.example.com", "/b", "202"),
        ("m.example.com:80", "/a", "201"),
        ("n.example.com", "/", "203"),
        ("n.example.org", "/", "203"),
        ("n.example.net", "/", "NoRoute"),
        ("x.secure.test", "/", "RedirectToHttps"),
    ] {
        assert_eq!(decide(&table, 80, authority, path), expected, "{authority}{path}");
    }
    assert_eq!(decide(&table, 81, "m.example.com", "/"), "NoRoute", "no server on that port");
    let other = [("istio".to_owned(), "egress".to_owned())].into_iter().collect();
    let table = RouteTable::for_gateway(&mesh(&config), ProxyWorkload { namespace: "x", labels: &other });
    assert_eq!(decide(&table, 80, "m.example.com", "/"), "NoRoute", "not selected");
}

#[test]
fn paths_are_rewritten_as_envoy_does() {
    let regex = PathRewrite::Regex {
        pattern: regex::Regex::new("^/service/([^/]+)(/.*)$").unwrap(),
        substitution: "${2}/instance/${1}".to_owned(),
    };
    let prefix = PathRewrite::Prefix { matched_len: 4, replacement: "/".to_owned() };
    for (rewrite, path, expected) in [
        (&prefix, "/api/v1", "//v1"),
        (&prefix, "/api", "/"),
        (&PathRewrite::Whole("/x".to_owned()), "/a/b", "/x"),
        (&regex, "/service/foo/v1/api", "/v1/api/instance/foo"),
        (&regex, "/other", "/other"),
    ] {
        assert_eq!(rewrite.apply(path), expected, "{path}");
    }
}
