//! The paths of the four applications.

use crate::topology::Application;

/// What a path asks for; ids are as they stand in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    Health,
    Details(&'a str),
    Reviews(&'a str),
    Ratings(&'a str),
    Index,
    Productpage,
    Login,
    Logout,
    Static(&'a str),
    Products,
    Product(&'a str),
    ProductReviews(&'a str),
    ProductRatings(&'a str),
    Unknown,
}

impl<'a> Route<'a> {
    pub(super) fn of(application: Application, path: &'a str) -> Self {
        let mut segments = [""; 5];
        let mut count = 0;
        for segment in path.trim_start_matches('/').split('/') {
            let Some(place) = segments.get_mut(count) else { return Self::Unknown };
            *place = segment;
            count += 1;
        }
        let segments = segments.get(..count).unwrap_or_default();
        use Application::{Details, Productpage, Ratings, Reviews};
        match (application, segments) {
            (_, ["health"]) => Self::Health,
            (Details, ["details", id]) => Self::Details(id),
            (Reviews, ["reviews", id]) => Self::Reviews(id),
            (Ratings, ["ratings", id]) => Self::Ratings(id),
            (Productpage, ["" | "index.html"]) => Self::Index,
            (Productpage, ["productpage"]) => Self::Productpage,
            (Productpage, ["login"]) => Self::Login,
            (Productpage, ["logout"]) => Self::Logout,
            (Productpage, ["static", file]) => Self::Static(file),
            (Productpage, ["api", "v1", "products"]) => Self::Products,
            (Productpage, ["api", "v1", "products", id]) => Self::Product(id),
            (Productpage, ["api", "v1", "products", id, "reviews"]) => Self::ProductReviews(id),
            (Productpage, ["api", "v1", "products", id, "ratings"]) => Self::ProductRatings(id),
            _ => Self::Unknown,
        }
    }

    /// The path with its id left out: what requests are counted by.
    pub(super) fn template(self) -> &'static str {
        match self {
            Self::Health => "/health",
            Self::Details(_) => "/details/{id}",
            Self::Reviews(_) => "/reviews/{id}",
            Self::Ratings(_) => "/ratings/{id}",
            Self::Index => "/",
            Self::Productpage => "/productpage",
            Self::Login => "/login",
            Self::Logout => "/logout",
            Self::Static(_) => "/static/{file}",
            Self::Products => "/api/v1/products",
            Self::Product(_) => "/api/v1/products/{id}",
            Self::ProductReviews(_) => "/api/v1/products/{id}/reviews",
            Self::ProductRatings(_) => "/api/v1/products/{id}/ratings",
            Self::Unknown => "unknown",
        }
    }
}

/// The template of a path of productpage, for callers that count what they send.
pub(crate) fn productpage_template(path: &str) -> &'static str {
    Route::of(Application::Productpage, path).template()
}
