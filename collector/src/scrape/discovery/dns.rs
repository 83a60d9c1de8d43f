//! `dns_sd_configs`: targets by names of the DNS.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use hickory_resolver::{TokioResolver, proto::rr::RData, proto::rr::RecordType};
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

#[derive(Clone, Debug)]
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
        let mut last_fault = None;
        loop {
            let mut fault = None;
            // The system's name servers may change while we run.
            match TokioResolver::builder_tokio().and_then(|builder| builder.build()) {
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
