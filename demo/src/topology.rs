//! Who runs where: the one table of the demo's workloads, addresses and ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Ports on each workload's own address. They are Istio's where Istio has one; since every process has an
/// address of its own, none of them can clash with a service on 127.0.0.1.
pub mod port {
    /// The application, plain HTTP; also the Service port of all four Bookinfo services.
    pub const APPLICATION: u16 = 9080;
    /// The workload's own `/healthz` and `/truth`, never behind a proxy.
    pub const ADMIN: u16 = 9081;
    /// The ingress gateway's HTTP listener.
    pub const GATEWAY: u16 = 8080;
    /// The sidecar's outbound listener: the application dials it with the wanted service in `Host`.
    pub const OUTBOUND: u16 = 15001;
    /// The sidecar's inbound listener: what the service registry gives to callers.
    pub const INBOUND: u16 = 15006;
    /// The proxy's `/stats/prometheus` and `/healthz/ready`.
    pub const PROXY_ADMIN: u16 = 15020;
}

/// The namespace of the Bookinfo workloads.
pub const BOOKINFO_NAMESPACE: &str = "bookinfo";
/// The namespace of the ingress gateway.
pub const GATEWAY_NAMESPACE: &str = "istio-system";

/// The loopback /24 that one demo lives in. Two demos with different networks run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DemoNetwork([u8; 2]);

impl DemoNetwork {
    /// `127.{second}.{third}.0/24`.
    pub const fn new(second: u8, third: u8) -> Self {
        Self([second, third])
    }

    /// The address with this last octet.
    pub fn host(self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0[0], self.0[1], last)
    }

    pub(crate) fn socket(self, last: u8, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.host(last)), port)
    }
}

impl Default for DemoNetwork {
    fn default() -> Self {
        Self::new(0, 10)
    }
}

impl fmt::Display for DemoNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "127.{}.{}", self.0[0], self.0[1])
    }
}

impl From<DemoNetwork> for String {
    fn from(network: DemoNetwork) -> Self {
        network.to_string()
    }
}

impl TryFrom<String> for DemoNetwork {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for DemoNetwork {
    type Err = String;

    /// Takes `127.x.y`, other than `127.0.0`, where the machine's own services live.
    fn from_str(text: &str) -> Result<Self, String> {
        let octets: Option<Vec<u8>> = text.split('.').map(|octet| octet.parse().ok()).collect();
        match octets.as_deref() {
            Some([127, 0, 0]) => Err("127.0.0 holds the machine's own services; take another".to_owned()),
            Some(&[127, second, third]) => Ok(Self::new(second, third)),
            _ => Err(format!("{text:?} is not the first three octets of a loopback network, as in 127.0.10")),
        }
    }
}

/// What a workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Application {
    Productpage,
    Details,
    Reviews,
    Ratings,
}

impl Application {
    /// The name of the Service and the `app` label.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Productpage => "productpage",
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }
}

/// How a workload's sidecar reports spans and which trace headers it reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracing {
    /// OTLP gRPC; W3C `traceparent`.
    OtlpW3c,
    /// OTLP gRPC; reads B3 first, then W3C; writes both.
    OtlpB3AndW3c,
    /// Zipkin v2 JSON; B3 with several headers.
    ZipkinB3,
}

/// One workload of the `bookinfo` namespace.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Deployment name, `reviews-v2`.
    pub name: &'static str,
    pub application: Application,
    /// The `version` label.
    pub version: &'static str,
    /// Name of its one pod.
    pub pod: &'static str,
    /// Last octet of its address.
    pub host: u8,
    pub(crate) tracing: Tracing,
    /// Median of the time that the application takes of its own, beside the calls that it makes.
    pub(crate) median_service_time_us: u32,
}

/// The six workloads of Bookinfo.
///
/// Tracing is mixed on purpose. The gateway speaks W3C alone; productpage's sidecar understands it and sends on
/// both families; details reads B3 alone and reports to Zipkin; reviews and ratings read W3C alone. A trace is
/// whole only when every one of those joints holds.
pub const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "productpage-v1",
        application: Application::Productpage,
        version: "v1",
        pod: "productpage-v1-6b746f74dc-9rlmh",
        host: 10,
        tracing: Tracing::OtlpB3AndW3c,
        median_service_time_us: 3_000,
    },
    Workload {
        name: "details-v1",
        application: Application::Details,
        version: "v1",
        pod: "details-v1-79dfbd6fff-x2x7k",
        host: 20,
        tracing: Tracing::ZipkinB3,
        median_service_time_us: 1_500,
    },
    Workload {
        name: "reviews-v1",
        application: Application::Reviews,
        version: "v1",
        pod: "reviews-v1-545db77b95-lzw4t",
        host: 31,
        tracing: Tracing::OtlpW3c,
        median_service_time_us: 2_000,
    },
    Workload {
        name: "reviews-v2",
        application: Application::Reviews,
        version: "v2",
        pod: "reviews-v2-7bf8c9648f-h7c5q",
        host: 32,
        tracing: Tracing::OtlpW3c,
        median_service_time_us: 4_000,
    },
    Workload {
        name: "reviews-v3",
        application: Application::Reviews,
        version: "v3",
        pod: "reviews-v3-84779c7bbc-n6t4d",
        host: 33,
        tracing: Tracing::OtlpW3c,
        median_service_time_us: 6_000,
    },
    Workload {
        name: "ratings-v1",
        application: Application::Ratings,
        version: "v1",
        pod: "ratings-v1-b6994bb9-k4wzv",
        host: 40,
        tracing: Tracing::OtlpW3c,
        median_service_time_us: 2_500,
    },
];

/// Deployment and `app` label of the ingress gateway.
pub const GATEWAY_NAME: &str = "istio-ingressgateway";
pub(crate) const GATEWAY_POD: &str = "istio-ingressgateway-5d6f7c9b8-q8m2s";
pub(crate) const GATEWAY_HOST: u8 = 1;

/// Name of the load generator, a client outside of the mesh.
pub const LOAD_GENERATOR_NAME: &str = "loadgenerator";
pub(crate) const LOAD_GENERATOR_HOST: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_the_first_three_octets_of_a_loopback_address() {
        assert_eq!("127.3.77".parse(), Ok(DemoNetwork::new(3, 77)));
        assert_eq!(DemoNetwork::default().to_string(), "127.0.10");
        for wrong in ["", "127.0", "10.0.1", "127.0.300", "127.0.1.2", "127.0.0", "localhost"] {
            assert!(wrong.parse::<DemoNetwork>().is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn no_two_processes_share_an_address() {
        let mut hosts: Vec<u8> = WORKLOADS.iter().map(|workload| workload.host).collect();
        hosts.extend([GATEWAY_HOST, LOAD_GENERATOR_HOST]);
        let distinct: std::collections::BTreeSet<u8> = hosts.iter().copied().collect();
        assert_eq!(distinct.len(), hosts.len());
    }
}
