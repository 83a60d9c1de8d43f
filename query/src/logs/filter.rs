//! The filter language of the log and trace pages.
//!
//! Terms are separated by spaces and all must hold. A term is `key:value`, `key>number` (also `>=`, `<`, `<=`),
//! or a bare word that must occur in the path, the authority or the user agent. `-` before a term negates it, `*`
//! in a value stands for any text, and double quotes keep spaces together. Comparison of text ignores case.

use pharos_model::TraceId;

/// Longer filters are refused.
const MAX_FILTER_BYTES: usize = 4096;
const MAX_TERMS: usize = 64;

/// Why a filter can't be read. The message is meant for the person who typed it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("unknown filter key {key:?}; known keys are {}", Key::names())]
    UnknownKey { key: String },
    #[error("the key {key:?} takes text, so it can't be compared with `{operator}`; write `{key}:value`")]
    NotANumber { key: &'static str, operator: &'static str },
    #[error("{value:?} is no {wanted} (in `{key}`)")]
    BadValue { key: &'static str, value: String, wanted: &'static str },
    #[error("the term `{term}` has no value")]
    NoValue { term: String },
    #[error("a double quote is opened and never closed")]
    OpenQuote,
    #[error("the filter is longer than {MAX_FILTER_BYTES} bytes or has more than {MAX_TERMS} terms")]
    TooLong,
}

macro_rules! keys {
    ($($name:literal => $variant:ident),* $(,)?) => {
        /// What a term can be about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Key { $($variant),* }

        impl Key {
            const ALL: &[(&str, Key)] = &[$(($name, Key::$variant)),*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Key::$variant => $name),* }
            }
        }
    };
}

keys! {
    "service" => Service,
    "source" => Source,
    "dest" => Destination,
    "ns" => Namespace,
    "status" => Status,
    "flag" => Flag,
    "method" => Method,
    "path" => Path,
    "host" => Host,
    "dur" => Duration,
    "reporter" => Reporter,
    "trace" => Trace,
    "request" => Request,
    "route" => Route,
    "cluster" => Cluster,
    "version" => Version,
}

impl Key {
    fn names() -> String {
        Key::ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

/// One request as the filter sees it. Absent text is empty.
pub(crate) trait FilterRow {
    /// Every text the key stands for; more than one where a key covers both ends of the request.
    fn texts(&self, key: Key) -> [&str; 2];
    fn status(&self) -> u16;
    fn duration_us(&self) -> i64;
    /// Whether the condition holds for any of the response flags' short names.
    fn has_flag(&self, is_it: &dyn Fn(&str) -> bool) -> bool;
    fn trace_id(&self) -> Option<TraceId>;
    /// What a bare word is looked for in: path, authority, user agent.
    fn free_text(&self) -> [&str; 3];
}

/// A filter that was read. The empty filter accepts everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq)]
struct Term {
    negated: bool,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text(Key, Pattern),
    Flag(Pattern),
    NoFlag,
    StatusClass(u16),
    Status(Comparison, u16),
    DurationUs(Comparison, i64),
    Trace(TraceId),
    /// Lower-case text that has to occur somewhere.
    Word(String),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Comparison {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn holds<T: PartialOrd>(self, left: T, right: T) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => ":",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}

/// Text with `*` for any run of characters, compared without case and over the whole of it.
#[derive(Clone, Debug, PartialEq)]
struct Pattern(Vec<String>);

impl Pattern {
    fn new(text: &str) -> Pattern {
        Pattern(text.to_lowercase().split('*').map(str::to_string).collect())
    }

    fn matches(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        let Some((first, rest)) = self.0.split_first() else { return text.is_empty() };
        let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return left.is_empty() };
        for part in middle {
            match left.find(part.as_str()) {
                Some(at) => left = left.get(at + part.len()..).unwrap_or(""),
                None => return false,
            }
        }
        left.len() >= last.len() && left.ends_with(last.as_str())
    }
}

impl Filter {
    pub(crate) fn parse(text: &str) -> Result<Filter, FilterError> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(FilterError::TooLong);
        }
        let words = split_words(text)?;
        if words.len() > MAX_TERMS {
            return Err(FilterError::TooLong);
        }
        let terms = words.into_iter().map(Term::parse).collect::<Result<_, _>>()?;
        Ok(Filter { terms })
    }

    pub(crate) fn accepts(&self, row: &impl FilterRow) -> bool {
        self.terms.iter().all(|term| term.test.holds(row) != term.negated)
    }

    /// The trace the filter is limited to, so that a store can look it up instead of scanning.
    pub(crate) fn only_trace(&self) -> Option<TraceId> {
        self.terms.iter().find_map(|term| match (&term.test, term.negated) {
            (Test::Trace(id), false) => Some(*id),
            _ => None,
        })
    }
}

/// A word of the filter: its text, and where it was quoted from, so that a quoted colon separates nothing.
struct Word {
    text: String,
    /// Byte index in `text` of the first quoted character.
    quoted_from: usize,
}

fn split_words(text: &str) -> Result<Vec<Word>, FilterError> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|ch| ch.is_whitespace()).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        let (mut word, mut quoted_from, mut in_quotes) = (String::new(), usize::MAX, false);
        while let Some(ch) = chars.next_if(|ch| in_quotes || !ch.is_whitespace()) {
            if ch == '"' {
                in_quotes = !in_quotes;
                quoted_from = quoted_from.min(word.len());
            } else {
                word.push(ch);
            }
        }
        if in_quotes {
            return Err(FilterError::OpenQuote);
        }
        words.push(Word { text: word, quoted_from });
    }
}

impl Term {
    fn parse(word: Word) -> Result<Term, FilterError> {
        let (negated, text, quoted_from) = match word.text.strip_prefix('-') {
            Some(rest) if !rest.is_empty() && word.quoted_from > 0 => {
                (true, rest, word.quoted_from.saturating_sub(1))
            }
            _ => (false, word.text.as_str(), word.quoted_from),
        };
        let separator = text.find([':', '<', '>']).filter(|at| *at < quoted_from && *at > 0);
        let Some(at) = separator else {
            if text.is_empty() {
                return Err(FilterError::NoValue { term: word.text.clone() });
            }
            return Ok(Term { negated, test: Test::Word(text.to_lowercase()) });
        };
        let (key, rest) = text.split_at(at);
        let (comparison, value) = if let Some(value) = rest.strip_prefix(">=") {
            (Comparison::GreaterOrEqual, value)
        } else if let Some(value) = rest.strip_prefix("<=") {
            (Comparison::LessOrEqual, value)
        } else if let Some(value) = rest.strip_prefix('>') {
            (Comparison::Greater, value)
        } else if let Some(value) = rest.strip_prefix('<') {
            (Comparison::Less, value)
        } else {
            (Comparison::Equal, rest.strip_prefix(':').unwrap_or(rest))
        };
        let key = Key::ALL
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, key)| *key)
            .ok_or_else(|| FilterError::UnknownKey { key: key.chars().take(60).collect() })?;
        if value.is_empty() {
            return Err(FilterError::NoValue { term: text.to_string() });
        }
        Ok(Term { negated, test: Test::parse(key, comparison, value)? })
    }
}

impl Test {
    fn parse(key: Key, comparison: Comparison, value: &str) -> Result<Test, FilterError> {
        let bad = |wanted| FilterError::BadValue { key: key.name(), value: value.to_string(), wanted };
        match key {
            Key::Duration => Ok(Test::DurationUs(
                comparison,
                parse_duration_us(value).ok_or_else(|| bad("duration such as 250ms, 1.5s or 40us"))?,
            )),
            Key::Status => {
                let class = value.strip_suffix("xx").or_else(|| value.strip_suffix("XX"));
                match class
                    .and_then(|digit| digit.parse::<u16>().ok())
                    .filter(|digit| (1..=5).contains(digit))
                {
                    Some(digit) if comparison == Comparison::Equal => Ok(Test::StatusClass(digit)),
                    Some(_) => Err(bad("status number")),
                    None => Ok(Test::Status(
                        comparison,
                        value.parse().map_err(|_| bad("status such as 503 or 5xx"))?,
                    )),
                }
            }
            _ if comparison != Comparison::Equal => {
                Err(FilterError::NotANumber { key: key.name(), operator: comparison.symbol() })
            }
            Key::Flag if value == "-" || value.eq_ignore_ascii_case("none") => Ok(Test::NoFlag),
            Key::Flag => Ok(Test::Flag(Pattern::new(value))),
            Key::Trace => value.parse().map(Test::Trace).map_err(|_| bad("trace id of 1 to 32 hex digits")),
            _ => Ok(Test::Text(key, Pattern::new(value))),
        }
    }

    fn holds(&self, row: &impl FilterRow) -> bool {
        match self {
            Test::Text(Key::Service, pattern) => {
                // `reviews`, `reviews.bookinfo` and the whole host all name the service.
                row.texts(Key::Service).iter().any(|host| {
                    let host = host.split(':').next().unwrap_or("");
                    pattern.matches(host)
                        || host
                            .match_indices('.')
                            .take(2)
                            .any(|(at, _)| host.get(..at).is_some_and(|short| pattern.matches(short)))
                })
            }
            Test::Text(Key::Path, pattern) => row.texts(Key::Path).iter().any(|path| {
                !path.is_empty()
                    && (pattern.matches(path)
                        || path.split_once('?').is_some_and(|(bare, _)| pattern.matches(bare)))
            }),
            Test::Text(key, pattern) => {
                row.texts(*key).iter().any(|text| !text.is_empty() && pattern.matches(text))
            }
            Test::Flag(pattern) => row.has_flag(&|flag| pattern.matches(flag)),
            Test::NoFlag => !row.has_flag(&|_| true),
            Test::StatusClass(class) => row.status() / 100 == *class,
            Test::Status(comparison, status) => comparison.holds(row.status(), *status),
            Test::DurationUs(comparison, duration) => comparison.holds(row.duration_us(), *duration),
            Test::Trace(id) => row.trace_id() == Some(*id),
            Test::Word(word) => row.free_text().iter().any(|text| text.to_lowercase().contains(word)),
        }
    }
}

/// A number with `us`, `ms`, `s` or `m`; without a unit milliseconds are meant.
fn parse_duration_us(text: &str) -> Option<i64> {
    let digits = text.trim_end_matches(|ch: char| ch.is_alphabetic() || ch == 'µ');
    let unit_us = match text.get(digits.len()..)? {
        "us" | "µs" | "μs" => 1.0,
        "" | "ms" => 1e3,
        "s" => 1e6,
        "m" => 6e7,
        _ => return None,
    };
    let number: f64 = digits.parse().ok()?;
    let micros = number * unit_us;
    (number >= 0.0 && micros.is_finite() && micros < 9e15).then_some(micros as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Request;

    impl FilterRow for Request {
        fn texts(&self, key: Key) -> [&str; 2] {
            match key {
                Key::Service => ["reviews.bookinfo.svc.cluster.local:9080", ""],
                Key::Source => ["productpage-v1", ""],
                Key::Destination => ["reviews-v3", ""],
                Key::Namespace => ["bookinfo", "istio-system"],
                Key::Method => ["GET", ""],
                Key::Path => ["/reviews/0?full=1", ""],
                Key::Host => ["reviews:9080", ""],
                Key::Reporter => ["source", ""],
                Key::Request => ["af3b-9", ""],
                Key::Version => ["v1", "v3"],
                _ => ["", ""],
            }
        }
        fn status(&self) -> u16 {
            503
        }
        fn duration_us(&self) -> i64 {
            251_000
        }
        fn has_flag(&self, is_it: &dyn Fn(&str) -> bool) -> bool {
            ["DI", "FI"].into_iter().any(is_it)
        }
        fn trace_id(&self) -> Option<TraceId> {
            "abc".parse().ok()
        }
        fn free_text(&self) -> [&str; 3] {
            ["/reviews/0?full=1", "reviews:9080", "Mozilla/5.0 (X11; Linux)"]
        }
    }

    #[test]
    fn terms_are_anded_and_compare_as_their_key_says() {
        let check = |filter: &str, accepted: bool| {
            let parsed = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
            assert_eq!(parsed.accepts(&Request), accepted, "{filter}");
        };
        check("", true);
        check("service:reviews", true);
        check("service:reviews.bookinfo", true);
        check("service:REVIEWS.bookinfo.svc.cluster.local", true);
        check("service:review", false);
        check("service:rev*", true);
        check("source:productpage-* dest:reviews-v3", true);
        check("source:productpage-* dest:reviews-v1", false);
        check("-dest:reviews-v1", true);
        check("ns:istio-system", true);
        check("status:5xx", true);
        check("status:4xx", false);
        check("status>=500 status<504", true);
        check("-status:503", false);
        check("flag:FI", true);
        check("flag:f*", true);
        check("flag:none", false);
        check("-flag:-", true);
        check("dur>250ms", true);
        check("dur>0.3s", false);
        check("dur<=251", true);
        check("path:/reviews/0", true);
        check("path:/reviews/*", true);
        check("path:/ratings*", false);
        check("trace:0abc", true);
        check("trace:abd", false);
        check("request:AF3B-9", true);
        check("version:v3", true);
        check("mozilla", true);
        check("\"(x11; linux)\"", true);
        check("-curl reviews", true);
        check("\"reviews:9080\"", true);
        check("route:*", false);
        check("method:G*T", true);
        check("method:GE*ET", false);
    }

    #[test]
    fn a_fault_is_named() {
        let check = |filter: &str, message: &str| {
            let error = Filter::parse(filter).expect_err(filter).to_string();
            assert!(error.contains(message), "{filter}: {error}");
        };
        check("colour:red", "unknown filter key \"colour\"");
        check("method>5", "takes text");
        check("dur>fast", "\"fast\" is no duration");
        check("dur>5parsecs", "is no duration");
        check("status:abc", "503 or 5xx");
        check("status>5xx", "status number");
        check("status:", "no value");
        check("\"open", "never closed");
        check("trace:xyz", "trace id");
        check(&"a ".repeat(100), "more than 64 terms");
    }

    #[test]
    fn a_lookup_by_id_is_recognised() {
        let filter = Filter::parse("status:200 trace:ff request:R-1").expect("valid");
        assert_eq!(filter.only_trace(), "ff".parse().ok());
        assert_eq!(Filter::parse("-trace:ff request:r*").expect("valid").only_trace(), None);
    }
}
