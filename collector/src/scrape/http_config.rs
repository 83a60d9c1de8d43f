//! How Prometheus' configuration says to reach a server: TLS, credentials, proxies and headers.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;

/// Text that must not show up in logs.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(in crate::scrape) struct Secret(pub(in crate::scrape) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::scrape) struct BasicAuth {
    pub(in crate::scrape) username: String,
    pub(in crate::scrape) username_file: Option<PathBuf>,
    pub(in crate::scrape) password: Secret,
    pub(in crate::scrape) password_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::scrape) struct Authorization {
    #[serde(rename = "type")]
    pub(in crate::scrape) kind: Option<String>,
    pub(in crate::scrape) credentials: Secret,
    pub(in crate::scrape) credentials_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::scrape) struct TlsConfig {
    pub(in crate::scrape) ca: Option<String>,
    pub(in crate::scrape) ca_file: Option<PathBuf>,
    pub(in crate::scrape) cert: Option<String>,
    pub(in crate::scrape) cert_file: Option<PathBuf>,
    pub(in crate::scrape) key: Option<Secret>,
    pub(in crate::scrape) key_file: Option<PathBuf>,
    pub(in crate::scrape) server_name: String,
    pub(in crate::scrape) insecure_skip_verify: bool,
    pub(in crate::scrape) min_version: Option<TlsVersion>,
    pub(in crate::scrape) max_version: Option<TlsVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(in crate::scrape) enum TlsVersion {
    #[serde(rename = "TLS10")]
    Tls10,
    #[serde(rename = "TLS11")]
    Tls11,
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::scrape) struct HeaderValues {
    pub(in crate::scrape) values: Vec<String>,
    pub(in crate::scrape) secrets: Vec<Secret>,
    pub(in crate::scrape) files: Vec<PathBuf>,
}

/// Tokens from a server of OAuth 2.0, by the grant of client credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::scrape) struct OAuth2 {
    pub(in crate::scrape) client_id: String,
    pub(in crate::scrape) client_secret: Secret,
    pub(in crate::scrape) client_secret_file: Option<PathBuf>,
    pub(in crate::scrape) scopes: Vec<String>,
    pub(in crate::scrape) token_url: String,
    pub(in crate::scrape) endpoint_params: BTreeMap<String, String>,
    pub(in crate::scrape) tls_config: TlsConfig,
    pub(in crate::scrape) proxy_url: Option<String>,
    pub(in crate::scrape) no_proxy: Option<String>,
    pub(in crate::scrape) proxy_from_environment: bool,
}

impl OAuth2 {
    /// How to reach the server of tokens.
    pub(in crate::scrape) fn http(&self) -> HttpConfig {
        HttpConfig {
            tls: self.tls_config.clone(),
            proxy_url: self.proxy_url.clone().filter(|url| !url.is_empty()),
            no_proxy: self.no_proxy.clone(),
            proxy_from_environment: self.proxy_from_environment,
            ..HttpConfig::prometheus_default()
        }
    }

    fn check(&mut self, base: &Path) -> Result<(), String> {
        if self.client_id.is_empty() {
            return Err("oauth2 client_id must be set".into());
        }
        if self.token_url.is_empty() {
            return Err("oauth2 token_url must be set".into());
        }
        reqwest::Url::parse(&self.token_url)
            .map_err(|error| format!("oauth2 token_url {:?}: {error}", self.token_url))?;
        if !self.client_secret.0.is_empty() && self.client_secret_file.is_some() {
            return Err("at most one of oauth2 client_secret and client_secret_file may be set".into());
        }
        join(&mut self.client_secret_file, base);
        self.tls_config = self.http().checked(base).map_err(|fault| format!("oauth2: {fault}"))?.tls;
        Ok(())
    }
}

/// Everything of it, with file paths made absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::scrape) struct HttpConfig {
    pub(in crate::scrape) basic_auth: Option<BasicAuth>,
    pub(in crate::scrape) authorization: Option<Authorization>,
    pub(in crate::scrape) oauth2: Option<Box<OAuth2>>,
    pub(in crate::scrape) tls: TlsConfig,
    pub(in crate::scrape) follow_redirects: bool,
    pub(in crate::scrape) http2: bool,
    pub(in crate::scrape) proxy_url: Option<String>,
    pub(in crate::scrape) no_proxy: Option<String>,
    pub(in crate::scrape) proxy_from_environment: bool,
    pub(in crate::scrape) headers: BTreeMap<String, HeaderValues>,
}

/// A configuration object that, as in Prometheus, has these keys beside its own. (serde cannot both flatten a struct
/// and refuse unknown keys.)
macro_rules! with_http_keys {
    ($(#[$attribute:meta])* struct $name:ident {
        $($(#[$field_attribute:meta])* $field:ident: $type:ty,)*
    }) => {
        $(#[$attribute])*
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(in crate::scrape) struct $name {
            $($(#[$field_attribute])* pub(in crate::scrape) $field: $type,)*
            basic_auth: Option<$crate::scrape::http_config::BasicAuth>,
            authorization: Option<$crate::scrape::http_config::Authorization>,
            oauth2: Option<Box<$crate::scrape::http_config::OAuth2>>,
            #[serde(default)]
            bearer_token: $crate::scrape::http_config::Secret,
            bearer_token_file: Option<std::path::PathBuf>,
            #[serde(default)]
            tls_config: $crate::scrape::http_config::TlsConfig,
            follow_redirects: Option<bool>,
            enable_http2: Option<bool>,
            proxy_url: Option<String>,
            no_proxy: Option<String>,
            #[serde(default)]
            proxy_from_environment: bool,
            #[serde(default)]
            http_headers: std::collections::BTreeMap<String, $crate::scrape::http_config::HeaderValues>,
        }

        impl $name {
            /// Takes the keys out; relative paths are relative to `base`.
            pub(in crate::scrape) fn take_http(
                &mut self,
                base: &std::path::Path,
            ) -> Result<$crate::scrape::http_config::HttpConfig, String> {
                let mut authorization = self.authorization.take();
                let bearer = std::mem::take(&mut self.bearer_token);
                let bearer_file = self.bearer_token_file.take();
                if !bearer.0.is_empty() || bearer_file.is_some() {
                    if authorization.is_some() {
                        return Err("at most one of authorization, bearer_token and bearer_token_file may be set".into());
                    }
                    authorization = Some($crate::scrape::http_config::Authorization {
                        kind: None,
                        credentials: bearer,
                        credentials_file: bearer_file,
                    });
                }
                $crate::scrape::http_config::HttpConfig {
                    basic_auth: self.basic_auth.take(),
                    authorization,
                    oauth2: self.oauth2.take(),
                    tls: std::mem::take(&mut self.tls_config),
                    follow_redirects: self.follow_redirects.unwrap_or(true),
                    http2: self.enable_http2.unwrap_or(true),
                    proxy_url: self.proxy_url.take().filter(|url| !url.is_empty()),
                    no_proxy: self.no_proxy.take(),
                    proxy_from_environment: self.proxy_from_environment,
                    headers: std::mem::take(&mut self.http_headers),
                }
                .checked(base)
            }
        }
    };
}
pub(in crate::scrape) use with_http_keys;

/// That Prometheus or the protocol sets itself.
const RESERVED_HEADERS: [&str; 20] = [
    "authorization",
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
    "accept-encoding",
    "accept",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "x-prometheus-scrape-timeout-seconds",
];

impl HttpConfig {
    /// Where nothing is said.
    pub(in crate::scrape) fn prometheus_default() -> HttpConfig {
        HttpConfig { follow_redirects: true, http2: true, ..HttpConfig::default() }
    }

    /// Prometheus' own checks (common/config, `HTTPClientConfig.Validate`).
    pub(in crate::scrape) fn checked(mut self, base: &Path) -> Result<HttpConfig, String> {
        let ways =
            [self.basic_auth.is_some(), self.authorization.is_some(), self.oauth2.is_some()].into_iter();
        if ways.filter(|is_set| *is_set).count() > 1 {
            return Err("at most one of basic_auth, authorization and oauth2 may be set".into());
        }
        if let Some(oauth2) = &mut self.oauth2 {
            oauth2.check(base)?;
        }
        if let Some(auth) = &mut self.basic_auth {
            if !auth.username.is_empty() && auth.username_file.is_some() {
                return Err("at most one of basic_auth username and username_file may be set".into());
            }
            if !auth.password.0.is_empty() && auth.password_file.is_some() {
                return Err("at most one of basic_auth password and password_file may be set".into());
            }
            join(&mut auth.username_file, base);
            join(&mut auth.password_file, base);
        }
        if let Some(auth) = &mut self.authorization {
            if !auth.credentials.0.is_empty() && auth.credentials_file.is_some() {
                return Err("at most one of authorization credentials and credentials_file may be set".into());
            }
            if auth.kind.as_deref().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("basic")) {
                return Err("authorization type cannot be \"basic\"; use basic_auth".into());
            }
            join(&mut auth.credentials_file, base);
        }
        let tls = &mut self.tls;
        for (text, file, name) in [
            (tls.ca.is_some(), &tls.ca_file, "ca"),
            (tls.cert.is_some(), &tls.cert_file, "cert"),
            (tls.key.is_some(), &tls.key_file, "key"),
        ] {
            if text && file.is_some() {
                return Err(format!("at most one of tls_config {name} and {name}_file may be set"));
            }
        }
        if (tls.cert.is_some() || tls.cert_file.is_some()) != (tls.key.is_some() || tls.key_file.is_some()) {
            return Err("tls_config needs both a client certificate and its key, or neither".into());
        }
        if let (Some(min), Some(max)) = (tls.min_version, tls.max_version)
            && min > max
        {
            return Err("tls_config min_version is above max_version".into());
        }
        if tls.max_version.is_some_and(|max| max < TlsVersion::Tls12) {
            return Err("tls_config max_version below TLS12 is not supported".into());
        }
        for file in [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file] {
            join(file, base);
        }
        if self.proxy_from_environment && (self.proxy_url.is_some() || self.no_proxy.is_some()) {
            return Err("proxy_from_environment excludes proxy_url and no_proxy".into());
        }
        if self.no_proxy.is_some() && self.proxy_url.is_none() {
            return Err("no_proxy needs proxy_url".into());
        }
        if let Some(url) = &self.proxy_url {
            reqwest::Proxy::all(url.as_str()).map_err(|_| format!("proxy_url {url:?} is no URL"))?;
        }
        for (name, values) in &mut self.headers {
            if RESERVED_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("setting header {name:?} is not allowed"));
            }
            if http::HeaderName::try_from(name.as_str()).is_err() {
                return Err(format!("http_headers: {name:?} is no header name"));
            }
            values.files.iter_mut().for_each(|file| *file = base.join(&*file));
        }
        Ok(self)
    }

    /// The files whose content a client is made of.
    pub(in crate::scrape) fn tls_files(&self) -> impl Iterator<Item = &Path> {
        [&self.tls.ca_file, &self.tls.cert_file, &self.tls.key_file].into_iter().filter_map(Option::as_deref)
    }
}

fn join(file: &mut Option<PathBuf>, base: &Path) {
    // An empty path is none.
    *file = file.take().filter(|file| !file.as_os_str().is_empty()).map(|file| base.join(file));
}
