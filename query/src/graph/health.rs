//! Health from request rates, by Kiali's default tolerances (reference §3.1 and §3.2).

use std::collections::BTreeMap;

use super::traffic::{Protocol, TrafficMap};

/// Requests per second by protocol and response code.
pub(crate) type RatesByCode = BTreeMap<&'static str, BTreeMap<String, f64>>;

#[derive(Clone, Debug, Default)]
pub(crate) struct NodeHealth {
    pub(crate) inbound: RatesByCode,
    pub(crate) outbound: RatesByCode,
    pub(crate) status: Status,
    /// Share of failed requests in percent, of the tolerance that decided.
    pub(crate) error_ratio: f64,
    pub(crate) total_request_rate: f64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    #[default]
    NotAvailable,
    Healthy,
    Degraded,
    Failure,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::NotAvailable => "NA",
            Status::Healthy => "Healthy",
            Status::Degraded => "Degraded",
            Status::Failure => "Failure",
        }
    }
}

/// A class of failed answers and the percentages from which it degrades or fails a node.
struct Tolerance {
    covers: fn(Protocol, &str) -> bool,
    degraded_percent: f64,
    failure_percent: f64,
}

const TOLERANCES: [Tolerance; 4] = [
    Tolerance {
        covers: |protocol, code| protocol == Protocol::Http && is_class(code, b'5'),
        degraded_percent: 0.0,
        failure_percent: 10.0,
    },
    Tolerance {
        covers: |protocol, code| protocol == Protocol::Http && is_class(code, b'4'),
        degraded_percent: 10.0,
        failure_percent: 20.0,
    },
    Tolerance {
        covers: |protocol, code| {
            protocol == Protocol::Grpc && code.parse::<u8>().is_ok_and(|status| (1..=16).contains(&status))
        },
        degraded_percent: 0.0,
        failure_percent: 10.0,
    },
    Tolerance { covers: |_, code| code == "-", degraded_percent: 0.0, failure_percent: 10.0 },
];

fn is_class(code: &str, digit: u8) -> bool {
    code.len() == 3 && code.as_bytes().first() == Some(&digit)
}

/// The worst over protocols and tolerances, with the error percentage that decided.
fn judge(rates: &RatesByCode) -> (Status, f64) {
    let mut worst = (Status::NotAvailable, 0.0);
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let Some(codes) = rates.get(protocol.name()) else { continue };
        let total: f64 = codes.values().sum();
        if total <= 0.0 {
            continue;
        }
        for Tolerance { covers, degraded_percent, failure_percent } in &TOLERANCES {
            let failing = codes.iter().filter(|(code, _)| covers(protocol, code)).map(|(_, rate)| rate);
            // The sum of nothing is -0.
            let failed = failing.sum::<f64>() + 0.0;
            let percent = failed / total * 100.0;
            let status = if percent <= 0.0 {
                Status::Healthy
            } else if percent >= *failure_percent {
                Status::Failure
            } else if percent >= *degraded_percent {
                Status::Degraded
            } else {
                Status::Healthy
            };
            if status > worst.0 || (status == worst.0 && percent > worst.1) {
                worst = (status, percent);
            }
        }
    }
    worst
}

fn add(rates: &mut RatesByCode, map: &TrafficMap, edge: usize) {
    let Some(edge) = map.edges.get(edge).filter(|edge| edge.protocol != Protocol::Tcp) else { return };
    let by_code = rates.entry(edge.protocol.name()).or_default();
    for (code, sums) in &edge.codes {
        *by_code.entry(code.clone()).or_default() += sums.total;
    }
}

/// The health of every node, in the order of the map's nodes; sets each edge's own.
pub(crate) fn judge_all(map: &mut TrafficMap) -> Vec<NodeHealth> {
    let mut healths: Vec<NodeHealth> = vec![NodeHealth::default(); map.nodes.len()];
    for index in 0..map.edges.len() {
        let Some((source, target)) = map.edges.get(index).map(|edge| (edge.source, edge.target)) else {
            continue;
        };
        if let Some(health) = healths.get_mut(source) {
            add(&mut health.outbound, map, index);
        }
        if let Some(health) = healths.get_mut(target) {
            add(&mut health.inbound, map, index);
        }
        let mut own = RatesByCode::default();
        add(&mut own, map, index);
        let (status, _) = judge(&own);
        if let Some(edge) = map.edges.get_mut(index).filter(|_| status != Status::NotAvailable) {
            edge.health = Some(status.name());
        }
    }
    for health in &mut healths {
        let (inbound, outbound) = (judge(&health.inbound), judge(&health.outbound));
        let worse = if outbound.0 > inbound.0 || (outbound.0 == inbound.0 && outbound.1 > inbound.1) {
            outbound
        } else {
            inbound
        };
        (health.status, health.error_ratio) = worse;
        let sides = [&health.inbound, &health.outbound];
        let rates = sides.into_iter().flat_map(|side| side.values()).flat_map(|codes| codes.values());
        health.total_request_rate = rates.sum::<f64>() + 0.0;
    }
    healths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerances_are_kialis_defaults() {
        let check = |protocol: &'static str, codes: &[(&str, f64)], want: Status| {
            let codes = codes.iter().map(|(code, rate)| (code.to_string(), *rate)).collect();
            let (status, _) = judge(&BTreeMap::from([(protocol, codes)]));
            assert_eq!(status, want, "{protocol}");
        };
        check("http", &[("200", 100.0)], Status::Healthy);
        check("http", &[("200", 999.0), ("500", 1.0)], Status::Degraded);
        check("http", &[("200", 90.0), ("503", 10.0)], Status::Failure);
        check("http", &[("200", 95.0), ("404", 5.0)], Status::Healthy);
        check("http", &[("200", 85.0), ("404", 15.0)], Status::Degraded);
        check("http", &[("200", 80.0), ("404", 20.0)], Status::Failure);
        check("http", &[("200", 99.0), ("-", 1.0)], Status::Degraded);
        check("grpc", &[("0", 99.0), ("14", 1.0)], Status::Degraded);
        check("grpc", &[("0", 80.0), ("14", 20.0)], Status::Failure);
        check("grpc", &[("0", 80.0), ("99", 20.0)], Status::Healthy);
        check("http", &[], Status::NotAvailable);
    }
}
