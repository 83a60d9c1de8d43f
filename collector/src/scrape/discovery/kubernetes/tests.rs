use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{Kind, KubernetesSdConfig, api_server, cluster::Cluster, object::Object, watch::Change};
use crate::scrape::discovery::{DiscoveryConfig, Found, TargetGroup, Teller};

fn resolve(yaml: &str) -> Result<DiscoveryConfig, String> {
    let config: KubernetesSdConfig = serde_saphyr::from_str(yaml).map_err(|error| error.to_string())?;
    config.resolve(Path::new("/etc"))
}

#[test]
fn wrong_configuration_is_named() {
    for (yaml, words) in [
        ("{api_server: 'http://x'}", "role"),
        ("{role: planet}", "planet"),
        ("{role: pod, api_server: 'ftp://x'}", "http or https"),
        ("{role: pod, api_server: 'http://x', kubeconfig_file: y}", "together"),
        ("{role: pod, api_server: 'http://x', namespaces: {own_namespace: true}}", "own_namespace"),
        ("{role: pod, kubeconfig_file: y, bearer_token: z}", "custom HTTP client"),
        ("{role: pod, bearer_token: z}", "api_server"),
        ("{role: service, selectors: [{role: pod}]}", "service role supports only service selectors"),
        ("{role: pod, selectors: [{role: pod}, {role: pod}]}", "duplicated selector role: pod"),
        ("{role: pod, attach_metadata: {moon: true}}", "moon"),
    ] {
        let error = resolve(yaml).unwrap_err();
        assert!(error.contains(words), "{yaml}: {error:?} does not say {words:?}");
    }
    for yaml in [
        "{role: pod}",
        "{role: endpointslice, selectors: [{role: service, label: a=b}, {role: pod, field: c=d}]}",
        "{role: pod, kubeconfig_file: y, namespaces: {names: [a]}}",
    ] {
        resolve(yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
    }
}

/// Targets as lines `address name=value …` of the labels that begin with `__meta_kubernetes_`, without that.
fn lines(group: &TargetGroup) -> Vec<String> {
    let mut lines: Vec<String> = group
        .targets
        .iter()
        .map(|target| {
            let mut labels: BTreeMap<&str, &str> = BTreeMap::new();
            labels.extend(group.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            labels.extend(target.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            let address = labels.remove("__address__").unwrap_or_default();
            let labels = labels.into_iter().filter(|(_, value)| !value.is_empty());
            let labels = labels.map(|(name, value)| {
                format!(" {}={value}", name.strip_prefix("__meta_kubernetes_").unwrap_or(name))
            });
            format!("{address}{}", labels.collect::<String>())
        })
        .collect();
    lines.sort();
    lines
}

/// What the objects of a cluster make, by a configuration's text.
fn check(yaml: &str, objects: &[(Kind, Value)], expected: &[&str]) {
    let DiscoveryConfig::Kubernetes(config) = resolve(yaml).unwrap() else { panic!("{yaml}") };
    let kinds: Vec<Kind> = config.watches(None).iter().map(|watch| watch.kind).collect();
    let mut cluster = Cluster::new(config.role, config.attach, kinds.iter().copied());
    assert!(cluster.news().is_empty(), "nothing is told before all is known");
    for (number, kind) in kinds.into_iter().enumerate() {
        let of_kind = objects.iter().filter(|(of, _)| *of == kind);
        let listed = of_kind.map(|(_, object)| Object::read(object.clone()).unwrap()).collect();
        cluster.apply(number, Change::Listed(listed));
    }
    let news = cluster.news();
    let found: Vec<String> = news.iter().flat_map(|(_, group)| lines(group.as_ref().unwrap())).collect();
    assert_eq!(found, expected, "{yaml}");
    assert!(cluster.news().is_empty(), "nothing is told twice");
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {
            "name": name, "namespace": "shop", "uid": "u1", "labels": {"app.io/name": "reviews"},
            "annotations": {"prometheus.io/scrape": "true"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": "reviews-1", "controller": true}],
        },
        "spec": {
            "nodeName": "n1",
            "containers": [
                {"name": "app", "image": "a:1", "ports": [
                    {"name": "http", "containerPort": 80, "protocol": "TCP"},
                    {"name": "admin", "containerPort": 81, "protocol": "TCP"},
                ]},
                {"name": "plain", "image": "p:1"},
            ],
            "initContainers": [{"name": "init", "image": "i:1", "ports": null}],
        },
        "status": {
            "podIP": ip, "hostIP": "10.0.0.1", "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "app", "containerID": "c://1"}],
        },
    })
}

const POD: &str = "pod_annotation_prometheus_io_scrape=true pod_annotationpresent_prometheus_io_scrape=true";

#[test]
fn pods() {
    let tail = |name: &str| {
        format!(
            "pod_controller_kind=ReplicaSet pod_controller_name=reviews-1 pod_host_ip=10.0.0.1 pod_ip=10.1.0.1 pod_label_app_io_name=reviews pod_labelpresent_app_io_name=true pod_name={name} pod_node_name=n1 pod_phase=Running pod_ready=true pod_uid=u1"
        )
    };
    let of_pod = tail("r");
    check(
        "{role: pod}",
        &[(Kind::Pod, pod("r", "10.1.0.1")), (Kind::Pod, pod("starting", ""))],
        &[
            &format!(
                "10.1.0.1 namespace=shop {POD} pod_container_image=i:1 pod_container_init=true pod_container_name=init {of_pod}"
            ),
            &format!(
                "10.1.0.1 namespace=shop {POD} pod_container_image=p:1 pod_container_init=false pod_container_name=plain {of_pod}"
            ),
            &format!(
                "10.1.0.1:80 namespace=shop {POD} pod_container_id=c://1 pod_container_image=a:1 pod_container_init=false pod_container_name=app pod_container_port_name=http pod_container_port_number=80 pod_container_port_protocol=TCP {of_pod}"
            ),
            &format!(
                "10.1.0.1:81 namespace=shop {POD} pod_container_id=c://1 pod_container_image=a:1 pod_container_init=false pod_container_name=app pod_container_port_name=admin pod_container_port_number=81 pod_container_port_protocol=TCP {of_pod}"
            ),
        ],
    );
    // What is attached: the node, the namespace, and who owns the owner.
    let small = |owner: &str| {
        json!({
            "metadata": {"name": "s", "namespace": "shop",
                "ownerReferences": [{"kind": owner, "name": "o-1", "controller": true}]},
            "spec": {"nodeName": "n1", "containers": [{"name": "c"}]},
            "status": {"podIP": "fd00::1"},
        })
    };
    let node = json!({"metadata": {"name": "n1", "labels": {"zone": "z"}}});
    let namespace = json!({"metadata": {"name": "shop", "labels": {"team": "t"}}});
    let owner = |kind: &str| {
        json!({"metadata": {"name": "o-1", "namespace": "shop",
            "ownerReferences": [{"kind": kind, "name": "o", "controller": true}]}})
    };
    let attach = "{role: pod, attach_metadata: {node: true, namespace: true, deployment: true, job: true, cronjob: true}}";
    let common = "pod_ip=fd00::1 pod_name=s pod_node_name=n1 pod_ready=unknown";
    let head = "fd00::1 namespace=shop namespace_label_team=t namespace_labelpresent_team=true node_label_zone=z node_labelpresent_zone=true node_name=n1 pod_container_init=false pod_container_name=c";
    check(
        attach,
        &[
            (Kind::Pod, small("ReplicaSet")),
            (Kind::Node, node.clone()),
            (Kind::Namespace, namespace.clone()),
            (Kind::ReplicaSet, owner("Deployment")),
        ],
        &[&format!(
            "{head} pod_controller_kind=ReplicaSet pod_controller_name=o-1 pod_deployment_name=o {common}"
        )],
    );
    check(
        attach,
        &[
            (Kind::Pod, small("Job")),
            (Kind::Node, node),
            (Kind::Namespace, namespace),
            (Kind::Job, owner("CronJob")),
        ],
        &[&format!(
            "{head} pod_controller_kind=Job pod_controller_name=o-1 pod_cronjob_name=o pod_ip=fd00::1 pod_job_name=o-1 pod_name=s pod_node_name=n1 pod_ready=unknown"
        )],
    );
    // Nodes that a selector leaves out take their pods along.
    check("{role: pod, attach_metadata: {node: true}}", &[(Kind::Pod, small("Job"))], &[]);
}

#[test]
fn nodes_services_and_ingresses() {
    check(
        "{role: node}",
        &[
            (
                Kind::Node,
                json!({
                    "metadata": {"name": "n1", "annotations": {"a/b": "c"}},
                    "spec": {"providerID": "p://1"},
                    "status": {
                        "addresses": [
                            {"type": "Hostname", "address": "h"}, {"type": "ExternalIP", "address": "1.2.3.4"},
                            {"type": "InternalIP", "address": "10.0.0.1"}, {"type": "InternalIP", "address": "fd00::2"},
                        ],
                        "conditions": [{"type": "Ready", "status": "True"}],
                        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                    },
                }),
            ),
            (Kind::Node, json!({"metadata": {"name": "without-address"}})),
        ],
        &[
            "10.0.0.1:10250 node_address_ExternalIP=1.2.3.4 node_address_Hostname=h node_address_InternalIP=10.0.0.1 node_annotation_a_b=c node_annotationpresent_a_b=true node_condition_ready=true node_name=n1 node_provider_id=p://1 instance=n1",
        ],
    );
    let service = |spec: Value, status: Value| {
        (
            Kind::Service,
            json!({"metadata": {"name": "s", "namespace": "shop"}, "spec": spec, "status": status}),
        )
    };
    for (spec, status, expected) in [
        (
            json!({"type": "ClusterIP", "clusterIP": "10.9.0.1", "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}),
            json!({}),
            "service_cluster_ip=10.9.0.1 service_name=s service_port_name=http service_port_number=80 service_port_protocol=TCP service_type=ClusterIP",
        ),
        (
            json!({"type": "ExternalName", "externalName": "x.org", "ports": [{"port": 80}]}),
            json!({}),
            "service_external_name=x.org service_name=s service_port_number=80 service_type=ExternalName",
        ),
        (
            json!({"type": "LoadBalancer", "clusterIP": "None", "loadBalancerIP": "9.9.9.9", "ports": [{"port": 80}]}),
            json!({"loadBalancer": {"ingress": [{"ip": "1.1.1.1"}, {"hostname": "h"}, {"ip": "2.2.2.2"}]}}),
            "service_cluster_ip=None service_loadbalancer_ip=1.1.1.1,2.2.2.2 service_name=s service_port_number=80 service_type=LoadBalancer",
        ),
    ] {
        check(
            "{role: service}",
            &[service(spec, status)],
            &[&format!("s.shop.svc:80 namespace=shop {expected}")],
        );
    }
    check(
        "{role: ingress}",
        &[(
            Kind::Ingress,
            json!({
                "metadata": {"name": "i", "namespace": "shop"},
                "spec": {
                    "ingressClassName": "istio",
                    "tls": [{"hosts": ["*.b.org"]}],
                    "rules": [
                        {"host": "a.org", "http": {"paths": [{"path": "/x"}, {"path": ""}]}},
                        {"host": "c.b.org"},
                    ],
                },
            }),
        )],
        &[
            "a.org ingress_class_name=istio ingress_host=a.org ingress_name=i ingress_path=/ ingress_scheme=http namespace=shop",
            "a.org ingress_class_name=istio ingress_host=a.org ingress_name=i ingress_path=/x ingress_scheme=http namespace=shop",
            "c.b.org ingress_class_name=istio ingress_host=c.b.org ingress_name=i ingress_path=/ ingress_scheme=https namespace=shop",
        ],
    );
}

#[test]
fn endpoints_and_slices() {
    let service =
        (Kind::Service, json!({"metadata": {"name": "s", "namespace": "shop", "labels": {"l": "v"}}}));
    let small = json!({
        "metadata": {"name": "p", "namespace": "shop"},
        "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 15020, "protocol": "TCP"}]}]},
        "status": {"podIP": "10.1.0.1", "phase": "Running"},
    });
    let of_service = "service_label_l=v service_labelpresent_l=true service_name=s";
    let of_pod = "pod_ip=10.1.0.1 pod_name=p pod_phase=Running pod_ready=unknown";
    check(
        "{role: endpoints}",
        &[
            service.clone(),
            (Kind::Pod, small.clone()),
            (
                Kind::Endpoints,
                json!({
                    "metadata": {"name": "s", "namespace": "shop"},
                    "subsets": [{
                        "addresses": [{"ip": "10.1.0.1", "nodeName": "n", "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p"}}],
                        "notReadyAddresses": [{"ip": "10.1.0.2", "hostname": "h"}],
                        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
                    }],
                }),
            ),
            (Kind::Endpoints, json!({"metadata": {"name": "none", "namespace": "shop"}, "subsets": null})),
        ],
        &[
            &format!(
                "10.1.0.1:15020 endpoints_name=s namespace=shop pod_container_init=false pod_container_name=c pod_container_port_number=15020 pod_container_port_protocol=TCP {of_pod} {of_service}"
            ),
            &format!(
                "10.1.0.1:80 endpoint_address_target_kind=Pod endpoint_address_target_name=p endpoint_node_name=n endpoint_port_name=http endpoint_port_protocol=TCP endpoint_ready=true endpoints_name=s namespace=shop pod_container_init=false pod_container_name=c pod_container_port_number=80 pod_container_port_protocol=TCP {of_pod} {of_service}"
            ),
            &format!(
                "10.1.0.2:80 endpoint_hostname=h endpoint_port_name=http endpoint_port_protocol=TCP endpoint_ready=false endpoints_name=s namespace=shop {of_service}"
            ),
        ],
    );
    let slice = |family: &str| {
        (
            Kind::EndpointSlice,
            json!({
                "metadata": {"name": "s-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "s"}},
                "addressType": family,
                "endpoints": [{
                    "addresses": ["10.1.0.1"], "nodeName": "n", "zone": "z",
                    "conditions": {"ready": true, "serving": true, "terminating": false},
                    "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p"},
                }],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "h2c"}],
            }),
        )
    };
    let of_slice = "endpointslice_label_kubernetes_io_service_name=s endpointslice_labelpresent_kubernetes_io_service_name=true endpointslice_name=s-1";
    check(
        "{role: endpointslice}",
        &[service, (Kind::Pod, small), slice("IPv4")],
        &[
            &format!(
                "10.1.0.1:15020 endpointslice_address_type=IPv4 {of_slice} namespace=shop pod_container_init=false pod_container_name=c pod_container_port_number=15020 pod_container_port_protocol=TCP {of_pod} {of_service}"
            ),
            &format!(
                "10.1.0.1:80 endpointslice_address_target_kind=Pod endpointslice_address_target_name=p endpointslice_address_type=IPv4 endpointslice_endpoint_conditions_ready=true endpointslice_endpoint_conditions_serving=true endpointslice_endpoint_conditions_terminating=false endpointslice_endpoint_node_name=n endpointslice_endpoint_zone=z {of_slice} endpointslice_port=80 endpointslice_port_app_protocol=h2c endpointslice_port_name=http endpointslice_port_protocol=TCP namespace=shop pod_container_init=false pod_container_name=c pod_container_port_number=80 pod_container_port_protocol=TCP {of_pod} {of_service}"
            ),
        ],
    );
    let two_families = json!({"metadata": {"name": "s", "namespace": "shop"},
        "spec": {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv4", "IPv6"]}});
    check("{role: endpointslice}", &[(Kind::Service, two_families), slice("IPv6")], &[]);
}

/// An API server with pods.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<World>>);

#[derive(Default)]
struct World {
    version: u64,
    pods: BTreeMap<String, Value>,
    /// Lines that watchers may have missed, with their versions.
    events: Vec<(u64, String)>,
    /// Versions up to this are forgotten.
    forgotten: u64,
    watchers: Vec<mpsc::UnboundedSender<Result<String, std::convert::Infallible>>>,
    /// Answers nothing but errors.
    broken: bool,
    requests: Vec<String>,
    authorizations: Vec<String>,
}

impl Server {
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/")
    }

    fn change(&self, event: &str, name: &str, ip: &str) {
        let mut world = self.0.lock();
        world.version += 1;
        let version = world.version;
        let object = json!({
            "metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string()},
            "spec": {"containers": [{"name": "c"}]}, "status": {"podIP": ip},
        });
        match event {
            "DELETED" => world.pods.remove(name),
            "BOOKMARK" => None,
            _ => world.pods.insert(name.to_string(), object.clone()),
        };
        let line = format!("{}\n", json!({"type": event, "object": object}));
        world.events.push((version, line.clone()));
        world.watchers.retain(|watcher| {
            // In two parts, as networks have it.
            let (front, back) = line.split_at(line.len() / 2);
            watcher.send(Ok(front.to_string())).and_then(|()| watcher.send(Ok(back.to_string()))).is_ok()
        });
    }

    /// Ends all watches; what has happened so far is told by a list alone.
    fn forget(&self) {
        let mut world = self.0.lock();
        world.watchers.clear();
        world.events.clear();
        world.forgotten = world.version;
    }

    fn requests(&self, words: &str) -> usize {
        self.0.lock().requests.iter().filter(|request| request.contains(words)).count()
    }
}

async fn answer(
    State(server): State<Server>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let mut world = server.0.lock();
    world.requests.push(uri.to_string());
    let authorization = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
    world.authorizations.push(authorization.to_string());
    if world.broken {
        let status = json!({"kind": "Status", "code": 500, "message": "etcd is on holiday"});
        return (StatusCode::INTERNAL_SERVER_ERROR, status.to_string()).into_response();
    }
    if uri.path() != "/api/v1/namespaces/shop/pods" {
        return StatusCode::NOT_FOUND.into_response();
    }
    if query.contains_key("watch") {
        let since: u64 = query["resourceVersion"].parse().unwrap();
        if since < world.forgotten {
            let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}});
            return format!("{gone}\n").into_response();
        }
        let (sender, lines) = mpsc::unbounded_channel();
        for (_, line) in world.events.iter().filter(|(version, _)| *version > since) {
            sender.send(Ok(line.clone())).unwrap();
        }
        world.watchers.push(sender);
        return Body::from_stream(UnboundedReceiverStream::new(lines)).into_response();
    }
    // Two pages.
    let rest = query.contains_key("continue");
    let middle = world.pods.len().div_ceil(2);
    let items: Vec<&Value> =
        world.pods.values().enumerate().filter(|(n, _)| (*n >= middle) == rest).map(|(_, pod)| pod).collect();
    let next = if rest { "" } else { "more" };
    let version = world.version.to_string();
    json!({"metadata": {"resourceVersion": version, "continue": next}, "items": items})
        .to_string()
        .into_response()
}

/// The addresses that have been told of, when they are `expected`.
async fn until(known: &mut BTreeMap<String, String>, news: &mut mpsc::Receiver<Found>, expected: &[&str]) {
    let wait = async {
        loop {
            let mut addresses: Vec<&str> = known.values().map(String::as_str).collect();
            addresses.sort_unstable();
            if addresses == expected {
                return;
            }
            let found = news.recv().await.unwrap();
            match found.groups.first() {
                Some(group) => known.insert(found.source.1, group.targets[0]["__address__"].clone()),
                None => known.remove(&found.source.1),
            };
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "{known:?} is not {expected:?}");
}

async fn until_true(mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the condition that was waited for");
}

#[tokio::test]
async fn an_api_server_is_followed() {
    let server = Server::default();
    for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")] {
        server.change("ADDED", name, ip);
    }
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "first").unwrap();
    let yaml = format!(
        "{{role: pod, api_server: '{}', namespaces: {{names: [shop, shop]}}, selectors: [{{role: pod, label: 'a in (b)', field: 'c=d'}}], authorization: {{credentials_file: '{}'}}}}",
        server.start().await,
        token.display()
    );
    let (found, mut news) = mpsc::channel(16);
    let teller = Teller { job: 0, mechanism: 0, job_name: "j".into(), found };
    let running = tokio::spawn(resolve(&yaml).unwrap().run(teller));
    let mut known = BTreeMap::new();
    until(&mut known, &mut news, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
    assert_eq!(server.requests("limit="), 2, "two pages of one list");
    until_true(|| server.requests("watch=1&resourceVersion=3&") == 1).await;
    assert_eq!(server.requests("labelSelector=a+in+%28b%29&fieldSelector=c%3Dd"), 3);

    server.change("ADDED", "d", "10.0.0.4");
    server.change("MODIFIED", "a", "10.0.0.9");
    server.change("DELETED", "b", "");
    until(&mut known, &mut news, &["10.0.0.3", "10.0.0.4", "10.0.0.9"]).await;
    // A watch that ends goes on behind the last bookmark, with the token that is there by now.
    server.change("BOOKMARK", "", "");
    std::fs::write(&token, "second").unwrap();
    server.change("ADDED", "e", "10.0.0.5");
    server.0.lock().watchers.clear();
    until(&mut known, &mut news, &["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.9"]).await;
    until_true(|| server.requests("watch=1&resourceVersion=8&") == 1).await;
    assert_eq!(server.requests("limit="), 2, "no further list");
    assert_eq!(server.0.lock().authorizations.first().map(String::as_str), Some("Bearer first"));
    assert_eq!(server.0.lock().authorizations.last().map(String::as_str), Some("Bearer second"));

    // The server starts anew and has forgotten what it told: all is listed again.
    server.0.lock().broken = true;
    server.forget();
    let requests = server.requests("");
    until_true(|| server.requests("") > requests).await;
    assert_eq!(known.len(), 4, "what was known stays while the server fails");
    server.change("DELETED", "c", "");
    server.change("ADDED", "f", "10.0.0.6");
    server.forget();
    server.0.lock().broken = false;
    until(&mut known, &mut news, &["10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.9"]).await;
    assert!(server.requests("limit=") >= 4);
    running.abort();
}

#[tokio::test]
async fn where_the_api_server_is() {
    let kubeconfig = |user: &str| {
        format!(
            "{{apiVersion: v1, kind: Config, current-context: here, contexts: [{{name: here, context: {{cluster: c, user: u}}}}], clusters: [{{name: c, cluster: {{server: 'https://k8s:6443/'}}}}], users: [{{name: u, user: {user}}}]}}"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t"), "from-file\n").unwrap();
    for (user, expected) in [
        ("{token: abc}", Ok("Bearer abc")),
        ("{tokenFile: t}", Ok("Bearer from-file")),
        ("{username: u, password: p}", Ok("Basic dTpw")),
        ("{exec: {command: x}}", Err("program")),
        ("{client-certificate-data: '!'}", Err("client-certificate-data")),
        ("{client-certificate: x}", Err("certificate and its key")),
    ] {
        match (api_server::from_kubeconfig(&kubeconfig(user), folder.path()), expected) {
            (Ok(server), Ok(expected)) => {
                assert_eq!(server.url, "https://k8s:6443");
                let request = server.client.get(&server.url).await.unwrap().build().unwrap();
                assert_eq!(request.headers()["authorization"], expected, "{user}");
            }
            (Err(error), Err(words)) => assert!(error.contains(words), "{user}: {error}"),
            (got, expected) => panic!("{user}: {:?} is not {expected:?}", got.map(|server| server.url)),
        }
    }
    let lost =
        api_server::from_kubeconfig("{current-context: there}", folder.path()).map(|_| ()).unwrap_err();
    assert!(lost.contains("there is no context \"there\""), "{lost}");

    for (name, text) in [("token", "t\n"), ("namespace", "shop\n")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let variable = |name: &str| Some(if name.ends_with("HOST") { "fd00::1" } else { "443" }.to_string());
    let server = api_server::in_cluster(variable, folder.path()).unwrap();
    assert_eq!(
        (server.url.as_str(), server.own_namespace.as_deref()),
        ("https://[fd00::1]:443", Some("shop"))
    );
    let outside = api_server::in_cluster(|_| None, folder.path()).map(|_| ()).unwrap_err();
    assert!(outside.contains("KUBERNETES_SERVICE_HOST"), "{outside}");
}
