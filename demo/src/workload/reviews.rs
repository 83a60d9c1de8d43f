//! reviews: two reviews of a book; v2 and v3 add the stars that they get from ratings.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::ratings::Stars;
use super::{Question, Served, method_not_allowed, not_a_number};
use crate::http_server::{Answer, Asked, json};
use crate::topology::Application;

/// The answer of `/reviews/{id}`; productpage reads it too.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reviews {
    pub(super) id: String,
    pub(super) podname: String,
    pub(super) clustername: String,
    pub(super) reviews: Vec<Review>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Review {
    pub(super) reviewer: String,
    pub(super) text: String,
    /// Absent in v1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) rating: Option<Rating>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Rating {
    Stars { stars: u8, color: String },
    Missing { error: String },
}

const REVIEWS: [(&str, &str); 2] = [
    (
        "Reviewer1",
        "Two pairs of twins, one long day and not a dull line in it. I laughed until the last door closed.",
    ),
    ("Reviewer2", "Quick, light and very funny on a stage. Read at home it is thinner than the later plays."),
];

/// How the versions differ.
struct Version {
    color: &'static str,
    /// Bookinfo's: v3 gives up earlier than v2.
    ratings_timeout: Duration,
}

fn version(name: &str) -> Option<Version> {
    match name {
        "v1" => None,
        "v3" => Some(Version { color: "red", ratings_timeout: Duration::from_millis(2_500) }),
        _ => Some(Version { color: "black", ratings_timeout: Duration::from_secs(10) }),
    }
}

pub(super) async fn answer(served: &Served, id: &str, asked: &Asked) -> Answer {
    if asked.method != Method::GET {
        return method_not_allowed();
    }
    let Ok(id) = id.parse::<u64>() else { return not_a_number() };
    let ratings = match version(&served.settings.version) {
        None => None,
        Some(version) => Some((stars(served, id, asked, version.ratings_timeout).await, version.color)),
    };
    let reviews = REVIEWS.iter().map(|(reviewer, text)| {
        let rating = ratings.as_ref().map(|(stars, color)| match stars {
            Some(stars) => stars
                .get(*reviewer)
                .map(|stars| Rating::Stars { stars: *stars, color: (*color).to_owned() })
                .unwrap_or_else(|| Rating::Missing { error: "this reviewer gave no stars".to_owned() }),
            None => Rating::Missing { error: "Ratings service is currently unavailable".to_owned() },
        });
        Review { reviewer: (*reviewer).to_owned(), text: (*text).to_owned(), rating }
    });
    let answer = Reviews {
        id: id.to_string(),
        podname: served.settings.pod.clone(),
        clustername: "Kubernetes".to_owned(),
        reviews: reviews.collect(),
    };
    json(StatusCode::OK, &answer)
}

/// The stars of a book, or None when ratings gives none.
async fn stars(served: &Served, id: u64, asked: &Asked, timeout: Duration) -> Option<Stars> {
    #[derive(Deserialize)]
    struct Ratings {
        ratings: Stars,
    }
    let path = format!("/ratings/{id}");
    let question = Question { service: Application::Ratings, path: &path, timeout };
    let called = served.ask(asked, None, question).await;
    if called.code != 200 {
        return None;
    }
    serde_json::from_slice::<Ratings>(&called.body).ok().map(|answer| answer.ratings)
}
