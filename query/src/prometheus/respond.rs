//! Prometheus' envelope: success, errors, warnings.

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use pharos_promql::{EvalError, ParseError};
use pharos_storage::StorageError;
use serde::Serialize;
use serde_json::json;

use crate::params::ParamError;

/// Texts of each kind that an answer carries at most; one more says how many there are besides.
const MAX_NOTES: usize = 10;

#[derive(Debug)]
pub(crate) struct ApiError {
    kind: &'static str,
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub(crate) fn bad_data(message: impl ToString) -> ApiError {
        ApiError { kind: "bad_data", status: StatusCode::BAD_REQUEST, message: message.to_string() }
    }

    pub(crate) fn execution(message: impl ToString) -> ApiError {
        ApiError { kind: "execution", status: StatusCode::UNPROCESSABLE_ENTITY, message: message.to_string() }
    }

    pub(crate) fn internal(message: impl ToString) -> ApiError {
        ApiError { kind: "internal", status: StatusCode::INTERNAL_SERVER_ERROR, message: message.to_string() }
    }

    pub(crate) fn timeout(message: impl ToString) -> ApiError {
        ApiError { kind: "timeout", status: StatusCode::SERVICE_UNAVAILABLE, message: message.to_string() }
    }

    /// Something that is switched off.
    pub(crate) fn unavailable(message: impl ToString) -> ApiError {
        ApiError {
            kind: "unavailable",
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: message.to_string(),
        }
    }

    pub(crate) fn of_parameter(name: &str, error: &ParseError) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {name:?}: {error}"))
    }
}

impl ApiError {
    /// For what lies outside of the API, as Prometheus answers there.
    pub(crate) fn into_plain_text(self) -> Response {
        (self.status, format!("{}\n", self.message)).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = json!({ "status": "error", "errorType": self.kind, "error": self.message });
        (self.status, Json(body)).into_response()
    }
}

impl From<ParamError> for ApiError {
    fn from(error: ParamError) -> ApiError {
        ApiError::bad_data(format!("invalid parameter {:?}: {}", error.name, error.message))
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> ApiError {
        match error {
            StorageError::TooManySeries { .. } => ApiError::execution(error),
            error => ApiError::internal(error),
        }
    }
}

impl From<EvalError> for ApiError {
    fn from(error: EvalError) -> ApiError {
        match &error {
            EvalError::Timeout => ApiError::timeout(error),
            EvalError::Canceled => ApiError {
                kind: "canceled",
                // Prometheus' own number for a client that went away.
                status: StatusCode::from_u16(499).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
                message: error.to_string(),
            },
            EvalError::TooManySamples { .. } | EvalError::Execution(_) => ApiError::execution(error),
            EvalError::Source(_) => ApiError::internal(error),
        }
    }
}

/// Notes that go along with an answer.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
}

impl Notes {
    pub(crate) fn truncated(is_truncated: bool) -> Notes {
        let warnings = is_truncated.then(|| "results truncated due to limit".to_string());
        Notes { warnings: warnings.into_iter().collect(), infos: Vec::new() }
    }

    /// `,"warnings":[…],"infos":[…]`, each only if there is one.
    pub(super) fn to_json(&self) -> String {
        let mut json = String::new();
        for (name, kind, notes) in [("warnings", "warning", &self.warnings), ("infos", "info", &self.infos)] {
            if !notes.is_empty() {
                let mut first: Vec<&str> = notes.iter().take(MAX_NOTES).map(String::as_str).collect();
                let omitted = format!("{} more {kind} annotations omitted", notes.len() - first.len());
                if notes.len() > first.len() {
                    first.push(&omitted);
                }
                json.push_str(&format!(",\"{name}\":{}", serde_json::to_string(&first).unwrap_or_default()));
            }
        }
        json
    }
}

/// An answer whose data fits in memory twice.
pub(crate) fn success(data: impl Serialize, notes: &Notes) -> Response {
    match serde_json::to_string(&data) {
        Ok(data) => {
            let text = format!("{{\"status\":\"success\",\"data\":{data}{}}}", notes.to_json());
            json(Response::new(Body::from(text)))
        }
        Err(error) => ApiError::internal(error).into_response(),
    }
}

/// Says of an answer what it is.
pub(super) fn json(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
