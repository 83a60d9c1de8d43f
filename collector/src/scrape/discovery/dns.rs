//! `dns_sd_configs`: targets by names of the DNS.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{RData, RecordType},
};
use pharos_model::PromDuration;
use serde::Deserialize;

use super::{ADDRESS, DiscoveryConfig, TargetGroup, Teller};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::scrape) struct DnsSdConfig {
    names: Vec<String>,
    #[serde(default, rename = "type")]
    kind: Kind,
    port: Option<u16>,
    refresh_interval: Option<PromDuration>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    #[serde(alias = "a")]
    A,
    #[serde(alias = "aaaa")]
    Aaaa,
    #[default]
    #[serde(alias = "srv")]
    Srv,
    #[serde(alias = "mx")]
    Mx,
    #[serde(alias = "ns")]
    Ns,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::scrape) struct DnsSd {
    names: Vec<String>,
    kind: Kind,
    port: u16,
    refresh: Duration,
}

const DEFAULT_REFRESH: Duration = Duration::from_secs(30);

impl DnsSdConfig {
    pub(in crate::scrape) fn resolve(self) -> Result<DiscoveryConfig, String> {
        if self.names.is_empty() {
            return Err("dns_sd_configs must name at least one name".into());
        }
        if self.kind != Kind::Srv && self.port.is_none() {
            return Err("dns_sd_configs needs a port unless its type is SRV".into());
        }
        Ok(DiscoveryConfig::Dns(DnsSd {
            names: self.names,
            kind: self.kind,
            port: self.port.unwrap_or(0),
            refresh: self.refresh_interval.map_or(DEFAULT_REFRESH, |PromDuration(every)| every),
        }))
    }
}

impl DnsSd {
    pub(super) async fn run(self, teller: Teller) {
        #[cfg(test)]
        if let Some(address) = tests::NAME_SERVER.get() {
            return self.follow(teller, || tests::resolver_at(*address)).await;
        }
        self.follow(teller, || TokioResolver::builder_tokio().and_then(|builder| builder.build())).await;
    }

    /// The system's name servers may change while we run: there is a resolver for each round.
    async fn follow(self, teller: Teller, resolver: impl Fn() -> Result<TokioResolver, NetError>) {
        let mut last_fault = None;
        loop {
            let mut fault = None;
            match resolver() {
                Ok(resolver) => {
                    for name in &self.names {
                        match self.look_up(&resolver, name).await {
                            Ok(group) => teller.tell(name.clone(), vec![group]).await,
                            Err(error) => fault = Some(format!("{name}: {error}")),
                        }
                    }
                }
                Err(error) => fault = Some(error.to_string()),
            }
            teller.fault(&mut last_fault, fault);
            tokio::time::sleep(self.refresh).await;
        }
    }

    /// A name that does not exist has no targets; a server that does not answer says nothing.
    async fn look_up(&self, resolver: &TokioResolver, name: &str) -> Result<TargetGroup, String> {
        let kind = match self.kind {
            Kind::A => RecordType::A,
            Kind::Aaaa => RecordType::AAAA,
            Kind::Srv => RecordType::SRV,
            Kind::Mx => RecordType::MX,
            Kind::Ns => RecordType::NS,
        };
        let targets = match resolver.lookup(name, kind).await {
            Ok(answer) => {
                answer.answers().iter().filter_map(|record| self.target(name, &record.data)).collect()
            }
            Err(error) if error.is_no_records_found() || error.is_nx_domain() => Vec::new(),
            Err(error) => return Err(error.to_string()),
        };
        Ok(TargetGroup { targets, labels: BTreeMap::new() })
    }

    fn target(&self, name: &str, record: &RData) -> Option<BTreeMap<String, String>> {
        let mut labels = BTreeMap::from([("__meta_dns_name".to_string(), name.to_string())]);
        let mut meta = |of: &str, value: String| labels.insert(format!("__meta_dns_{of}"), value);
        let host = |name: &hickory_resolver::proto::rr::Name| name.to_utf8();
        let at = |host: &str, port: u16| format!("{}:{port}", host.trim_end_matches('.'));
        let address = match record {
            RData::A(ip) => with_port(IpAddr::V4(ip.0), self.port),
            RData::AAAA(ip) => with_port(IpAddr::V6(ip.0), self.port),
            RData::SRV(srv) => {
                meta("srv_record_target", host(&srv.target));
                meta("srv_record_port", srv.port.to_string());
                at(&host(&srv.target), srv.port)
            }
            RData::MX(mx) => {
                meta("mx_record_target", host(&mx.exchange));
                at(&host(&mx.exchange), self.port)
            }
            RData::NS(ns) => {
                meta("ns_record_target", host(&ns.0));
                at(&host(&ns.0), self.port)
            }
            // Such as the CNAME that led to the answer.
            _ => return None,
        };
        labels.insert(ADDRESS.into(), address);
        Some(labels)
    }
}

fn with_port(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

#[cfg(test)]
pub(in crate::scrape) mod tests {
    use std::{
        collections::HashMap,
        net::SocketAddr,
        sync::{Arc, OnceLock},
    };

    pub(in crate::scrape) use hickory_resolver::proto::rr::{RData, RecordType, rdata::A};
    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig, ResolverConfig},
        net::runtime::TokioRuntimeProvider,
        proto::{
            op::{Message, ResponseCode},
            rr::{
                Name, Record,
                rdata::{AAAA, MX, NS, SRV},
            },
        },
    };
    use parking_lot::Mutex;
    use tokio::{net::UdpSocket, sync::mpsc};

    use super::*;

    /// Whom discoveries ask that take the system's name servers otherwise.
    pub(in crate::scrape) static NAME_SERVER: OnceLock<SocketAddr> = OnceLock::new();

    /// What a name server knows; `None` fails.
    pub(in crate::scrape) type Zone = Arc<Mutex<HashMap<(&'static str, RecordType), Option<Vec<RData>>>>>;

    pub(in crate::scrape) async fn name_server(zone: Zone) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 1_500];
            loop {
                let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
                let asked = Message::from_vec(&buffer[..length]).unwrap();
                let query = &asked.queries[0];
                let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
                answer.add_query(query.clone());
                let name = query.name().to_utf8();
                let found = {
                    let zone = zone.lock();
                    let mut known = zone.iter();
                    known
                        .find(|((known, kind), _)| *known == name && *kind == query.query_type())
                        .map(|(_, records)| records.clone())
                };
                match found {
                    Some(Some(records)) => {
                        for data in records {
                            answer.add_answer(Record::from_rdata(query.name().clone(), 0, data));
                        }
                    }
                    Some(None) => answer.metadata.response_code = ResponseCode::ServFail,
                    None => answer.metadata.response_code = ResponseCode::NXDomain,
                }
                socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
            }
        });
        address
    }

    pub(super) fn resolver_at(address: SocketAddr) -> Result<TokioResolver, NetError> {
        let mut udp = ConnectionConfig::udp();
        udp.port = address.port();
        let server = NameServerConfig::new(address.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build()
    }

    fn sd(yaml: &str) -> DnsSd {
        let config: DnsSdConfig = serde_saphyr::from_str(yaml).unwrap();
        let DiscoveryConfig::Dns(sd) = config.resolve().unwrap() else { panic!("{yaml}") };
        sd
    }

    /// Targets as `address label=value …`, without `__meta_dns_`.
    fn lines(groups: &[TargetGroup]) -> Vec<String> {
        let line = |target: &BTreeMap<String, String>| {
            let mut target = target.clone();
            let address = target.remove(ADDRESS).unwrap();
            let labels = target
                .into_iter()
                .map(|(name, value)| format!(" {}={value}", name.strip_prefix("__meta_dns_").unwrap()));
            format!("{address}{}", labels.collect::<String>())
        };
        groups.iter().flat_map(|group| group.targets.iter().map(line)).collect()
    }

    #[tokio::test]
    async fn records_of_a_name_server_are_targets() {
        let name = |text: &str| Name::from_utf8(text).unwrap();
        let zone: Zone = Arc::new(Mutex::new(HashMap::from([
            (
                ("a.test.", RecordType::A),
                Some(vec![RData::A(A::new(10, 0, 0, 1)), RData::A(A::new(10, 0, 0, 2))]),
            ),
            (("a.test.", RecordType::AAAA), Some(vec![RData::AAAA(AAAA("fd00::1".parse().unwrap()))])),
            (
                ("_http._tcp.test.", RecordType::SRV),
                Some(vec![RData::SRV(SRV::new(0, 1, 9_100, name("host.test.")))]),
            ),
            (("test.", RecordType::MX), Some(vec![RData::MX(MX::new(5, name("mail.test.")))])),
            (("test.", RecordType::NS), Some(vec![RData::NS(NS(name("ns.test.")))])),
        ])));
        let address = name_server(zone.clone()).await;
        let resolver = move || resolver_at(address);
        let follow = |yaml: &str| {
            let (found, news) = mpsc::channel(1);
            let teller = Teller { job: 0, mechanism: 0, job_name: "j".into(), found };
            (tokio::spawn(sd(yaml).follow(teller, resolver)), news)
        };
        for (yaml, expected) in [
            (
                "{names: [a.test], type: A, port: 80}",
                vec!["10.0.0.1:80 name=a.test", "10.0.0.2:80 name=a.test"],
            ),
            ("{names: [a.test], type: AAAA, port: 80}", vec!["[fd00::1]:80 name=a.test"]),
            (
                "{names: [_http._tcp.test]}",
                vec!["host.test:9100 name=_http._tcp.test srv_record_port=9100 srv_record_target=host.test."],
            ),
            (
                "{names: [test], type: MX, port: 25}",
                vec!["mail.test:25 mx_record_target=mail.test. name=test"],
            ),
            ("{names: [test], type: NS, port: 53}", vec!["ns.test:53 name=test ns_record_target=ns.test."]),
            ("{names: [nothing.test], type: A, port: 1}", vec![]),
        ] {
            let (running, mut news) = follow(yaml);
            let found = news.recv().await.unwrap();
            assert_eq!(lines(&found.groups), expected, "{yaml}");
            running.abort();
        }
        // A server that fails says nothing: what was known stays until there is something better.
        let (running, mut news) = follow("{names: [a.test, test], type: A, port: 1, refresh_interval: 10ms}");
        assert_eq!(news.recv().await.unwrap().groups[0].targets.len(), 2);
        zone.lock().insert(("a.test.", RecordType::A), None);
        for _ in 0..3 {
            // The other name goes on.
            while news.recv().await.unwrap().source.1 != "test" {}
        }
        while let Ok(found) = news.try_recv() {
            assert_ne!(found.source.1, "a.test", "{found:?}");
        }
        zone.lock().insert(("a.test.", RecordType::A), Some(vec![RData::A(A::new(10, 0, 0, 3))]));
        let back = loop {
            let found = news.recv().await.unwrap();
            if found.source.1 == "a.test" {
                break found;
            }
        };
        assert_eq!(lines(&back.groups), ["10.0.0.3:1 name=a.test"]);
        running.abort();
    }
}
