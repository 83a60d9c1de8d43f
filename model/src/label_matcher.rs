use std::{cmp::Ordering, fmt};

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

/// A condition on one label, as written. An absent label has the value `""`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelMatcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
}

impl LabelMatcher {
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> LabelMatcher {
        LabelMatcher { name: name.into(), op, value: value.into() }
    }

    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> LabelMatcher {
        LabelMatcher::new(name, MatchOp::Equal, value)
    }
}

impl fmt::Display for LabelMatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.symbol(), self.value)
    }
}

impl PartialOrd for LabelMatcher {
    fn partial_cmp(&self, other: &LabelMatcher) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelMatcher {
    fn cmp(&self, other: &LabelMatcher) -> Ordering {
        (&self.name, self.op.symbol(), &self.value).cmp(&(&other.name, other.op.symbol(), &other.value))
    }
}
