use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::header;
use pharos_model::{METRIC_NAME, TimeSeries, UnixNanos, stale_nan};
use pharos_storage::Batch;
use tokio_util::sync::CancellationToken;

use super::{
    LastScrape, Targets,
    config::Job,
    series::{Scraped, SeriesCache, single},
    target::Target,
};
use crate::{counters::Protocol, exposition::Format, intake::Intake};

/// What Prometheus says of each scrape itself.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

const ACCEPT: &str = "application/openmetrics-text;version=1.0.0;q=0.6,\
    application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;q=0.4,\
    text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// The scrapes of one target.
pub(super) struct TargetLoop {
    job: Arc<Job>,
    target: Target,
    client: reqwest::Client,
    intake: Arc<Intake>,
    targets: Targets,
    cache: SeriesCache,
}

impl TargetLoop {
    pub(super) fn new(
        job: Arc<Job>,
        target: Target,
        client: reqwest::Client,
        intake: Arc<Intake>,
        targets: Targets,
    ) -> TargetLoop {
        TargetLoop { job, target, client, intake, targets, cache: SeriesCache::default() }
    }

    /// Until `gone`, when the target's series end, or `shutdown`, when they are left open for the next start.
    pub(super) async fn run(mut self, gone: CancellationToken, shutdown: CancellationToken) {
        let interval_ns = i64::try_from(self.target.interval.as_nanos()).unwrap_or(i64::MAX).max(1);
        let offset_ns = i64::try_from(self.target.offset().as_nanos()).unwrap_or(0);
        let mut due = next_after(UnixNanos::now(), interval_ns, offset_ns);
        loop {
            let wait = Duration::from_nanos(u64::try_from(due.0 - UnixNanos::now().0).unwrap_or(0));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = gone.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
            let scrape = self.scrape(scrape_time(due, UnixNanos::now(), interval_ns));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = scrape => {}
            }
            // After a pause, such as of a suspended machine, missed scrapes are not made up for.
            due = next_after(UnixNanos::now().max(due), interval_ns, offset_ns);
        }
        self.end().await;
    }

    async fn scrape(&mut self, time: UnixNanos) {
        let started = Instant::now();
        let fetched = tokio::time::timeout(self.target.timeout, self.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.target.timeout)));
        let duration = started.elapsed();
        let time_ms = time.millis();
        let read = fetched.and_then(|(body, format)| {
            let text =
                std::str::from_utf8(&body).map_err(|error| format!("the body is not UTF-8: {error}"))?;
            self.cache.read(&self.job, &self.target.labels, text, format, time_ms)
        });
        let (scraped, error) = match read {
            Ok(scraped) => (scraped, None),
            Err(error) => {
                (Scraped { series: self.cache.end_all(time_ms), ..Scraped::default() }, Some(error))
            }
        };
        if let Some(error) = &error {
            tracing::debug!(url = self.target.url, "scrape failed: {error}");
        }
        let up = if error.is_none() { 1.0 } else { 0.0 };
        let reports = [
            up,
            duration.as_secs_f64(),
            scraped.samples as f64,
            scraped.after_relabel as f64,
            scraped.added as f64,
        ];
        let mut series = scraped.series;
        series
            .extend(REPORTS.into_iter().zip(reports).map(|(name, value)| self.report(name, time_ms, value)));
        self.targets.scraped(&self.job, &self.target, LastScrape { unix_ms: time_ms, duration, error });
        self.append(series).await;
    }

    async fn fetch(&self) -> Result<(Vec<u8>, Format), String> {
        let seconds = self.target.timeout.as_secs_f64();
        let request = self
            .client
            .get(&self.target.url)
            .header(header::ACCEPT, ACCEPT)
            .header("x-prometheus-scrape-timeout-seconds", seconds.to_string());
        let mut response = request.send().await.map_err(|error| chain(&error))?;
        if !response.status().is_success() {
            return Err(format!("the target answered {}", response.status()));
        }
        let content_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let format = Format::of_content_type(content_type.unwrap_or_default());
        let limit = self.job.limits.body_bytes;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(format!("the body is larger than body_size_limit {limit}"));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, format))
    }

    fn report(&self, name: &str, time_ms: i64, value: f64) -> TimeSeries {
        let mut labels = self.target.labels.clone();
        labels.set(METRIC_NAME, name);
        single(labels, time_ms, value)
    }

    async fn append(&self, series: Vec<TimeSeries>) {
        let items = series.iter().map(|series| series.samples.len() + series.histograms.len()).sum();
        match self.intake.append(Protocol::Scrape, Batch::Samples(series), items).await {
            Ok(refused) if refused.is_empty() => {}
            Ok(refused) => {
                self.intake.counters.rejected(Protocol::Scrape, refused.items);
                tracing::warn!(
                    url = self.target.url,
                    "{} samples were not stored: {}",
                    refused.items,
                    refused.message()
                );
            }
            Err(fault) => {
                self.intake.counters.failed(Protocol::Scrape);
                tracing::warn!(url = self.target.url, "a scrape was not stored: {fault}");
            }
        }
    }

    /// The target is gone: its series and the reports on it end now.
    async fn end(mut self) {
        let time_ms = UnixNanos::now().millis();
        let mut series = self.cache.end_all(time_ms);
        series.extend(REPORTS.into_iter().map(|name| self.report(name, time_ms, stale_nan())));
        self.append(series).await;
    }
}

/// The next time on the target's schedule, after `now`.
fn next_after(now: UnixNanos, interval_ns: i64, offset_ns: i64) -> UnixNanos {
    let base = UnixNanos(now.0.saturating_sub(offset_ns)).floor_to(interval_ns);
    UnixNanos(base.0.saturating_add(interval_ns).saturating_add(offset_ns))
}

/// A scrape that starts nearly on time carries the scheduled time, so that samples are evenly spaced (Prometheus:
/// 1 % of the interval, at most 2 ms).
fn scrape_time(due: UnixNanos, now: UnixNanos, interval_ns: i64) -> UnixNanos {
    let tolerance = (interval_ns / 100).min(2_000_000);
    if now.0.abs_diff(due.0) <= tolerance.unsigned_abs() { due } else { now }
}

/// An error with its causes: reqwest's own text leaves out the one that tells.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
