//! Requests to targets and discovery servers, as the configuration says to make them.

use std::{net::SocketAddr, path::Path, time::SystemTime};

use parking_lot::Mutex;
use reqwest::{
    Client, Method, RequestBuilder, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header,
    redirect::Policy,
};

use super::{
    http_config::{HttpConfig, Secret, TlsVersion},
    oauth2::TokenSource,
};

/// A client for one server, or for many if `tls_config` names no server. Files of certificates are read again when
/// they change, so that rotated ones are used.
pub(super) struct HttpClient {
    config: HttpConfig,
    current: Mutex<Option<(Vec<Option<SystemTime>>, Client)>>,
    tokens: Option<Box<TokenSource>>,
}

impl HttpClient {
    pub(super) fn new(config: HttpConfig) -> HttpClient {
        let tokens = config.oauth2.as_deref().map(|oauth2| Box::new(TokenSource::new(oauth2.clone())));
        HttpClient { config, current: Mutex::default(), tokens }
    }

    /// A GET of `url` with all that the configuration adds; it may have to ask for a token first.
    pub(super) async fn get(&self, url: &str) -> Result<RequestBuilder, String> {
        self.authorized(Method::GET, url).await
    }

    pub(super) async fn authorized(&self, method: Method, url: &str) -> Result<RequestBuilder, String> {
        let request = self.request(method, url)?;
        Ok(match &self.tokens {
            Some(tokens) => request.header(header::AUTHORIZATION, tokens.authorization().await?),
            None => request,
        })
    }

    /// A request with all that the configuration adds but a token of OAuth 2.0.
    pub(super) fn request(&self, method: Method, url: &str) -> Result<RequestBuilder, String> {
        let mut url = Url::parse(url).map_err(|error| format!("{url}: {error}"))?;
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_string();
        let client = self.client(&host)?;
        let server_name = &self.config.tls.server_name;
        let mut own_host = None;
        if url.scheme() == "https" && !server_name.is_empty() {
            // The name in the URL is the one that TLS asks for; the connection goes where the URL pointed to.
            own_host = Some(match url.port() {
                Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
                None => url.host_str().unwrap_or_default().to_string(),
            });
            url.set_host(Some(server_name))
                .map_err(|error| format!("tls_config server_name {server_name:?}: {error}"))?;
        }
        let mut request = client.request(method, url);
        if let Some(host) = own_host {
            request = request.header(header::HOST, host);
        }
        if let Some(auth) = &self.config.basic_auth {
            let username = secret(&Secret(auth.username.clone()), auth.username_file.as_deref())?;
            let password = secret(&auth.password, auth.password_file.as_deref())?;
            request = request.basic_auth(username, Some(password));
        }
        if let Some(auth) = &self.config.authorization {
            let credentials = secret(&auth.credentials, auth.credentials_file.as_deref())?;
            let kind = auth.kind.as_deref().map(str::trim).filter(|kind| !kind.is_empty());
            request =
                request.header(header::AUTHORIZATION, format!("{} {credentials}", kind.unwrap_or("Bearer")));
        }
        for (name, values) in &self.config.headers {
            for value in values.values.iter().chain(values.secrets.iter().map(|secret| &secret.0)) {
                request = request.header(name, value);
            }
            for file in &values.files {
                request = request.header(name, read(file)?.trim());
            }
        }
        Ok(request)
    }

    fn client(&self, host: &str) -> Result<Client, String> {
        let written: Vec<Option<SystemTime>> = self
            .config
            .tls_files()
            .map(|file| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok())
            .collect();
        let mut current = self.current.lock();
        if let Some((known, client)) = &*current
            && *known == written
        {
            return Ok(client.clone());
        }
        let client = self.build(host)?;
        *current = Some((written, client.clone()));
        Ok(client)
    }

    fn build(&self, host: &str) -> Result<Client, String> {
        let HttpConfig { tls, .. } = &self.config;
        let mut builder = Client::builder()
            .user_agent(concat!("Pharos/", env!("CARGO_PKG_VERSION")))
            .redirect(if self.config.follow_redirects { Policy::limited(10) } else { Policy::none() })
            .danger_accept_invalid_certs(tls.insecure_skip_verify)
            // Asked for, and undone, by the scrape itself.
            .no_gzip();
        if !self.config.proxy_from_environment {
            builder = builder.no_proxy();
        }
        if let Some(url) = &self.config.proxy_url {
            let excepted = self.config.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
            let proxy =
                reqwest::Proxy::all(url.as_str()).map_err(|error| format!("proxy_url {url:?}: {error}"))?;
            builder = builder.proxy(proxy.no_proxy(excepted));
        }
        if !tls.server_name.is_empty() {
            builder = builder.dns_resolver(std::sync::Arc::new(Always(host.to_string()))).http1_only();
        } else if !self.config.http2 {
            builder = builder.http1_only();
        }
        builder = match tls.min_version {
            Some(TlsVersion::Tls13) => builder.min_tls_version(reqwest::tls::Version::TLS_1_3),
            // Older ones are not spoken at all.
            _ => builder.min_tls_version(reqwest::tls::Version::TLS_1_2),
        };
        if tls.max_version == Some(TlsVersion::Tls12) {
            builder = builder.max_tls_version(reqwest::tls::Version::TLS_1_2);
        }
        let text = |given: Option<&String>, file: Option<&Path>| match (given, file) {
            (Some(text), _) => Ok(Some(text.clone())),
            (None, Some(file)) => read(file).map(Some),
            (None, None) => Ok(None),
        };
        if let Some(pem) = text(tls.ca.as_ref(), tls.ca_file.as_deref())? {
            let certificates = reqwest::Certificate::from_pem_bundle(pem.as_bytes())
                .map_err(|error| format!("tls_config ca: {}", super::chain(&error)))?;
            builder = builder.tls_built_in_root_certs(false);
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let certificate = text(tls.cert.as_ref(), tls.cert_file.as_deref())?;
        let key = text(tls.key.as_ref().map(|key| &key.0), tls.key_file.as_deref())?;
        if let (Some(certificate), Some(key)) = (certificate, key) {
            let identity = reqwest::Identity::from_pem(format!("{certificate}\n{key}").as_bytes())
                .map_err(|error| format!("tls_config cert and key: {}", super::chain(&error)))?;
            builder = builder.identity(identity);
        }
        builder
            .build()
            .map_err(|error| format!("the HTTP client could not be made: {}", super::chain(&error)))
    }

    /// Whether every server needs a client of its own: connections are shared by name.
    pub(super) fn is_per_server(config: &HttpConfig) -> bool {
        !config.tls.server_name.is_empty()
    }
}

/// Whatever the name, the addresses of this host.
struct Always(String);

impl Resolve for Always {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((host.as_str(), 0)).await?.collect();
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

pub(super) fn secret(given: &Secret, file: Option<&Path>) -> Result<String, String> {
    match file {
        Some(file) => Ok(read(file)?.trim().to_string()),
        None => Ok(given.0.clone()),
    }
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}
