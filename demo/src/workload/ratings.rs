//! ratings: stars by reviewer.

use std::collections::BTreeMap;

use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::json;

use super::{method_not_allowed, not_a_number};
use crate::http_server::{Answer, Asked, json};

/// Books whose ratings were set by `POST`; more are refused.
const MAX_BOOKS: usize = 1_000;
const MAX_REVIEWERS: usize = 100;

/// Reviewer to stars, 1 to 5.
pub(super) type Stars = BTreeMap<String, u8>;

/// The ratings that were set; a book without any has the two it was born with.
#[derive(Default)]
pub(super) struct Store(Mutex<BTreeMap<u64, Stars>>);

impl Store {
    /// `GET` gives a book's ratings, `POST` with `{"Reviewer1": 3}` replaces them.
    pub(super) fn answer(&self, id: &str, asked: &Asked) -> Answer {
        let Ok(id) = id.parse::<u64>() else { return not_a_number() };
        let stars = match asked.method {
            Method::GET => self.0.lock().get(&id).cloned().unwrap_or_else(born_with),
            Method::POST => match self.set(id, &asked.body) {
                Ok(stars) => stars,
                Err(fault) => return json(StatusCode::BAD_REQUEST, &json!({ "error": fault })),
            },
            _ => return method_not_allowed(),
        };
        json(StatusCode::OK, &json!({ "id": id, "ratings": stars }))
    }

    fn set(&self, id: u64, body: &[u8]) -> Result<Stars, String> {
        let stars: Stars = serde_json::from_slice(body)
            .map_err(|fault| format!("please provide reviewers and stars as JSON: {fault}"))?;
        if let Some((reviewer, stars)) = stars.iter().find(|(_, stars)| !(1..=5).contains(*stars)) {
            return Err(format!("{stars} stars by {reviewer}: a rating is 1 to 5"));
        }
        if stars.len() > MAX_REVIEWERS {
            return Err(format!("more than {MAX_REVIEWERS} reviewers"));
        }
        let mut books = self.0.lock();
        if books.len() >= MAX_BOOKS && !books.contains_key(&id) {
            return Err(format!("ratings of {MAX_BOOKS} books were set already"));
        }
        books.insert(id, stars.clone());
        Ok(stars)
    }
}

fn born_with() -> Stars {
    BTreeMap::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)])
}
