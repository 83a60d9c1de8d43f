//! Remote write 1.0 to a peer, from several senders at once.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    Options,
    mesh::{Channel, SERIES_PER_CHANNEL, channels},
    peer::Peer,
};

/// What a phase of writing took of the peer.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) samples: u64,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

/// Scrapes per series in a request of the bulk phase.
const BULK_SCRAPES: usize = 20;

pub(crate) struct Load {
    senders: Vec<Sender>,
    next: usize,
}

struct Sender {
    channels: Vec<Channel>,
    random: StdRng,
    client: reqwest::Client,
    url: String,
    samples_per_request: usize,
}

impl Load {
    pub(crate) fn new(options: &Options, peer: &Peer) -> Load {
        let mut shares: Vec<Vec<Channel>> = (0..options.senders).map(|_| Vec::new()).collect();
        for (index, channel) in channels(options.edges).into_iter().enumerate() {
            shares[index % options.senders].push(channel);
        }
        let senders = shares.into_iter().enumerate().map(|(index, channels)| Sender {
            channels,
            random: StdRng::seed_from_u64(index as u64),
            client: reqwest::Client::new(),
            url: peer.url("/api/v1/write"),
            samples_per_request: options.samples_per_request,
        });
        Load { senders: senders.collect(), next: 0 }
    }

    pub(crate) fn series(&self) -> usize {
        self.senders.iter().map(|sender| sender.channels.len() * SERIES_PER_CHANNEL).sum()
    }

    /// Writes this many scrapes as a proxy's are written: all series, one sample each.
    pub(crate) async fn live(&mut self, scrapes: usize, options: &Options, peer: &Peer) -> Result<Written> {
        self.write(scrapes, 1, options, peer).await
    }

    /// Writes this many scrapes as a backlog is written: several samples of a series in a request.
    pub(crate) async fn bulk(&mut self, scrapes: usize, options: &Options, peer: &Peer) -> Result<Written> {
        self.write(scrapes, BULK_SCRAPES, options, peer).await
    }

    async fn write(
        &mut self,
        scrapes: usize,
        at_once: usize,
        options: &Options,
        peer: &Peer,
    ) -> Result<Written> {
        let (began, cpu_before) = (Instant::now(), peer.cpu()?);
        let end = self.next + scrapes;
        while self.next < end {
            let block = self.next..(self.next + at_once).min(end);
            self.next = block.end;
            let senders = std::mem::take(&mut self.senders).into_iter().map(|mut sender| {
                let times: Vec<(usize, i64)> =
                    block.clone().map(|scrape| (scrape, options.time_ms(scrape))).collect();
                let seconds = options.interval_s as f64;
                tokio::spawn(async move { sender.send(&times, seconds).await.map(|()| sender) })
            });
            for sender in futures::future::join_all(senders).await {
                self.senders.push(sender??);
            }
        }
        let wall = began.elapsed();
        peer.rest().await?;
        Ok(Written {
            samples: (scrapes * self.series()) as u64,
            wall,
            cpu: peer.cpu()?.saturating_sub(cpu_before),
        })
    }
}

impl Sender {
    async fn send(&mut self, scrapes: &[(usize, i64)], seconds: f64) -> Result<()> {
        let mut body = Vec::new();
        let mut samples = 0;
        let mut values = Vec::new();
        let Sender { channels, random, client, url, samples_per_request } = self;
        for channel in channels {
            values.clear();
            for (scrape, _) in scrapes {
                channel.scrape(*scrape, seconds, random, &mut values);
            }
            for series in 0..SERIES_PER_CHANNEL {
                let of_series = values.iter().skip(series).step_by(SERIES_PER_CHANNEL);
                channel.encode(
                    series,
                    scrapes.iter().map(|(_, time_ms)| *time_ms).zip(of_series.copied()),
                    &mut body,
                );
                samples += scrapes.len();
                if samples >= *samples_per_request {
                    post(client, url, &body).await?;
                    (samples, body) = (0, Vec::new());
                }
            }
        }
        if samples > 0 {
            post(client, url, &body).await?;
        }
        Ok(())
    }
}

/// As Prometheus does: again and again while the peer says "later".
async fn post(client: &reqwest::Client, url: &str, body: &[u8]) -> Result<()> {
    let compressed = snap::raw::Encoder::new().compress_vec(body)?;
    let mut pause = Duration::from_millis(30);
    loop {
        let response = client
            .post(url)
            .header("Content-Encoding", "snappy")
            .header("Content-Type", "application/x-protobuf")
            .header("X-Prometheus-Remote-Write-Version", "0.1.0")
            .body(compressed.clone())
            .send()
            .await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = response.text().await?;
        if status.as_u16() != 429 && !status.is_server_error() || pause > Duration::from_secs(60) {
            bail!("{url}: {status}: {text}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}
