//! `POST /api/v1/sql`.

use std::time::Instant;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use datafusion::arrow::ipc::writer::StreamWriter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{SqlAnswer, SqlError, json};
use crate::{Engine, problem::Problem};

const ARROW_STREAM: &str = "application/vnd.apache.arrow.stream";

pub(crate) fn router() -> Router<Engine> {
    Router::new().route("/api/v1/sql", post(sql))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    query: String,
    /// Fewer rows than the server would give.
    limit: Option<usize>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    columns: Vec<Column>,
    rows: Vec<Vec<Value>>,
    /// More rows matched than were given.
    truncated: bool,
    took_ms: f64,
}

#[derive(Serialize)]
struct Column {
    name: String,
    r#type: String,
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Problem {
        let status = match error {
            SqlError::Query(_) => StatusCode::BAD_REQUEST,
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
    let answer = engine.sql().run(&request.query, request.limit).await?;
    let wants_arrow = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains(ARROW_STREAM));
    let failed =
        |error: datafusion::arrow::error::ArrowError| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error);
    if wants_arrow {
        let bytes = arrow_stream(&answer).map_err(failed)?;
        return Ok(([(header::CONTENT_TYPE, ARROW_STREAM)], bytes).into_response());
    }
    let columns = answer
        .schema
        .fields()
        .iter()
        .map(|field| Column { name: field.name().clone(), r#type: json::type_name(field.data_type()) });
    let mut rows = Vec::new();
    for batch in &answer.batches {
        for row in 0..batch.num_rows() {
            let cells = batch.columns().iter().map(|column| json::cell(column, row));
            rows.push(cells.collect::<Result<Vec<_>, _>>().map_err(failed)?);
        }
    }
    Ok(Json(Answer {
        columns: columns.collect(),
        rows,
        truncated: answer.is_truncated,
        took_ms: (began.elapsed().as_secs_f64() * 1e6).round() / 1e3,
    })
    .into_response())
}

fn arrow_stream(answer: &SqlAnswer) -> Result<Vec<u8>, datafusion::arrow::error::ArrowError> {
    let mut writer = StreamWriter::try_new(Vec::new(), &answer.schema)?;
    for batch in &answer.batches {
        writer.write(batch)?;
    }
    writer.into_inner()
}
