//! The parameters of a request, from its query string and from the form that it may post.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request},
    http::header,
};

use super::respond::ApiError;
use crate::params::Params;

/// Values of the form go before those of the query string.
pub(super) struct Form(pub(super) Params);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Form, ApiError> {
        let query = request.uri().query().map(str::to_string);
        let content_type = request.headers().get(header::CONTENT_TYPE);
        let is_form = content_type.is_some_and(|kind| {
            let kind = kind.to_str().unwrap_or_default().trim_start();
            kind.get(..FORM.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORM))
        });
        if !is_form {
            return Ok(Form(Params::parse(query.as_deref().unwrap_or_default())));
        }
        let body = Bytes::from_request(request, state).await.map_err(|rejection| {
            ApiError::bad_data(format!("error parsing form values: {}", rejection.body_text()))
        })?;
        Ok(Form(Params::parse_form(&String::from_utf8_lossy(&body), query.as_deref())))
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
