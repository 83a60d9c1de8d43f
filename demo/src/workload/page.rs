//! The HTML of productpage.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde_json::Value;

use super::productpage::{DESCRIPTION, TITLE};
use super::reviews::{Rating, Reviews};

pub(super) const STYLE: &str = include_str!("bookinfo.css");

/// The first page: what this is, and the way in.
pub(super) fn index() -> String {
    frame(
        "Bookinfo",
        "<p>A book shop of four services, the usual sample of a service mesh.</p>\
         <p><a href=\"/productpage\">To the book</a></p>",
    )
}

/// The product page. What a service did not give is said, not left out.
pub(super) fn product(user: Option<&str>, details: &Option<Value>, reviews: &Option<Reviews>) -> String {
    let mut body = session(user);
    let _ = write!(body, "<h1>{TITLE}</h1><p class=\"summary\">{DESCRIPTION}</p><div class=\"columns\">");
    body.push_str("<section><h2>Book Details</h2>");
    match details {
        Some(details) => body.push_str(&details_list(details)),
        None => body.push_str(
            "<p class=\"fault\">Sorry, product details are currently unavailable for this book.</p>",
        ),
    }
    body.push_str("</section><section><h2>Book Reviews</h2>");
    match reviews {
        Some(reviews) => body.push_str(&review_list(reviews)),
        None => body.push_str(
            "<p class=\"fault\">Sorry, product reviews are currently unavailable for this book.</p>",
        ),
    }
    body.push_str("</section></div>");
    frame("Simple Bookstore App", &body)
}

fn session(user: Option<&str>) -> String {
    match user {
        Some(user) => format!("<nav>{} <a href=\"/logout\">Sign out</a></nav>", escaped(user)),
        None => "<nav><form method=\"post\" action=\"/login\">\
                 <input name=\"username\" placeholder=\"User name\" aria-label=\"User name\" required>\
                 <input name=\"passwd\" type=\"password\" placeholder=\"Password\" aria-label=\"Password\">\
                 <button>Sign in</button></form></nav>"
            .to_owned(),
    }
}

fn details_list(details: &Value) -> String {
    let mut list = String::from("<dl>");
    let fields = [
        ("Type", "type"),
        ("Pages", "pages"),
        ("Publisher", "publisher"),
        ("Language", "language"),
        ("ISBN-10", "ISBN-10"),
        ("ISBN-13", "ISBN-13"),
    ];
    for (label, field) in fields {
        let value = match details.get(field) {
            Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
            Some(value) => Cow::Owned(value.to_string()),
            None => continue,
        };
        let _ = write!(list, "<dt>{label}</dt><dd>{}</dd>", escaped(&value));
    }
    list.push_str("</dl>");
    list
}

fn review_list(reviews: &Reviews) -> String {
    let mut list = String::new();
    for review in &reviews.reviews {
        let _ = write!(list, "<blockquote><p>{}</p>", escaped(&review.text));
        let _ = write!(list, "<cite>{}</cite>", escaped(&review.reviewer));
        match &review.rating {
            Some(Rating::Stars { stars, color }) => {
                let stars = (*stars).min(5);
                let _ = write!(list, "<span class=\"stars {}\" title=\"{stars} of 5\">", escaped(color));
                for place in 0..5 {
                    list.push(if place < stars { '★' } else { '☆' });
                }
                list.push_str("</span>");
            }
            Some(Rating::Missing { error }) => {
                let _ = write!(list, "<span class=\"fault\">{}</span>", escaped(error));
            }
            None => {}
        }
        list.push_str("</blockquote>");
    }
    let _ = write!(list, "<footer>Reviews served by {}</footer>", escaped(&reviews.podname));
    list
}

fn frame(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/static/bookinfo.css\"></head>\
         <body>{body}</body></html>\n"
    )
}

fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(character),
        }
    }
    Cow::Owned(safe)
}
