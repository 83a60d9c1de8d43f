//! What a query means once it is read.

use pharos_model::Matcher;

use crate::functions::Function;

/// A place in the query text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// In bytes from the start.
    pub offset: usize,
    /// From 1.
    pub line: u32,
    /// In bytes from the start of the line, from 1.
    pub column: u32,
}

impl Position {
    pub const START: Position = Position { offset: 0, line: 1, column: 1 };
    /// Of nothing: what is wrong is that there is no text.
    pub const UNKNOWN: Position = Position { offset: 0, line: 0, column: 0 };
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Position::UNKNOWN {
            return f.write_str("unknown position");
        }
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The type of an expression's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    Scalar,
    String,
    InstantVector,
    RangeVector,
}

impl ValueType {
    pub fn name(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::String => "string",
            ValueType::InstantVector => "instant vector",
            ValueType::RangeVector => "range vector",
        }
    }
}

/// A query, or a part of one, with the place where it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    pub kind: ExprKind,
    pub at: Position,
    /// Nesting below and with this node; bounded by the parser, so walking an `Expr` needs bounded stack.
    pub(crate) depth: u16,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ExprKind {
    /// `1.5`, or `5m` (in seconds; `as_duration` says that it was written so).
    Number {
        value: f64,
        as_duration: bool,
    },
    Text(String),
    Selector(Selector),
    /// `selector[range]`
    Range {
        selector: Selector,
        range: DurationExpr,
    },
    Subquery(Subquery),
    Aggregate(Aggregate),
    Binary(Binary),
    /// `-x` or `+x`
    Unary {
        negate: bool,
        operand: Box<Expr>,
    },
    Call {
        function: &'static Function,
        args: Vec<Expr>,
    },
    Paren(Box<Expr>),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Selector {
    /// The name in front of the braces; it is among the matchers as well.
    pub name: Option<String>,
    pub matchers: Vec<Matcher>,
    pub time: TimeShift,
    pub extension: Option<Extension>,
}

/// `offset` and `@` of a selector or subquery.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TimeShift {
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    TimeMs(i64),
    Start,
    End,
}

/// Where a window's first and last value come from (experimental).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// The last sample at or before each end of the window.
    Anchored,
    /// The line between the samples around each end of the window.
    Smoothed,
}

impl Extension {
    pub fn keyword(self) -> &'static str {
        match self {
            Extension::Anchored => "anchored",
            Extension::Smoothed => "smoothed",
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Subquery {
    pub operand: Box<Expr>,
    pub range: DurationExpr,
    pub step: Option<DurationExpr>,
    pub time: TimeShift,
}

/// A duration as written. Its value, in seconds, may depend on the query's step and range.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationExpr {
    /// A bare number of seconds, or a duration literal.
    Literal {
        ms: i64,
    },
    Step,
    Range,
    Negate(Box<DurationExpr>),
    Plus(Box<DurationExpr>),
    Paren(Box<DurationExpr>),
    Binary {
        op: BinaryOp,
        left: Box<DurationExpr>,
        right: Box<DurationExpr>,
    },
    /// `min_of(a, b)`, `max_of(a, b)`
    Pick {
        max: bool,
        left: Box<DurationExpr>,
        right: Box<DurationExpr>,
    },
    /// A number that is a factor or whole seconds, depending on where it stands.
    Number(f64),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub operand: Box<Expr>,
    pub param: Option<Box<Expr>>,
    pub without: bool,
    pub grouping: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    Topk,
    Bottomk,
    CountValues,
    Quantile,
    Limitk,
    LimitRatio,
}

impl AggregateOp {
    const ALL: [AggregateOp; 14] = [
        AggregateOp::Sum,
        AggregateOp::Avg,
        AggregateOp::Count,
        AggregateOp::Min,
        AggregateOp::Max,
        AggregateOp::Group,
        AggregateOp::Stddev,
        AggregateOp::Stdvar,
        AggregateOp::Topk,
        AggregateOp::Bottomk,
        AggregateOp::CountValues,
        AggregateOp::Quantile,
        AggregateOp::Limitk,
        AggregateOp::LimitRatio,
    ];

    pub fn name(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::Topk => "topk",
            AggregateOp::Bottomk => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::Limitk => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<AggregateOp> {
        AggregateOp::ALL.into_iter().find(|op| op.name().eq_ignore_ascii_case(name))
    }

    /// The type of the parameter in front of the operand, if it takes one.
    pub fn param_type(self) -> Option<ValueType> {
        match self {
            AggregateOp::Topk
            | AggregateOp::Bottomk
            | AggregateOp::Quantile
            | AggregateOp::Limitk
            | AggregateOp::LimitRatio => Some(ValueType::Scalar),
            AggregateOp::CountValues => Some(ValueType::String),
            _ => None,
        }
    }

    pub(crate) fn is_experimental(self) -> bool {
        matches!(self, AggregateOp::Limitk | AggregateOp::LimitRatio)
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    /// Where the operator stands.
    pub op_at: Position,
    pub left: Box<Expr>,
    pub right: Box<Expr>,
    /// `bool`: comparisons give 0 and 1 instead of filtering.
    pub return_bool: bool,
    pub matching: Matching,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterOrEqual,
    LessOrEqual,
    /// `</`: the part of a native histogram below a value.
    TrimUpper,
    /// `>/`: the part of a native histogram above a value.
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    pub fn symbol(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Equal => "==",
            BinaryOp::NotEqual => "!=",
            BinaryOp::Greater => ">",
            BinaryOp::Less => "<",
            BinaryOp::GreaterOrEqual => ">=",
            BinaryOp::LessOrEqual => "<=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }

    pub fn is_comparison(self) -> bool {
        matches!(
            self,
            BinaryOp::Equal
                | BinaryOp::NotEqual
                | BinaryOp::Greater
                | BinaryOp::Less
                | BinaryOp::GreaterOrEqual
                | BinaryOp::LessOrEqual
        )
    }

    /// How tightly it binds; `^` is the only one that groups to the right.
    pub(crate) fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And | BinaryOp::Unless => 2,
            op if op.is_comparison() => 3,
            BinaryOp::TrimUpper | BinaryOp::TrimLower => 3,
            BinaryOp::Add | BinaryOp::Sub => 4,
            BinaryOp::Pow => 6,
            _ => 5,
        }
    }
}

/// Which series of the two sides belong together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Matching {
    pub cardinality: Cardinality,
    /// `on` instead of `ignoring`.
    pub on: bool,
    pub labels: Vec<String>,
    /// Labels that `group_left`/`group_right` copy from the "one" side.
    pub include: Vec<String>,
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cardinality {
    #[default]
    OneToOne,
    /// `group_left`
    ManyToOne,
    /// `group_right`
    OneToMany,
    /// Set operators.
    ManyToMany,
}

impl Expr {
    pub(crate) fn leaf(kind: ExprKind, at: Position) -> Expr {
        Expr { kind, at, depth: 1 }
    }

    /// The expression inside any parentheses around it.
    pub fn unwrap_parens(&self) -> &Expr {
        let mut inner = self;
        while let ExprKind::Paren(next) = &inner.kind {
            inner = next;
        }
        inner
    }

    pub fn value_type(&self) -> ValueType {
        match &self.kind {
            ExprKind::Number { .. } => ValueType::Scalar,
            ExprKind::Text(_) => ValueType::String,
            ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::InstantVector,
            ExprKind::Range { .. } | ExprKind::Subquery(_) => ValueType::RangeVector,
            ExprKind::Binary(binary) => match (binary.left.value_type(), binary.right.value_type()) {
                (ValueType::Scalar, ValueType::Scalar) => ValueType::Scalar,
                _ => ValueType::InstantVector,
            },
            ExprKind::Unary { operand, .. } => operand.value_type(),
            ExprKind::Call { function, .. } => function.returns,
            ExprKind::Paren(inner) => inner.value_type(),
        }
    }

    /// The direct sub-expressions, in the order in which they are written.
    pub fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            ExprKind::Number { .. } | ExprKind::Text(_) | ExprKind::Selector(_) | ExprKind::Range { .. } => {
                Vec::new()
            }
            ExprKind::Subquery(subquery) => vec![&subquery.operand],
            ExprKind::Aggregate(aggregate) => {
                aggregate.param.as_deref().into_iter().chain([&*aggregate.operand]).collect()
            }
            ExprKind::Binary(binary) => vec![&binary.left, &binary.right],
            ExprKind::Unary { operand, .. } => vec![operand],
            ExprKind::Call { args, .. } => args.iter().collect(),
            ExprKind::Paren(inner) => vec![inner],
        }
    }

    /// All selectors, in the order in which they are written: what a query reads.
    pub fn selectors(&self) -> Vec<&Selector> {
        match &self.kind {
            ExprKind::Selector(selector) | ExprKind::Range { selector, .. } => vec![selector],
            _ => self.children().into_iter().flat_map(Expr::selectors).collect(),
        }
    }
}
