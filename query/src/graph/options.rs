//! The parameters of a graph request, as Kiali defines them. Source: reference of Kiali's API §1.2.

use std::collections::BTreeSet;

use pharos_model::parse_duration_ms;

use crate::params::{ParamError, Params};

/// A graph over more than this is refused: 31 days.
const MAX_DURATION_S: i64 = 31 * 86_400;
const DEFAULT_DURATION_S: i64 = 600;

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($text:literal => $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($variant),* }

        impl $name {
            pub fn name(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            fn of(params: &Params, param: &str, default: $name) -> Result<$name, ParamError> {
                match params.text(param) {
                    None => Ok(default),
                    $(Some($text) => Ok($name::$variant),)*
                    Some(other) => Err(ParamError::new(
                        param,
                        format!("{other:?} is not one of {}", [$($text),*].join(", ")),
                    )),
                }
            }
        }
    };
}

choice!(
    /// What a node stands for.
    GraphType { "app" => App, "service" => Service, "versionedApp" => VersionedApp, "workload" => Workload }
);
choice!(HttpRate { "none" => None, "requests" => Requests });
choice!(
    /// Requests, or messages: `sent` are those from the client, `received` those from the server.
    GrpcRate { "none" => None, "requests" => Requests, "sent" => Sent, "received" => Received, "total" => Total }
);
choice!(
    /// Bytes, in the client's view of direction.
    TcpRate { "none" => None, "sent" => Sent, "received" => Received, "total" => Total }
);
choice!(
    /// Which layers of ambient traffic are drawn.
    AmbientTraffic { "none" => None, "total" => Total, "waypoint" => Waypoint, "ztunnel" => Ztunnel }
);
choice!(ResponseTime { "avg" => Average, "50" => P50, "95" => P95, "99" => P99 });
choice!(ThroughputType { "request" => Request, "response" => Response });

/// The optional decorators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Appender {
    AggregateNode,
    Ambient,
    DeadNode,
    Health,
    IdleNode,
    Istio,
    Labeler,
    MeshCheck,
    ResponseTime,
    SecurityPolicy,
    ServiceEntry,
    Throughput,
    WorkloadEntry,
}

impl Appender {
    const ALL: [(&str, Appender); 14] = [
        ("aggregateNode", Appender::AggregateNode),
        ("ambient", Appender::Ambient),
        ("deadNode", Appender::DeadNode),
        ("health", Appender::Health),
        ("idleNode", Appender::IdleNode),
        ("istio", Appender::Istio),
        ("labeler", Appender::Labeler),
        ("meshCheck", Appender::MeshCheck),
        ("sidecarsCheck", Appender::MeshCheck),
        ("responseTime", Appender::ResponseTime),
        ("securityPolicy", Appender::SecurityPolicy),
        ("serviceEntry", Appender::ServiceEntry),
        ("throughput", Appender::Throughput),
        ("workloadEntry", Appender::WorkloadEntry),
    ];
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoxBy {
    pub app: bool,
    pub cluster: bool,
    pub namespace: bool,
}

/// What is drawn: the traffic of namespaces, or one node with its neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every namespace with traffic in the window.
    Everything,
    Namespaces,
    Workload {
        namespace: String,
        workload: String,
    },
    App {
        namespace: String,
        app: String,
        version: Option<String>,
    },
    Service {
        namespace: String,
        service: String,
    },
}

#[derive(Clone, Debug)]
pub struct GraphOptions {
    pub scope: Scope,
    pub namespaces: BTreeSet<String>,
    pub duration_s: i64,
    /// The end of the window, which belongs to it.
    pub query_time_s: i64,
    pub graph_type: GraphType,
    pub inject_service_nodes: bool,
    pub include_idle_edges: bool,
    pub appenders: BTreeSet<Appender>,
    pub box_by: BoxBy,
    pub http: HttpRate,
    pub grpc: GrpcRate,
    pub tcp: TcpRate,
    pub ambient: AmbientTraffic,
    pub response_time: ResponseTime,
    pub throughput: ThroughputType,
    pub waypoints: bool,
    /// Of a node graph; `unknown` for any.
    pub cluster: String,
}

impl GraphOptions {
    /// `now_s` is used where the request names no `queryTime`.
    pub fn parse(params: &Params, scope: Scope, now_s: i64) -> Result<GraphOptions, ParamError> {
        let namespaces = match &scope {
            Scope::Everything => BTreeSet::new(),
            Scope::Namespaces => csv(params, "namespaces").map(str::to_string).collect::<BTreeSet<_>>(),
            Scope::Workload { namespace, .. }
            | Scope::App { namespace, .. }
            | Scope::Service { namespace, .. } => BTreeSet::from([namespace.clone()]),
        };
        if namespaces.is_empty() && scope != Scope::Everything {
            return Err(ParamError::new("namespaces", "at least one namespace is needed"));
        }
        let graph_type = GraphType::of(params, "graphType", GraphType::Workload)?;
        if matches!(scope, Scope::App { .. })
            && !matches!(graph_type, GraphType::App | GraphType::VersionedApp)
        {
            return Err(ParamError::new(
                "graphType",
                format!(
                    "{:?} can't be drawn around an application; use app or versionedApp",
                    graph_type.name()
                ),
            ));
        }
        check_fixed(params, "configVendor", "istio")?;
        check_fixed(params, "telemetryVendor", "istio")?;
        check_refresh_interval(params)?;
        let boxed_by_app = matches!(graph_type, GraphType::App | GraphType::VersionedApp);
        Ok(GraphOptions {
            scope,
            namespaces,
            duration_s: duration_s(params)?,
            query_time_s: query_time_s(params, now_s)?,
            graph_type,
            inject_service_nodes: params.bool("injectServiceNodes", false)?
                || graph_type == GraphType::Service,
            include_idle_edges: params.bool("includeIdleEdges", false)?,
            appenders: appenders(params)?,
            box_by: box_by(params, boxed_by_app)?,
            http: HttpRate::of(params, "rateHttp", HttpRate::Requests)?,
            grpc: GrpcRate::of(params, "rateGrpc", GrpcRate::Requests)?,
            tcp: TcpRate::of(params, "rateTcp", TcpRate::Sent)?,
            ambient: AmbientTraffic::of(params, "ambientTraffic", AmbientTraffic::Total)?,
            response_time: ResponseTime::of(params, "responseTime", ResponseTime::P95)?,
            throughput: ThroughputType::of(params, "throughputType", ThroughputType::Response)?,
            waypoints: params.bool("waypoints", true)?,
            cluster: params.text("clusterName").unwrap_or("unknown").to_string(),
        })
    }

    pub fn wants(&self, appender: Appender) -> bool {
        self.appenders.contains(&appender)
    }

    /// Graph type by which nodes are named: a service graph is a workload graph that is reduced at the end.
    pub(crate) fn node_type(&self) -> GraphType {
        if self.graph_type == GraphType::Service { GraphType::Workload } else { self.graph_type }
    }
}

fn csv<'a>(params: &'a Params, name: &'a str) -> impl Iterator<Item = &'a str> {
    params.all(name).flat_map(|list| list.split(',')).map(str::trim).filter(|item| !item.is_empty())
}

fn check_fixed(params: &Params, name: &str, second: &str) -> Result<(), ParamError> {
    match params.text(name) {
        None | Some("common") => Ok(()),
        Some(value) if value == second => Ok(()),
        Some(other) => Err(ParamError::new(name, format!("{other:?} is not one of common, {second}"))),
    }
}

/// Kiali's cache hint in milliseconds. Every graph here is computed anew, so it is only checked.
fn check_refresh_interval(params: &Params) -> Result<(), ParamError> {
    match params.i64("refreshInterval")? {
        Some(interval_ms) if interval_ms > 0 && !(10_000..=900_000).contains(&interval_ms) => Err(
            ParamError::new("refreshInterval", format!("{interval_ms} is not between 10000 and 900000 (ms)")),
        ),
        _ => Ok(()),
    }
}

fn duration_s(params: &Params) -> Result<i64, ParamError> {
    let Some(text) = params.text("duration") else { return Ok(DEFAULT_DURATION_S) };
    let duration_s = parse_duration_ms(text)
        .map(|ms| ms / 1_000)
        .map_err(|_| ParamError::new("duration", format!("{text:?} is no duration such as 60s or 10m")))?;
    if !(1..=MAX_DURATION_S).contains(&duration_s) {
        return Err(ParamError::new("duration", format!("{text:?} is not between 1s and 31d")));
    }
    Ok(duration_s)
}

fn query_time_s(params: &Params, now_s: i64) -> Result<i64, ParamError> {
    match params.i64("queryTime")? {
        None => Ok(now_s),
        Some(seconds) if (1..=32_503_680_000).contains(&seconds) => Ok(seconds),
        Some(seconds) => Err(ParamError::new("queryTime", format!("{seconds} is no time in unix seconds"))),
    }
}

/// Present and empty means none, absent means all.
fn appenders(params: &Params) -> Result<BTreeSet<Appender>, ParamError> {
    if params.get("appenders").is_none() {
        return Ok(Appender::ALL.iter().map(|(_, appender)| *appender).collect());
    }
    csv(params, "appenders")
        .map(|name| {
            Appender::ALL
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, appender)| *appender)
                .ok_or_else(|| ParamError::new("appenders", format!("there is no appender {name:?}")))
        })
        .collect()
}

fn box_by(params: &Params, app: bool) -> Result<BoxBy, ParamError> {
    let mut box_by = BoxBy { app, ..BoxBy::default() };
    for group in csv(params, "boxBy") {
        match group {
            "app" => box_by.app = true,
            "cluster" => box_by.cluster = true,
            "namespace" => box_by.namespace = true,
            "none" => {}
            other => {
                return Err(ParamError::new(
                    "boxBy",
                    format!("{other:?} is not one of app, cluster, namespace, none"),
                ));
            }
        }
    }
    Ok(box_by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_parameter_is_named() {
        let check = |query: &str, scope: Scope, message: &str| {
            let error = GraphOptions::parse(&Params::parse(query), scope, 1).expect_err(query).to_string();
            assert!(error.contains(message), "{query}: {error}");
        };
        let all = || Scope::Namespaces;
        let app = || Scope::App { namespace: "a".into(), app: "x".into(), version: None };
        check("", all(), "namespaces: at least one");
        check("namespaces=a&graphType=mesh", all(), "graphType: \"mesh\" is not one of");
        check("namespaces=a&duration=10", all(), "duration: \"10\" is no duration");
        check("namespaces=a&duration=99y", all(), "not between 1s and 31d");
        check("namespaces=a&queryTime=yesterday", all(), "queryTime: \"yesterday\" is no whole number");
        check("namespaces=a&appenders=deadNode,zombie", all(), "no appender \"zombie\"");
        check("namespaces=a&boxBy=pod", all(), "boxBy: \"pod\"");
        check("namespaces=a&rateHttp=bytes", all(), "rateHttp");
        check("namespaces=a&rateGrpc=bytes", all(), "rateGrpc");
        check("namespaces=a&rateTcp=requests", all(), "rateTcp");
        check("namespaces=a&ambientTraffic=some", all(), "ambientTraffic");
        check("namespaces=a&responseTime=90", all(), "responseTime");
        check("namespaces=a&throughputType=both", all(), "throughputType");
        check("namespaces=a&injectServiceNodes=maybe", all(), "injectServiceNodes");
        check("namespaces=a&includeIdleEdges=2", all(), "includeIdleEdges");
        check("namespaces=a&refreshInterval=5", all(), "refreshInterval");
        check("namespaces=a&telemetryVendor=linkerd", all(), "telemetryVendor");
        check("graphType=workload", app(), "around an application");
    }

    #[test]
    fn defaults_are_kialis() {
        let options = GraphOptions::parse(&Params::parse("namespaces=b,a&appenders="), Scope::Namespaces, 77)
            .expect("valid");
        assert_eq!(options.namespaces, ["a", "b"].map(str::to_string).into());
        assert_eq!((options.duration_s, options.query_time_s), (600, 77));
        assert_eq!(options.graph_type, GraphType::Workload);
        assert_eq!(
            (options.http, options.grpc, options.tcp),
            (HttpRate::Requests, GrpcRate::Requests, TcpRate::Sent)
        );
        assert!(options.appenders.is_empty() && !options.inject_service_nodes && options.waypoints);
        let all = GraphOptions::parse(&Params::parse("namespaces=a"), Scope::Namespaces, 77).expect("valid");
        assert_eq!(all.appenders.len(), 13);
    }
}
