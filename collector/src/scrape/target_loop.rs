use std::{
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::header;
use pharos_model::{METRIC_NAME, TimeSeries, UnixNanos, stale_nan};
use pharos_storage::Batch;
use tokio_util::sync::CancellationToken;

use super::{
    LastScrape, Statuses, chain,
    config::Job,
    http_client::HttpClient,
    protocol::{Protocol as ScrapeProtocol, accept, format_of},
    series::{ScrapeTime, Scraped, SeriesCache, single},
    target::Target,
};
use crate::{clock::latest_sample_ms, counters::Protocol, exposition::Format, intake::Intake};

/// What Prometheus says of each scrape itself.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// And more, where `extra_scrape_metrics` asks for it.
const EXTRA_REPORTS: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

/// The scrapes of one target.
pub(super) struct TargetLoop {
    job: Arc<Job>,
    target: Target,
    client: Arc<HttpClient>,
    /// Of the job.
    target_count: Arc<AtomicUsize>,
    intake: Arc<Intake>,
    statuses: Statuses,
    cache: SeriesCache,
    last: Option<UnixNanos>,
}

impl TargetLoop {
    pub(super) fn new(
        job: Arc<Job>,
        target: Target,
        client: Arc<HttpClient>,
        target_count: Arc<AtomicUsize>,
        intake: Arc<Intake>,
        statuses: Statuses,
    ) -> TargetLoop {
        let cache = SeriesCache::new(intake.start_times.clone());
        TargetLoop { job, target, client, target_count, intake, statuses, cache, last: None }
    }

    /// Until `gone`, when the target's series end, or `shutdown`, when they are left open for the next start.
    pub(super) async fn run(mut self, gone: CancellationToken, shutdown: CancellationToken) {
        let interval_ns = i64::try_from(self.target.interval.as_nanos()).unwrap_or(i64::MAX).max(1);
        let offset_ns = i64::try_from(self.target.offset().as_nanos()).unwrap_or(0);
        let mut due = next_after(UnixNanos::now(), interval_ns, offset_ns);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = gone.cancelled() => break,
                () = sleep_until(due) => {}
            }
            let scrape = self.scrape(scrape_time(due, UnixNanos::now(), interval_ns));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = scrape => {}
            }
            // After a pause, such as of a suspended machine, missed scrapes are not made up for.
            due = next_after(UnixNanos::now().max(due), interval_ns, offset_ns);
        }
        let Some(last) = self.last else { return };
        // As in Prometheus: only when the scrape after next would be over, since the target may be back by then under
        // another URL, and its series go on.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep_until(last.plus_nanos(2 * interval_ns + interval_ns / 10)) => {}
        }
        if !self.statuses.has_labels(&self.target.labels) {
            self.end(last.plus_nanos(interval_ns).millis()).await;
        }
    }

    async fn scrape(&mut self, time: UnixNanos) {
        self.last = Some(time);
        let started = Instant::now();
        let fetched = tokio::time::timeout(self.target.timeout, self.fetch()).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.target.timeout)));
        let time_ms = time.millis();
        let (scraped, bytes) = match fetched {
            Ok((body, format)) => {
                let time = ScrapeTime { ms: time_ms, latest_ms: latest_sample_ms(UnixNanos::now()) };
                (self.cache.read(&self.job, &self.target.labels, &body, format, time), body.len())
            }
            Err(fault) => {
                let series = self.cache.end_all(time_ms);
                (Scraped { series, fault: Some(fault), ..Scraped::default() }, 0)
            }
        };
        let duration = started.elapsed();
        if let Some(error) = &scraped.fault {
            tracing::debug!(url = self.target.url, "scrape failed: {error}");
        }
        if scraped.refused > 0 {
            self.intake.counters.rejected(Protocol::Scrape, scraped.refused);
            tracing::warn!(url = self.target.url, "{} samples were left out", scraped.refused);
        }
        if !scraped.families.is_empty() {
            self.statuses.told(&self.job, &self.target, scraped.families);
        }
        let reports = [
            if scraped.fault.is_none() { 1.0 } else { 0.0 },
            duration.as_secs_f64(),
            scraped.samples as f64,
            scraped.after_relabel as f64,
            scraped.added as f64,
        ];
        let extra = [self.target.timeout.as_secs_f64(), self.job.limits.samples as f64, bytes as f64];
        let mut series = scraped.series;
        series
            .extend(REPORTS.into_iter().zip(reports).map(|(name, value)| self.report(name, time_ms, value)));
        if self.job.extra_metrics {
            let extra = EXTRA_REPORTS.into_iter().zip(extra);
            series.extend(extra.map(|(name, value)| self.report(name, time_ms, value)));
        }
        let last = LastScrape { unix_ms: time_ms, duration, error: scraped.fault };
        self.statuses.scraped(&self.job, &self.target, last);
        self.append(series).await;
    }

    async fn fetch(&self) -> Result<(Vec<u8>, Format), String> {
        let (count, limit) = (self.target_count.load(Ordering::Relaxed), self.job.target_limit);
        if limit > 0 && count > limit {
            return Err(format!("target_limit exceeded (number of targets: {count}, limit: {limit})"));
        }
        // Only what is not said in the configuration changes by a feature.
        let by_start = self.intake.start_times.is_some() && self.job.protocols_are_default;
        let protocols = if by_start { &ScrapeProtocol::defaults(true) } else { &self.job.protocols };
        let request = self
            .client
            .get(&self.target.url)
            .await?
            .header(header::ACCEPT, accept(protocols, self.job.escaping))
            .header(header::ACCEPT_ENCODING, if self.job.compression { "gzip" } else { "identity" })
            .header("x-prometheus-scrape-timeout-seconds", self.target.timeout.as_secs_f64().to_string());
        let mut response = request.send().await.map_err(|error| chain(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("server returned HTTP status {}", response.status()));
        }
        let text = |name: header::HeaderName| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_string()
        };
        let gzip = text(header::CONTENT_ENCODING).eq_ignore_ascii_case("gzip");
        let format = format_of(&text(header::CONTENT_TYPE), self.job.fallback_protocol)?;
        let limit = self.job.limits.body_bytes;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            body.extend_from_slice(&chunk);
        }
        if gzip {
            let unpack = move || gunzip(&body, limit);
            body = tokio::task::spawn_blocking(unpack).await.map_err(|error| error.to_string())??;
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

    /// The target is gone: its series and the reports on it end.
    async fn end(mut self, time_ms: i64) {
        let mut series = self.cache.end_all(time_ms);
        let extra = EXTRA_REPORTS.into_iter().filter(|_| self.job.extra_metrics);
        let reports = REPORTS.into_iter().chain(extra);
        series.extend(reports.map(|name| self.report(name, time_ms, stale_nan())));
        self.append(series).await;
    }
}

fn too_large(limit: usize) -> String {
    format!("body size limit exceeded: the body is larger than body_size_limit {limit}")
}

fn gunzip(packed: &[u8], limit: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(packed).take(limit as u64 + 1);
    reader.read_to_end(&mut body).map_err(|error| format!("the body is not valid gzip: {error}"))?;
    if body.len() > limit { Err(too_large(limit)) } else { Ok(body) }
}

async fn sleep_until(time: UnixNanos) {
    let wait = u64::try_from(time.0.saturating_sub(UnixNanos::now().0)).unwrap_or(0);
    tokio::time::sleep(Duration::from_nanos(wait)).await;
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
