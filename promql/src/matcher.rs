//! Conditions on labels, ready to run.

use pharos_model::{LabelMatcher, Labels, MatchOp};

use crate::text::{is_plain_label_name, quote};

/// A label condition with its regular expression compiled. Expressions are those of RE2: anchored at both
/// ends, with a dot that matches newlines too. An absent label has the empty value.
#[derive(Debug, Clone)]
pub struct Matcher {
    condition: LabelMatcher,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Literal,
    /// `.*`
    Anything,
    /// `.+`
    NotEmpty,
    /// `a|b|c`, sorted: dashboards list hundreds.
    OneOf(Vec<String>),
    Regex(regex::Regex),
}

impl Matcher {
    /// Fails with the regular expression's fault.
    pub fn new(condition: LabelMatcher) -> Result<Matcher, String> {
        let test = match condition.op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literal,
            MatchOp::Regex | MatchOp::NotRegex => compile(&condition.value)?,
        };
        Ok(Matcher { condition, test })
    }

    /// `name="value"`
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Matcher {
        Matcher { condition: LabelMatcher::equal(name, value), test: Test::Literal }
    }

    pub fn name(&self) -> &str {
        &self.condition.name
    }

    pub fn op(&self) -> MatchOp {
        self.condition.op
    }

    pub fn value(&self) -> &str {
        &self.condition.value
    }

    /// The condition as written, for stores that compile it themselves.
    pub fn condition(&self) -> &LabelMatcher {
        &self.condition
    }

    pub fn matches(&self, value: &str) -> bool {
        let positive = match &self.test {
            Test::Literal => value == self.condition.value,
            Test::Anything => true,
            Test::NotEmpty => !value.is_empty(),
            Test::OneOf(values) => values.binary_search_by(|one| one.as_str().cmp(value)).is_ok(),
            Test::Regex(regex) => regex.is_match(value),
        };
        positive == matches!(self.condition.op, MatchOp::Equal | MatchOp::Regex)
    }

    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(labels.get(&self.condition.name))
    }

    /// The values that alone can match, where the condition names them: `=` and `=~"a|b"`.
    pub fn exact_values(&self) -> Option<Vec<&str>> {
        match (self.condition.op, &self.test) {
            (MatchOp::Equal, _) => Some(vec![&self.condition.value]),
            (MatchOp::Regex, Test::OneOf(values)) => Some(values.iter().map(String::as_str).collect()),
            _ => None,
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Matcher) -> bool {
        self.condition == other.condition
    }
}

impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name();
        let value = quote(self.value());
        if is_plain_label_name(name) {
            write!(f, "{name}{}{value}", self.op().symbol())
        } else {
            write!(f, "{}{}{value}", quote(name), self.op().symbol())
        }
    }
}

fn compile(pattern: &str) -> Result<Test, String> {
    match pattern {
        ".*" => return Ok(Test::Anything),
        ".+" => return Ok(Test::NotEmpty),
        _ => {}
    }
    let literal = |part: &str| !part.contains(|c| r"\.+*?()[]{}^$".contains(c));
    if pattern.split('|').all(literal) {
        let mut values: Vec<String> = pattern.split('|').map(str::to_owned).collect();
        values.sort();
        values.dedup();
        return Ok(Test::OneOf(values));
    }
    anchored_regex(pattern).map(Test::Regex)
}

/// Compiles an RE2 pattern as Prometheus does: anchored at both ends, `.` matches newlines.
pub(crate) fn anchored_regex(pattern: &str) -> Result<regex::Regex, String> {
    let build = |pattern: &str| {
        // On its own first, so that `a)(b` does not close the anchoring group.
        regex::Regex::new(&format!("(?s){pattern}"))?;
        regex::Regex::new(&format!("^(?s:{pattern})$"))
    };
    build(pattern).or_else(|error| build(&escape_lone_braces(pattern)).map_err(|_| explain(pattern, &error)))
}

fn explain(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
    format!("error parsing regexp: {reason}: `{pattern}`")
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
            (MatchOp::Regex, ".*", "", true),
            (MatchOp::Regex, ".+", "", false),
            (MatchOp::NotRegex, ".+", "", true),
            (MatchOp::NotRegex, "5..", "503", false),
            (MatchOp::Regex, "", "", true),
            (MatchOp::NotEqual, "unknown", "", true),
            (MatchOp::Regex, "^[4-5]\\d\\d$", "503", true),
            (MatchOp::Regex, "a{b", "a{b", true),
        ] {
            let matcher = Matcher::new(LabelMatcher::new("l", op, pattern)).expect(pattern);
            assert_eq!(matcher.matches(value), matches, "{matcher} on {value:?}");
        }
        assert!(Matcher::new(LabelMatcher::new("l", MatchOp::Regex, "a)(b")).is_err());
        assert!(Matcher::new(LabelMatcher::new("l", MatchOp::Regex, "*x")).is_err());
    }
}
