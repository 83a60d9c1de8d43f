//! Query strings and form bodies, with repeated names and the error texts that say which parameter was wrong.

/// The most pairs one request may carry.
const MAX_PAIRS: usize = 1_000;

/// A parameter that can't be used as it was sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct ParamError {
    pub name: String,
    pub message: String,
}

impl ParamError {
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> ParamError {
        ParamError { name: name.into(), message: message.into() }
    }
}

/// The parameters of a request in the order in which they were sent.
#[derive(Clone, Debug, Default)]
pub struct Params {
    pairs: Vec<(String, String)>,
}

impl Params {
    /// From `a=1&b=2`; what is no valid percent-encoding is taken as it stands.
    pub fn parse(encoded: &str) -> Params {
        let pairs = form_urlencoded::parse(encoded.as_bytes()).take(MAX_PAIRS);
        Params { pairs: pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect() }
    }

    /// A form body joined with the query string; the body goes first, as in Prometheus.
    pub fn parse_form(body: &str, query: Option<&str>) -> Params {
        let mut params = Params::parse(body);
        params.pairs.extend(Params::parse(query.unwrap_or("")).pairs);
        params
    }

    /// The first value. A parameter that is there but empty gives `Some("")`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The first value that isn't empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(known, value)| known == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// The first of several spellings that is there and not empty.
    pub fn first_of(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.text(name))
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn bool(&self, name: &str, default: bool) -> Result<bool, ParamError> {
        match self.text(name) {
            None => Ok(default),
            Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(ParamError::new(name, format!("{other:?} is neither true nor false"))),
        }
    }

    pub fn i64(&self, name: &str) -> Result<Option<i64>, ParamError> {
        self.text(name)
            .map(|text| {
                text.parse().map_err(|_| ParamError::new(name, format!("{text:?} is no whole number")))
            })
            .transpose()
    }

    /// A whole number from 1 to `max`.
    pub fn limit(&self, name: &str, default: usize, max: usize) -> Result<usize, ParamError> {
        match self.i64(name)? {
            None => Ok(default.min(max)),
            Some(number) => match usize::try_from(number) {
                Ok(number) if (1..=max).contains(&number) => Ok(number),
                _ => Err(ParamError::new(name, format!("{number} is not between 1 and {max}"))),
            },
        }
    }
}
