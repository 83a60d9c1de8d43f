//! The embedded web UI: the built files as they are, `index.html` for every other path, since the UI's pages are
//! paths too.

use axum::{
    Router,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::RustEmbed;
use tower_http::compression::CompressionLayer;

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/web_ui"]
struct Files;

/// Only our own files run in the page; styles may be inline since charts position by style.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; worker-src 'self' blob:";

pub(crate) fn router() -> Router {
    Router::new().fallback(get(file)).layer(CompressionLayer::new())
}

async fn file(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    // An unknown API path must not be answered by a page.
    if path.starts_with("api/") {
        return (StatusCode::NOT_FOUND, format!("no such path: /{path}\n")).into_response();
    }
    let (path, file) = match Files::get(path) {
        Some(file) => (path, file),
        // Hashed assets have a dot in their name; a page's path has none.
        None if path.rsplit('/').next().is_some_and(|name| name.contains('.')) => {
            return (StatusCode::NOT_FOUND, format!("no such file: /{path}\n")).into_response();
        }
        None => match Files::get("index.html") {
            Some(file) => ("index.html", file),
            None => return StatusCode::NOT_FOUND.into_response(),
        },
    };
    let media_type = mime_guess::from_path(path).first_or_octet_stream();
    // Vite puts a hash of the content into the names under assets/.
    let caching =
        if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    (
        [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_str(media_type.as_ref()).unwrap_or(HeaderValue::from_static("text/plain")),
            ),
            (header::CACHE_CONTROL, HeaderValue::from_static(caching)),
            (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
            (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        ],
        file.data,
    )
        .into_response()
}
