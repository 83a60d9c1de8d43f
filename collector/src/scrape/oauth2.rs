//! Tokens of OAuth 2.0 for requests (RFC 6749 §4.4, client credentials), kept until they expire.

use std::time::{Duration, Instant};

use http::StatusCode;
use reqwest::{Method, Url};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    chain,
    http_client::{HttpClient, secret},
    http_config::OAuth2,
};

pub(super) struct TokenSource {
    config: OAuth2,
    client: HttpClient,
    /// Whoever asks while another waits for a token gets the same one.
    current: Mutex<Option<Token>>,
}

struct Token {
    authorization: String,
    /// That it was given for: a file of it may change.
    secret: String,
    /// `None` never expires.
    renewal: Option<Instant>,
}

/// A token is renewed this long before it expires.
const MARGIN: Duration = Duration::from_secs(10);

/// An answer with a token is not larger.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Where the server takes the client's name and secret.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Header,
    Form,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    token_type: String,
    expires_in: Option<u64>,
}

impl TokenSource {
    pub(super) fn new(config: OAuth2) -> TokenSource {
        TokenSource { client: HttpClient::new(config.http()), config, current: Mutex::default() }
    }

    /// The value of the header `Authorization`.
    pub(super) async fn authorization(&self) -> Result<String, String> {
        let secret = secret(&self.config.client_secret, self.config.client_secret_file.as_deref())?;
        let mut current = self.current.lock().await;
        if let Some(token) = &*current
            && token.secret == secret
            && token.renewal.is_none_or(|renewal| Instant::now() < renewal)
        {
            return Ok(token.authorization.clone());
        }
        let fault = |fault: String| format!("oauth2 token_url {}: {fault}", self.config.token_url);
        let asked = Instant::now();
        // Servers should take both and some take one: the header is what the standard prefers.
        let answer = match self.ask(&secret, Style::Header).await.map_err(fault)? {
            Ok(answer) => answer,
            Err(_) => self.ask(&secret, Style::Form).await.map_err(fault)?.map_err(fault)?,
        };
        // As other clients do, whatever the case that the server writes it in.
        let kind = match answer.token_type.to_ascii_lowercase().as_str() {
            "" | "bearer" => "Bearer".into(),
            "mac" => "MAC".into(),
            "basic" => "Basic".into(),
            _ => answer.token_type,
        };
        let authorization = format!("{kind} {}", answer.access_token);
        let lifetime = answer.expires_in.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let renewal = lifetime.and_then(|lifetime| asked.checked_add(lifetime.saturating_sub(MARGIN)));
        *current = Some(Token { authorization: authorization.clone(), secret, renewal });
        Ok(authorization)
    }

    /// The inner error is the server's refusal.
    async fn ask(&self, secret: &str, style: Style) -> Result<Result<Answer, String>, String> {
        let mut form = vec![("grant_type", "client_credentials".to_string())];
        if !self.config.scopes.is_empty() {
            form.push(("scope", self.config.scopes.join(" ")));
        }
        form.extend(self.config.endpoint_params.iter().map(|(name, value)| (name.as_str(), value.clone())));
        if style == Style::Form {
            form.push(("client_id", self.config.client_id.clone()));
            form.push(("client_secret", secret.to_string()));
        }
        let mut request = self.client.request(Method::POST, &self.config.token_url)?.form(&form);
        if style == Style::Header {
            request = request.basic_auth(form_encoded(&self.config.client_id), Some(form_encoded(secret)));
        }
        let mut response = request.send().await.map_err(|error| chain(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| chain(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(format!("the answer is larger than {MAX_ANSWER_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        if status != StatusCode::OK {
            // The server's own words may repeat the secret.
            return Ok(Err(format!("server returned HTTP status {status}")));
        }
        let answer: Result<Answer, _> = serde_json::from_slice(&body);
        Ok(answer.map_err(|error| format!("the answer is no token: {error}")))
    }
}

/// As the standard wants the parts of the header (RFC 6749 §2.3.1).
fn form_encoded(text: &str) -> String {
    let Ok(mut url) = Url::parse("http://host") else { return String::new() };
    url.query_pairs_mut().append_key_only(text);
    url.query().unwrap_or_default().to_string()
}
