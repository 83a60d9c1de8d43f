//! `/notifications` and `/notifications/live`: what a person who looks at the server should know.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::State,
    response::{
        Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt, stream};
use serde::Serialize;
use serde_json::json;

use super::{
    respond::{ApiError, Notes, success},
    times::rfc3339_or_never,
};
use crate::{Engine, params::Params};

/// How soon somebody who listens hears of a change.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Notification {
    text: &'static str,
    date: String,
}

fn notifications(engine: &Engine) -> Vec<Notification> {
    let configuration = engine.host().configuration();
    let failed = configuration.reload_succeeded == Some(false);
    let of_reload = failed.then(|| Notification {
        text: "Configuration reload has failed.",
        date: rfc3339_or_never(configuration.failed_at.map(|time| time.millis())),
    });
    of_reload.into_iter().collect()
}

fn told(notification: &Notification, active: bool) -> serde_json::Value {
    json!({ "text": notification.text, "date": notification.date, "active": active })
}

pub(crate) fn current(engine: &Engine, _: &Params) -> Result<Response, ApiError> {
    let all: Vec<_> = notifications(engine).iter().map(|notification| told(notification, true)).collect();
    Ok(success(all, &Notes::default()))
}

/// An event for each that there is, comes or goes, until the client leaves.
pub(crate) async fn live(
    State(engine): State<Engine>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    let looks = stream::unfold((engine, Vec::new(), true), |(engine, known, is_first)| async move {
        if !is_first {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let now = notifications(&engine);
        let gone = known.iter().filter(|one| !now.contains(one)).map(|one| told(one, false));
        let came = now.iter().filter(|one| !known.contains(one)).map(|one| told(one, true));
        let events: Vec<_> =
            gone.chain(came).map(|event| Ok(Event::default().data(event.to_string()))).collect();
        Some((stream::iter(events), (engine, now, false)))
    });
    Sse::new(looks.flatten()).keep_alive(KeepAlive::default())
}
