use std::fmt;

use regex::Regex;
use regex_syntax::hir::literal::Extractor;

use crate::Labels;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `=~`, fully anchored
    Regex,
    /// `!~`, fully anchored
    NotRegex,
}

impl MatchOp {
    pub fn symbol(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A condition on one label, ready to be tested. An absent label has the value `""`. Regular expressions are RE2's as
/// Prometheus takes them: anchored at both ends, with a dot that matches line breaks too.
#[derive(Clone, Debug)]
pub struct Matcher {
    name: String,
    op: MatchOp,
    value: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Literal,
    /// `.*`
    Anything,
    /// `.+`
    NotEmpty,
    /// An expression that only these match, sorted: `a|b|c`, `50[034]`. Dashboards list hundreds.
    OneOf(Vec<String>),
    Regex(Regex),
}

/// The fault of a regular expression, in Prometheus' words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{part}`")]
pub struct RegexError {
    reason: String,
    /// Of the expression.
    part: String,
}

impl Matcher {
    pub fn new(
        name: impl Into<String>,
        op: MatchOp,
        value: impl Into<String>,
    ) -> Result<Matcher, RegexError> {
        let value = value.into();
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => Test::of_pattern(&value)?,
        };
        Ok(Matcher { name: name.into(), op, value, test })
    }

    /// `name="value"`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { name: name.into(), op: MatchOp::Equal, value: value.into(), test: Test::Literal }
    }

    /// `name=~"a|b"`, of texts.
    pub fn one_of<V: AsRef<str>>(name: impl Into<String>, values: impl IntoIterator<Item = V>) -> Matcher {
        let mut values: Vec<String> = values.into_iter().map(|value| value.as_ref().to_owned()).collect();
        values.sort_unstable();
        values.dedup();
        let pattern: Vec<String> = values.iter().map(|value| regex::escape(value)).collect();
        let (op, test) = (MatchOp::Regex, Test::OneOf(values));
        Matcher { name: name.into(), op, value: pattern.join("|"), test }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn op(&self) -> MatchOp {
        self.op
    }

    pub fn value(&self) -> &str {
        &self.value
    }

    pub fn matches(&self, value: &str) -> bool {
        let positive = match &self.test {
            Test::Literal => value == self.value,
            Test::Anything => true,
            Test::NotEmpty => !value.is_empty(),
            Test::OneOf(values) => values.binary_search_by(|one| one.as_str().cmp(value)).is_ok(),
            Test::Regex(regex) => regex.is_match(value),
        };
        positive == matches!(self.op, MatchOp::Equal | MatchOp::Regex)
    }

    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.name))
    }

    /// The values that alone can match, where the condition names them: `=` and `=~"a|b"`.
    pub fn exact_values(&self) -> Option<Vec<&str>> {
        match (self.op, &self.test) {
            (MatchOp::Equal, _) => Some(vec![&self.value]),
            (MatchOp::Regex, Test::OneOf(values)) => Some(values.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.symbol(), self.value)
    }
}

impl Test {
    fn of_pattern(pattern: &str) -> Result<Test, RegexError> {
        match pattern {
            ".*" => Ok(Test::Anything),
            ".+" => Ok(Test::NotEmpty),
            _ => match only_matches(pattern) {
                Some(values) => Ok(Test::OneOf(values)),
                None => anchored_regex(pattern).map(Test::Regex),
            },
        }
    }
}

/// The texts that match the pattern as a whole, sorted, if they are few enough to be listed.
fn only_matches(pattern: &str) -> Option<Vec<String>> {
    let parsed = regex_syntax::parse(pattern).ok()?;
    // `a^b` matches nothing, of which the texts alone say nothing.
    if !parsed.properties().look_set().is_empty() {
        return None;
    }
    let found = Extractor::new().limit_literal_len(1_000).limit_total(1_000).extract(&parsed);
    let literals = found.literals().filter(|_| found.is_exact())?;
    let texts = literals.iter().map(|literal| String::from_utf8(literal.as_bytes().to_vec()).ok());
    let mut texts: Vec<String> = texts.collect::<Option<_>>()?;
    texts.sort_unstable();
    texts.dedup();
    Some(texts)
}

/// Compiles an RE2 pattern as Prometheus does: anchored at both ends, `.` matches line breaks.
pub fn anchored_regex(pattern: &str) -> Result<Regex, RegexError> {
    // On its own first, so that `a)(b` does not close the anchoring group.
    let escaped;
    let pattern = match regex_syntax::parse(pattern) {
        Ok(_) => pattern,
        Err(error) => {
            escaped = escape_lone_braces(pattern);
            regex_syntax::parse(&escaped).map_err(|_| explain(pattern, &error))?;
            &escaped
        }
    };
    let too_large = |error: regex::Error| RegexError { reason: error.to_string(), part: pattern.to_owned() };
    Regex::new(&format!("^(?s:{pattern})$")).map_err(too_large)
}

fn explain(pattern: &str, error: &regex_syntax::Error) -> RegexError {
    use regex_syntax::{ast, hir};
    let part = |from: usize, to: usize| pattern.get(from..to).unwrap_or(pattern);
    let all = pattern.len();
    let (reason, part) = match error {
        regex_syntax::Error::Parse(error) => {
            let (from, to) = (error.span().start.offset, error.span().end.offset);
            match error.kind() {
                ast::ErrorKind::GroupUnclosed => ("missing closing )", pattern),
                ast::ErrorKind::GroupUnopened => ("unexpected )", pattern),
                ast::ErrorKind::ClassUnclosed => ("missing closing ]", part(from, all)),
                ast::ErrorKind::ClassRangeInvalid => ("invalid character class range", part(from, to)),
                ast::ErrorKind::RepetitionMissing => {
                    ("missing argument to repetition operator", part(from, from + 1))
                }
                ast::ErrorKind::RepetitionCountInvalid => ("invalid repeat count", part(from, to)),
                ast::ErrorKind::EscapeUnexpectedEof => ("trailing backslash at end of expression", ""),
                ast::ErrorKind::EscapeUnrecognized | ast::ErrorKind::UnsupportedBackreference => {
                    ("invalid escape sequence", part(from, to))
                }
                ast::ErrorKind::FlagUnrecognized | ast::ErrorKind::UnsupportedLookAround => {
                    let group = part(0, to).rfind("(?").unwrap_or(from);
                    ("invalid or unsupported Perl syntax", part(group, to))
                }
                kind => return RegexError { reason: kind.to_string(), part: pattern.to_owned() },
            }
        }
        regex_syntax::Error::Translate(error) => {
            let span = error.span();
            let part = part(span.start.offset, span.end.offset);
            match error.kind() {
                hir::ErrorKind::UnicodePropertyNotFound => ("invalid character class range", part),
                kind => return RegexError { reason: kind.to_string(), part: part.to_owned() },
            }
        }
        error => return RegexError { reason: error.to_string(), part: pattern.to_owned() },
    };
    RegexError { reason: reason.to_owned(), part: part.to_owned() }
}

/// RE2 takes a `{` that starts no repetition as itself.
fn escape_lone_braces(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 4);
    let mut chars = pattern.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                out.push(c);
                out.extend(chars.next().map(|(_, escaped)| escaped));
            }
            '{' if !starts_repetition(pattern.get(at + 1..).unwrap_or_default()) => out.push_str("\\{"),
            _ => out.push(c),
        }
    }
    out
}

fn starts_repetition(tail: &str) -> bool {
    let Some((counts, _)) = tail.split_once('}') else { return false };
    let (least, most) = counts.split_once(',').unwrap_or((counts, ""));
    !least.is_empty() && least.bytes().chain(most.bytes()).all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regexes_are_anchored_and_the_dot_matches_newlines() {
        for (op, pattern, value, matches) in [
            (MatchOp::Regex, "a|b", "a", true),
            (MatchOp::Regex, "a|b", "ab", false),
            (MatchOp::Regex, "foo|ba.", "xfoo", false),
            (MatchOp::Regex, "foo|ba.", "baz", true),
            (MatchOp::Regex, "a.b", "a\nb", true),
            (MatchOp::Regex, "50[034]|a\\.b", "a.b", true),
            (MatchOp::Regex, "50[034]|a\\.b", "axb", false),
            (MatchOp::Regex, "50[034]", "503", true),
            (MatchOp::Regex, "(?i)ab", "Ab", true),
            (MatchOp::Regex, "(a|b)?c{2}", "cc", true),
            (MatchOp::Regex, "a*", "aaaaaaaaaaaa", true),
            (MatchOp::Regex, "a^b", "ab", false),
            (MatchOp::Regex, "\\bab\\b", "ab", true),
            (MatchOp::Regex, ".*", "", true),
            (MatchOp::Regex, ".+", "", false),
            (MatchOp::NotRegex, ".+", "", true),
            (MatchOp::NotRegex, "5..", "503", false),
            (MatchOp::Regex, "", "", true),
            (MatchOp::NotEqual, "unknown", "", true),
            (MatchOp::Regex, "^[4-5]\\d\\d$", "503", true),
            (MatchOp::Regex, "a{b", "a{b", true),
        ] {
            let matcher = Matcher::new("l", op, pattern).expect(pattern);
            assert_eq!(matcher.matches(value), matches, "{matcher} on {value:?}");
        }
        assert!(Matcher::new("l", MatchOp::Regex, "a)(b").is_err());
    }

    #[test]
    fn faults_of_expressions_are_told_in_the_words_of_prometheus() {
        for (pattern, fault) in [
            ("(", "missing closing ): `(`"),
            ("a)b", "unexpected ): `a)b`"),
            ("a[b", "missing closing ]: `[b`"),
            ("*x", "missing argument to repetition operator: `*`"),
            ("a{2,1}", "invalid repeat count: `{2,1}`"),
            ("\\8", "invalid escape sequence: `\\8`"),
            ("[z-a]", "invalid character class range: `z-a`"),
            ("a(?=b)", "invalid or unsupported Perl syntax: `(?=`"),
            ("(?z)", "invalid or unsupported Perl syntax: `(?z`"),
            ("a\\", "trailing backslash at end of expression: ``"),
            ("\\p{Foo}", "invalid character class range: `\\p{Foo}`"),
        ] {
            let error = Matcher::new("l", MatchOp::Regex, pattern).unwrap_err().to_string();
            assert_eq!(error, format!("error parsing regexp: {fault}"));
        }
    }

    #[test]
    fn few_texts_that_match_are_known() {
        let values = |pattern: &str| {
            let matcher = Matcher::new("l", MatchOp::Regex, pattern).expect(pattern);
            matcher.exact_values().map(|values| values.join(" "))
        };
        for (pattern, expected) in [
            ("waypoint|destination", Some("destination waypoint")),
            ("5(00|03)", Some("500 503")),
            ("a\\.b", Some("a.b")),
            ("", Some("")),
            ("5..", None),
            ("a+", None),
            ("^a$", None),
        ] {
            assert_eq!(values(pattern).as_deref(), expected, "{pattern}");
        }
    }
}
