//! `http_sd_configs`: groups of targets from a URL, asked for again and again.

use std::{path::Path, time::Duration};

use http::header;
use pharos_model::PromDuration;
use serde::Deserialize;

use super::{DiscoveryConfig, MAX_LIST_BYTES, StaticConfig, TargetGroup, Teller};
use crate::scrape::{
    chain,
    http_client::HttpClient,
    http_config::{HttpConfig, with_http_keys},
};

with_http_keys! {
    #[derive(Clone, Debug)]
    struct HttpSdConfig {
        url: String,
        refresh_interval: Option<PromDuration>,
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::scrape) struct HttpSd {
    url: String,
    refresh: Duration,
    http: HttpConfig,
}

const DEFAULT_REFRESH: Duration = Duration::from_secs(60);

impl HttpSdConfig {
    pub(in crate::scrape) fn resolve(mut self, base: &Path) -> Result<DiscoveryConfig, String> {
        let url = reqwest::Url::parse(&self.url)
            .map_err(|error| format!("http_sd_configs url {:?}: {error}", self.url))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("http_sd_configs url {:?}: the scheme must be http or https", self.url));
        }
        Ok(DiscoveryConfig::Http(Box::new(HttpSd {
            http: self.take_http(base)?,
            refresh: self.refresh_interval.map_or(DEFAULT_REFRESH, |PromDuration(every)| every),
            url: self.url,
        })))
    }
}

impl HttpSd {
    pub(super) async fn run(self, teller: Teller) {
        let client = HttpClient::new(self.http.clone());
        let mut last_fault = None;
        loop {
            // As in Prometheus, an answer has as long as the interval is.
            let asked = tokio::time::timeout(self.refresh, self.ask(&client)).await;
            let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.refresh)));
            match asked {
                Ok(groups) => {
                    teller.tell(self.url.clone(), groups).await;
                    teller.fault(&mut last_fault, None);
                }
                Err(fault) => teller.fault(&mut last_fault, Some(format!("{}: {fault}", self.url))),
            }
            tokio::time::sleep(self.refresh).await;
        }
    }

    async fn ask(&self, client: &HttpClient) -> Result<Vec<TargetGroup>, String> {
        let request = client
            .get(&self.url)
            .await?
            .header(header::ACCEPT, "application/json")
            .header("x-prometheus-refresh-interval-seconds", self.refresh.as_secs_f64().to_string());
        let mut response = request.send().await.map_err(|error| chain(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("server returned HTTP status {}", response.status()));
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/json") {
            return Err(format!("unsupported content type {media_type:?}"));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
            if body.len() + chunk.len() > MAX_LIST_BYTES {
                return Err(format!("the answer is larger than {MAX_LIST_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        let groups: Vec<StaticConfig> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        Ok(groups
            .into_iter()
            .map(|group| {
                let mut group = TargetGroup::from(group);
                group.labels.insert("__meta_url".into(), self.url.clone());
                group
            })
            .collect())
    }
}
