use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! flags {
    ($($variant:ident $short:literal $long:literal $meaning:literal;)*) => {
        /// Envoy's reasons for a response, in the order of its enum, which is also the order in which they are
        /// joined in text. Source: Envoy `envoy/stream_info/stream_info.h`, `CoreResponseFlag`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ResponseFlag { $($variant,)* }

        impl ResponseFlag {
            pub const ALL: &'static [ResponseFlag] = &[$(ResponseFlag::$variant,)*];

            /// `UH`, `NR`, …
            pub fn short(self) -> &'static str {
                match self { $(ResponseFlag::$variant => $short,)* }
            }

            /// `NoHealthyUpstream`, …
            pub fn long(self) -> &'static str {
                match self { $(ResponseFlag::$variant => $long,)* }
            }

            /// For people.
            pub fn meaning(self) -> &'static str {
                match self { $(ResponseFlag::$variant => $meaning,)* }
            }
        }
    };
}

flags! {
    FailedLocalHealthCheck "LH" "FailedLocalHealthCheck" "the local service failed its health check";
    NoHealthyUpstream "UH" "NoHealthyUpstream" "no healthy host in the upstream cluster";
    UpstreamRequestTimeout "UT" "UpstreamRequestTimeout" "the upstream did not answer in time";
    LocalReset "LR" "LocalReset" "the proxy reset the stream";
    UpstreamRemoteReset "UR" "UpstreamRemoteReset" "the upstream reset the stream";
    UpstreamConnectionFailure "UF" "UpstreamConnectionFailure" "could not connect to the upstream";
    UpstreamConnectionTermination "UC" "UpstreamConnectionTermination" "the upstream closed the connection";
    UpstreamOverflow "UO" "UpstreamOverflow" "the circuit breaker is open";
    NoRouteFound "NR" "NoRouteFound" "no route matches";
    DelayInjected "DI" "DelayInjected" "delayed by a fault rule";
    FaultInjected "FI" "FaultInjected" "aborted by a fault rule";
    RateLimited "RL" "RateLimited" "rate limited";
    UnauthorizedExternalService "UAEX" "UnauthorizedExternalService" "denied by external authorization";
    RateLimitServiceError "RLSE" "RateLimitServiceError" "the rate-limit service failed";
    DownstreamConnectionTermination "DC" "DownstreamConnectionTermination" "the client went away";
    UpstreamRetryLimitExceeded "URX" "UpstreamRetryLimitExceeded" "retries exhausted";
    StreamIdleTimeout "SI" "StreamIdleTimeout" "the stream was idle too long";
    InvalidEnvoyRequestHeaders "IH" "InvalidEnvoyRequestHeaders" "an Envoy header has an invalid value";
    DownstreamProtocolError "DPE" "DownstreamProtocolError" "the client broke the HTTP protocol";
    UpstreamMaxStreamDurationReached "UMSDR" "UpstreamMaxStreamDurationReached" "the upstream stream lived too long";
    ResponseFromCacheFilter "RFCF" "ResponseFromCacheFilter" "answered from the cache";
    NoFilterConfigFound "NFCF" "NoFilterConfigFound" "no filter configuration in time";
    DurationTimeout "DT" "DurationTimeout" "the request or connection lived too long";
    UpstreamProtocolError "UPE" "UpstreamProtocolError" "the upstream broke the HTTP protocol";
    NoClusterFound "NC" "NoClusterFound" "the upstream cluster does not exist";
    OverloadManagerTerminated "OM" "OverloadManagerTerminated" "the proxy is overloaded";
    DnsResolutionFailed "DF" "DnsResolutionFailed" "the upstream's name did not resolve";
    DropOverload "DO" "DropOverload" "dropped by load-shedding configuration";
    DownstreamRemoteReset "DR" "DownstreamRemoteReset" "the client reset the stream";
    UnconditionalDropOverload "UDO" "UnconditionalDropOverload" "all requests are dropped by configuration";
}

impl ResponseFlag {
    pub fn from_short(short: &str) -> Option<ResponseFlag> {
        ResponseFlag::ALL.iter().copied().find(|flag| flag.short() == short)
    }
}

/// A set of flags. Extensions may register flags that are not in [`ResponseFlag`]: those are kept by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags {
    core: u32,
    custom: Vec<String>,
}

impl ResponseFlags {
    pub const fn none() -> ResponseFlags {
        ResponseFlags { core: 0, custom: Vec::new() }
    }

    /// Comma-joined short flags; `-` and the empty text are none.
    pub fn parse(text: &str) -> ResponseFlags {
        let mut flags = ResponseFlags::none();
        for short in text.split(',').map(str::trim).filter(|short| !short.is_empty() && *short != "-") {
            match ResponseFlag::from_short(short) {
                Some(flag) => flags.insert(flag),
                None if flags.custom.iter().any(|known| known == short) => {}
                None => flags.custom.push(short.to_string()),
            }
        }
        flags
    }

    pub fn insert(&mut self, flag: ResponseFlag) {
        self.core |= 1 << flag as u32;
    }

    pub fn contains(&self, flag: ResponseFlag) -> bool {
        self.core & (1 << flag as u32) != 0
    }

    pub fn is_empty(&self) -> bool {
        self.core == 0 && self.custom.is_empty()
    }

    /// Short names: the core flags in Envoy's order, then the others.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let core = ResponseFlag::ALL.iter().filter(|flag| self.contains(**flag)).map(|flag| flag.short());
        core.chain(self.custom.iter().map(String::as_str))
    }
}

impl FromIterator<ResponseFlag> for ResponseFlags {
    fn from_iter<I: IntoIterator<Item = ResponseFlag>>(flags: I) -> ResponseFlags {
        let mut set = ResponseFlags::none();
        flags.into_iter().for_each(|flag| set.insert(flag));
        set
    }
}

/// Comma-joined short flags, `-` if none: the value of Istio's label and of Envoy's access log.
impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, short) in self.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            f.write_str(short)?;
        }
        Ok(())
    }
}

impl Serialize for ResponseFlags {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ResponseFlags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ResponseFlags, D::Error> {
        Ok(ResponseFlags::parse(&String::deserialize(deserializer)?))
    }
}
