//! `POST /api/v1/sql`.

use std::time::{Duration, Instant};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use datafusion::arrow::{array::RecordBatch, error::ArrowError};
use futures::stream;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{
    Rows, SqlError,
    answer::{End, Form, Writer},
};
use crate::{Engine, problem::Problem};

/// Tells how many rows an answer may have.
const MAX_ROWS_HEADER: HeaderName = HeaderName::from_static("x-pharos-max-rows");

/// Rows that are written at once: what is held of an answer is a few times that.
const ROWS_AT_ONCE: usize = 1_024;

/// Whoever takes nothing of an answer for so long has gone without a word.
const STALLED: Duration = Duration::from_secs(60);

pub(crate) fn router() -> Router<Engine> {
    Router::new().route("/api/v1/sql", post(sql))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    query: String,
    /// The most rows to give.
    limit: Option<usize>,
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Problem {
        let status = match error {
            SqlError::Query(_) | SqlError::TooManyRows(_) => StatusCode::BAD_REQUEST,
            SqlError::Timeout(_) => StatusCode::GATEWAY_TIMEOUT,
            SqlError::Memory(_) => StatusCode::SERVICE_UNAVAILABLE,
            SqlError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, error)
    }
}

async fn sql(State(engine): State<Engine>, headers: HeaderMap, body: Bytes) -> Result<Response, Problem> {
    let began = Instant::now();
    let request: Request = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!("the body is not {{\"query\": \"SELECT …\"}}: {error}"))
    })?;
    let accept = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    let form = Form::accepted(&accept.collect::<Vec<_>>().join(","));
    let rows = engine.sql().run(&request.query, request.limit).await?;
    let failed = |error: ArrowError| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    let writer = Writer::new(form, &rows.schema).map_err(failed)?;
    let (send, receive) = mpsc::channel(2);
    tokio::spawn(write(Answer { rows, writer, form, began, send }));
    let chunks = stream::unfold(receive, async |mut receive| Some((receive.recv().await?, receive)));
    let headers = [
        (header::CONTENT_TYPE, form.media_type().to_owned()),
        (MAX_ROWS_HEADER, engine.config().sql_max_rows.to_string()),
    ];
    Ok((headers, Body::from_stream(chunks)).into_response())
}

/// A stretch of an answer, or what broke it off: then the body ends without its last chunk, which no client takes for a
/// whole answer.
type Chunk = Result<Vec<u8>, SqlError>;

struct Answer {
    rows: Rows,
    writer: Writer,
    form: Form,
    began: Instant,
    send: mpsc::Sender<Chunk>,
}

/// Writes an answer until it ends or nobody takes it any more.
async fn write(mut answer: Answer) {
    let gone = answer.send.clone();
    let error = tokio::select! {
        // However long the next rows take.
        () = gone.closed() => return,
        written = answer.rows() => match written {
            Ok(true) => None,
            Ok(false) => return,
            Err(error) => Some(error),
        },
    };
    answer.end(error).await;
}

impl Answer {
    /// Sends all rows. False if they are no longer wanted.
    async fn rows(&mut self) -> Result<bool, SqlError> {
        while let Some(batch) = self.rows.next().await? {
            for at in (0..batch.num_rows()).step_by(ROWS_AT_ONCE) {
                let part: RecordBatch = batch.slice(at, ROWS_AT_ONCE.min(batch.num_rows() - at));
                self.writer.rows(&part).map_err(|error| SqlError::Internal(error.to_string()))?;
                let chunk = self.writer.take();
                if !self.give(Ok(chunk)).await {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn end(mut self, error: Option<SqlError>) {
        let broken = match error {
            // Its end can say so.
            Some(error) if self.form != Form::Json => Some(error),
            error => {
                let took_ms = (self.began.elapsed().as_secs_f64() * 1e6).round() / 1e3;
                let is_truncated = error.is_some() || self.rows.is_truncated();
                let error = error.map(|error| error.to_string());
                self.writer
                    .end(&End { is_truncated, took_ms, error })
                    .err()
                    .map(|error| SqlError::Internal(error.to_string()))
            }
        };
        let chunk = self.writer.take();
        if self.give(Ok(chunk)).await
            && let Some(error) = broken
        {
            tracing::warn!("an answer to SQL was broken off: {error}");
            self.give(Err(error)).await;
        }
    }

    /// False if nobody takes it.
    async fn give(&mut self, chunk: Chunk) -> bool {
        self.send.send_timeout(chunk, STALLED).await.is_ok()
    }
}
