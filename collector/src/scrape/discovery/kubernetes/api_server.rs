//! Where the API server is, and how it knows us: told in the configuration, in a kubeconfig file, or by the pod that
//! Pharos runs in.

use std::path::{Path, PathBuf};

use base64::Engine;
use serde::Deserialize;

use crate::scrape::{
    http_client::HttpClient,
    http_config::{Authorization, BasicAuth, HttpConfig, Secret, TlsConfig},
};

/// What tells of the API server.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    At { url: String, http: Box<HttpConfig> },
    KubeConfig(PathBuf),
    InCluster,
}

pub(super) struct ApiServer {
    /// Without a slash at its end.
    pub(super) url: String,
    pub(super) client: HttpClient,
    /// Of the pod that Pharos runs in.
    pub(super) own_namespace: Option<String>,
}

/// Where Kubernetes puts a pod's identity.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

impl Place {
    pub(super) fn at(url: &str, http: HttpConfig) -> Result<Place, String> {
        let parsed = reqwest::Url::parse(url).map_err(|error| format!("api_server {url:?}: {error}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(format!("api_server {url:?}: the scheme must be http or https"));
        }
        Ok(Place::At { url: url.trim_end_matches('/').to_string(), http: Box::new(http) })
    }

    pub(super) fn connect(&self) -> Result<ApiServer, String> {
        match self {
            Place::At { url, http } => {
                let client = HttpClient::new(HttpConfig::clone(http));
                Ok(ApiServer { url: url.clone(), client, own_namespace: None })
            }
            Place::KubeConfig(path) => {
                let fault = |fault: String| format!("{}: {fault}", path.display());
                let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
                from_kubeconfig(&text, path.parent().unwrap_or(Path::new(""))).map_err(fault)
            }
            Place::InCluster => in_cluster(
                |name| std::env::var(name).ok().filter(|value| !value.is_empty()),
                Path::new(SERVICE_ACCOUNT),
            ),
        }
    }
}

/// The token is read at each request: Kubernetes renews it every hour or so.
pub(super) fn in_cluster(
    variable: impl Fn(&str) -> Option<String>,
    account: &Path,
) -> Result<ApiServer, String> {
    let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT"))
    else {
        return Err("not in a Kubernetes pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not \
                    set; give an api_server or a kubeconfig_file"
            .into());
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let http = HttpConfig {
        authorization: Some(Authorization {
            credentials_file: Some(account.join("token")),
            ..Authorization::default()
        }),
        tls: TlsConfig { ca_file: Some(account.join("ca.crt")), ..TlsConfig::default() },
        ..HttpConfig::prometheus_default()
    };
    let namespace = std::fs::read_to_string(account.join("namespace")).ok();
    Ok(ApiServer {
        url: format!("https://{host}:{port}"),
        client: HttpClient::new(http),
        own_namespace: namespace.map(|name| name.trim().to_string()).filter(|name| !name.is_empty()),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct KubeConfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterConfig,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterConfig {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    #[serde(default)]
    tls_server_name: String,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<Secret>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    password: Secret,
    exec: Option<serde::de::IgnoredAny>,
    auth_provider: Option<serde::de::IgnoredAny>,
}

/// Relative paths in it start at `base`.
pub(super) fn from_kubeconfig(text: &str, base: &Path) -> Result<ApiServer, String> {
    let config: KubeConfig = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let current = &config.current_context;
    let context = config.contexts.iter().find(|context| context.name == *current);
    let context = &context.ok_or_else(|| format!("there is no context {current:?}"))?.context;
    let cluster = config.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
    let cluster = cluster.ok_or_else(|| format!("there is no cluster {:?}", context.cluster))?.cluster;
    let user = match context.user.as_str() {
        "" => User::default(),
        name => {
            let user = config.users.into_iter().find(|user| user.name == name);
            user.ok_or_else(|| format!("there is no user {name:?}"))?.user
        }
    };
    if user.exec.is_some() || user.auth_provider.is_some() {
        return Err(format!(
            "user {:?} gets its credentials from a program, which is not supported: give a token or a certificate",
            context.user
        ));
    }
    let decoded = |name: &str, data: Option<String>| -> Result<Option<String>, String> {
        let Some(data) = data else { return Ok(None) };
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data.trim())
            .map_err(|error| format!("{name}: {error}"))?;
        String::from_utf8(bytes).map(Some).map_err(|_| format!("{name} is no PEM text"))
    };
    // What is given in place comes before a file, as in kubectl.
    let ca = decoded("certificate-authority-data", cluster.certificate_authority_data)?;
    let cert = decoded("client-certificate-data", user.client_certificate_data)?;
    let key = decoded("client-key-data", user.client_key_data)?;
    let tls = TlsConfig {
        ca_file: cluster.certificate_authority.filter(|_| ca.is_none()),
        ca,
        cert_file: user.client_certificate.filter(|_| cert.is_none()),
        cert,
        key_file: user.client_key.filter(|_| key.is_none()),
        key: key.map(Secret),
        server_name: cluster.tls_server_name,
        insecure_skip_verify: cluster.insecure_skip_tls_verify,
        ..TlsConfig::default()
    };
    let has_token = user.token.is_some() || user.token_file.is_some();
    let authorization = has_token.then(|| Authorization {
        credentials: user.token.filter(|_| user.token_file.is_none()).unwrap_or_default(),
        credentials_file: user.token_file,
        ..Authorization::default()
    });
    let basic_auth = user.username.filter(|_| authorization.is_none()).map(|username| BasicAuth {
        username,
        password: user.password,
        ..BasicAuth::default()
    });
    let http = HttpConfig {
        basic_auth,
        authorization,
        tls,
        proxy_url: cluster.proxy_url,
        ..HttpConfig::prometheus_default()
    };
    let Place::At { url, http } = Place::at(&cluster.server, http.checked(base)?)? else {
        return Err("no server".into());
    };
    Ok(ApiServer { url, client: HttpClient::new(*http), own_namespace: None })
}
