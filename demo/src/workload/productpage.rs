//! productpage: the shop's pages and its public API, made of what details, reviews and ratings answer.

use std::time::Duration;

use http::header::{CACHE_CONTROL, COOKIE, HeaderValue, LOCATION, SET_COOKIE};
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::reviews::Reviews;
use super::route::Route;
use super::{Question, Served, method_not_allowed, not_a_number, page};
use crate::http_server::{Answer, Asked, answer as http_answer, json, text};
use crate::outbound::Called;
use crate::topology::Application;

/// Bookinfo's timeout on calls to details and reviews.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Bookinfo's timeout on the calls that its API makes straight to ratings.
const RATINGS_TIMEOUT: Duration = Duration::from_secs(3);
const SESSION_COOKIE: &str = "session";
const MAX_USER_BYTES: usize = 64;

/// The one book of the shop.
pub(super) const TITLE: &str = "The Comedy of Errors";
pub(super) const DESCRIPTION: &str = "Two men from Syracuse land in Ephesus, where their twin brothers live, and \
    are taken for them by everybody: servants, wife, goldsmith and officers. One of Shakespeare's earliest plays \
    and his shortest.";

pub(super) async fn answer(
    served: &Served,
    route: Route<'_>,
    asked: &Asked,
    end_user: Option<&str>,
) -> Answer {
    if let Route::Login = route {
        return if asked.method == Method::POST { log_in(asked) } else { method_not_allowed() };
    }
    if asked.method != Method::GET && asked.method != Method::HEAD {
        return method_not_allowed();
    }
    match route {
        Route::Index => html(page::index()),
        Route::Productpage => {
            // One after the other, as Bookinfo does it: the page's time is the sum of both.
            let details = ask(served, asked, end_user, Application::Details, "/details/0").await;
            let reviews = ask(served, asked, end_user, Application::Reviews, "/reviews/0").await;
            html(page::product(end_user, &details_of(&details), &reviews_of(&reviews)))
        }
        Route::Logout => redirect_home("session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"),
        Route::Static("bookinfo.css") => {
            let mut answer = http_answer(StatusCode::OK, "text/css; charset=utf-8", page::STYLE);
            answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
            answer
        }
        Route::Products => {
            json(StatusCode::OK, &json!([{ "id": 0, "title": TITLE, "descriptionHtml": DESCRIPTION }]))
        }
        Route::Product(id) => relay(served, asked, end_user, Application::Details, id).await,
        Route::ProductReviews(id) => relay(served, asked, end_user, Application::Reviews, id).await,
        Route::ProductRatings(id) => relay(served, asked, end_user, Application::Ratings, id).await,
        _ => text(StatusCode::NOT_FOUND, "no such page"),
    }
}

async fn ask(
    served: &Served,
    asked: &Asked,
    end_user: Option<&str>,
    service: Application,
    path: &str,
) -> Called {
    let timeout = if service == Application::Ratings { RATINGS_TIMEOUT } else { TIMEOUT };
    served.ask(asked, end_user, Question { service, path, timeout }).await
}

/// An API call that passes on what the service behind it answers, or its failure.
async fn relay(
    served: &Served,
    asked: &Asked,
    end_user: Option<&str>,
    service: Application,
    id: &str,
) -> Answer {
    let Ok(id) = id.parse::<u64>() else { return not_a_number() };
    let path = format!("/{}/{id}", service.service());
    let called = ask(served, asked, end_user, service, &path).await;
    match StatusCode::from_u16(called.code) {
        Ok(StatusCode::OK) => http_answer(StatusCode::OK, "application/json", called.body),
        status => {
            let fault =
                format!("Sorry, product {} are currently unavailable for this book.", service.service());
            json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &json!({ "error": fault }))
        }
    }
}

/// The book's details, or None where details gave none.
fn details_of(called: &Called) -> Option<Value> {
    (called.code == 200).then(|| serde_json::from_slice(&called.body).ok()).flatten()
}

fn reviews_of(called: &Called) -> Option<Reviews> {
    (called.code == 200).then(|| serde_json::from_slice(&called.body).ok()).flatten()
}

/// The user who is logged in, or the `end-user` that came in with the request.
pub(super) fn user(asked: &Asked) -> Option<String> {
    let cookies = asked.headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let session = cookies
        .flat_map(|value| value.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == SESSION_COOKIE)
        .map(|(_, user)| user);
    session.or_else(|| asked.header("end-user")).filter(|user| is_user_name(user)).map(str::to_owned)
}

/// Names that stand unescaped in a cookie and in a header.
fn is_user_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_USER_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte))
}

/// Any name may log in, with any password: the shop has nothing to protect and the routes want users.
fn log_in(asked: &Asked) -> Answer {
    let user = form_urlencoded::parse(&asked.body)
        .find(|(field, _)| field == "username")
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    if !is_user_name(&user) {
        return text(StatusCode::BAD_REQUEST, "a user name is 1 to 64 letters, digits or any of . _ - @");
    }
    redirect_home(&format!("{SESSION_COOKIE}={user}; Path=/; HttpOnly; SameSite=Lax"))
}

fn redirect_home(cookie: &str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::FOUND;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_static("/productpage"));
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}

fn html(body: String) -> Answer {
    http_answer(StatusCode::OK, "text/html; charset=utf-8", body)
}
