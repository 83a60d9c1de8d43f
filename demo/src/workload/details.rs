//! details: what is known of a book.

use http::{Method, StatusCode};
use serde_json::json;

use super::{method_not_allowed, not_a_number};
use crate::http_server::{Answer, Asked, json};

pub(super) fn answer(id: &str, asked: &Asked) -> Answer {
    if asked.method != Method::GET {
        return method_not_allowed();
    }
    let Ok(id) = id.parse::<u64>() else { return not_a_number() };
    let book = json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    });
    json(StatusCode::OK, &book)
}
