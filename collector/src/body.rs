//! Reading a request's body: within the limits before and after decompression, and within the memory that all
//! requests share.

use std::{io::Read, sync::Arc};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fault::Fault;

/// What a peer may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of one request as it comes over the wire. Default 64 MiB, OTLP's advice.
    pub max_wire_bytes: usize,
    /// Of one request (or one gRPC message) after decompression. Default 64 MiB.
    pub max_body_bytes: usize,
    /// Of all requests that are being worked on, wire bytes and decompressed bytes together; beyond it senders are
    /// asked to come back later. Default 192 MiB.
    pub max_in_flight_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_wire_bytes: 64 << 20, max_body_bytes: 64 << 20, max_in_flight_bytes: 192 << 20 }
    }
}

/// Memory that all requests share, counted in KiB.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Budget {
        Budget(Arc::new(Semaphore::new((limits.max_in_flight_bytes >> 10).clamp(1, Semaphore::MAX_PERMITS))))
    }

    pub(crate) fn take(&self, bytes: usize) -> Result<Share, Fault> {
        let mut share = Share { budget: self.clone(), permit: None, held_kib: 0 };
        share.grow_to(bytes)?;
        Ok(share)
    }
}

/// A request's part of the budget, given back on drop.
pub(crate) struct Share {
    budget: Budget,
    permit: Option<OwnedSemaphorePermit>,
    held_kib: u32,
}

impl Share {
    fn grow_to(&mut self, bytes: usize) -> Result<(), Fault> {
        let wanted = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let more = wanted.saturating_sub(self.held_kib);
        if more == 0 {
            return Ok(());
        }
        let permit = self.budget.0.clone().try_acquire_many_owned(more).map_err(|_| Fault::Later {
            message: "too much data is in flight; try again later".into(),
            retry_after: std::time::Duration::from_secs(1),
        })?;
        self.held_kib = wanted;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

/// A body, decompressed, with its share of the budget.
pub(crate) struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) _share: Share,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    Zstd,
}

/// Reads `body` and undoes its `Content-Encoding`, gzip or zstd.
pub(crate) async fn read(
    headers: &HeaderMap,
    body: Body,
    limits: &Limits,
    budget: &Budget,
) -> Result<Payload, Fault> {
    let coding = coding_of(headers)?;
    let (wire, share) = read_wire(headers, body, limits, budget).await?;
    match coding {
        Coding::Identity if wire.len() > limits.max_body_bytes => {
            Err(too_large("body", limits.max_body_bytes))
        }
        Coding::Identity => Ok(Payload { bytes: wire, _share: share }),
        coding => {
            let max = limits.max_body_bytes;
            let work = move || decompress(coding, &wire, max, share);
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| Fault::Internal(format!("decompression failed: {error}")))?
        }
    }
}

/// Reads `body` as it came, whatever its encoding.
pub(crate) async fn read_wire(
    headers: &HeaderMap,
    mut body: Body,
    limits: &Limits,
    budget: &Budget,
) -> Result<(Bytes, Share), Fault> {
    let max = limits.max_wire_bytes;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let declared: usize = declared.unwrap_or(0);
    if declared > max {
        return Err(too_large("body", max));
    }
    let mut share = budget.take(0)?;
    let mut wire = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Fault::Malformed(format!("the body could not be read: {error}")))?;
        let Ok(chunk) = frame.into_data() else { continue };
        let total = wire.len() + chunk.len();
        if total > max {
            return Err(too_large("body", max));
        }
        share.grow_to(total)?;
        wire.extend_from_slice(&chunk);
    }
    Ok((wire.freeze(), share))
}

fn coding_of(headers: &HeaderMap) -> Result<Coding, Fault> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Coding::Identity) };
    match value.to_str().unwrap_or("?").trim().to_ascii_lowercase().as_str() {
        "" | "identity" | "none" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        "zstd" => Ok(Coding::Zstd),
        other => Err(Fault::UnsupportedMedia(format!(
            "Content-Encoding {other:?} is not supported; send identity, gzip or zstd"
        ))),
    }
}

fn decompress(coding: Coding, wire: &Bytes, max: usize, mut share: Share) -> Result<Payload, Fault> {
    let broken = |error: std::io::Error| {
        let name = if coding == Coding::Gzip { "gzip" } else { "zstd" };
        Fault::Malformed(format!("the body is not valid {name}: {error}"))
    };
    let mut reader: Box<dyn Read> = match coding {
        Coding::Gzip => Box::new(flate2::read::MultiGzDecoder::new(&wire[..])),
        _ => Box::new(zstd::stream::read::Decoder::new(&wire[..]).map_err(broken)?),
    };
    let mut out = Vec::new();
    let mut chunk = vec![0; 256 << 10];
    loop {
        let read = reader.read(&mut chunk).map_err(broken)?;
        if read == 0 {
            break;
        }
        if out.len() + read > max {
            return Err(too_large("decompressed body", max));
        }
        share.grow_to(wire.len() + out.len() + read)?;
        out.extend_from_slice(chunk.get(..read).unwrap_or_default());
    }
    Ok(Payload { bytes: out.into(), _share: share })
}

pub(crate) fn too_large(what: &str, max: usize) -> Fault {
    Fault::TooLarge(format!("the {what} is larger than the limit of {max} bytes"))
}
