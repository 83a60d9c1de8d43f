//! The functions of PromQL: names, argument and result types.

use crate::ast::ValueType::{self, InstantVector as V, RangeVector as M, Scalar as S, String as T};

/// A function's signature.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    pub args: &'static [ValueType],
    pub variadic: Variadic,
    pub returns: ValueType,
    /// Only known when the experimental functions are switched on.
    pub experimental: bool,
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        self.name == other.name
    }
}

/// How many arguments beyond or below the listed ones are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variadic {
    No,
    /// The last this many may be left out.
    Optional(usize),
    /// The last may be repeated any number of times, or left out.
    Repeated,
    /// The last may be repeated up to this many times, and occurs at least once.
    AtMost(usize),
}

const fn function(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, variadic: Variadic::No, returns, experimental: false }
}

const fn optional(
    name: &'static str,
    args: &'static [ValueType],
    count: usize,
    returns: ValueType,
) -> Function {
    Function { name, args, variadic: Variadic::Optional(count), returns, experimental: false }
}

const fn experimental(name: &'static str, args: &'static [ValueType], returns: ValueType) -> Function {
    Function { name, args, variadic: Variadic::No, returns, experimental: true }
}

/// Sorted by name.
static FUNCTIONS: [Function; 91] = [
    function("abs", &[V], V),
    function("absent", &[V], V),
    function("absent_over_time", &[M], V),
    function("acos", &[V], V),
    function("acosh", &[V], V),
    function("asin", &[V], V),
    function("asinh", &[V], V),
    function("atan", &[V], V),
    function("atanh", &[V], V),
    function("avg_over_time", &[M], V),
    function("ceil", &[V], V),
    function("changes", &[M], V),
    function("clamp", &[V, S, S], V),
    function("clamp_max", &[V, S], V),
    function("clamp_min", &[V, S], V),
    function("cos", &[V], V),
    function("cosh", &[V], V),
    function("count_over_time", &[M], V),
    optional("day_of_month", &[V], 1, V),
    optional("day_of_week", &[V], 1, V),
    optional("day_of_year", &[V], 1, V),
    optional("days_in_month", &[V], 1, V),
    function("deg", &[V], V),
    function("delta", &[M], V),
    function("deriv", &[M], V),
    experimental("double_exponential_smoothing", &[M, S, S], V),
    experimental("end", &[], S),
    function("exp", &[V], V),
    function("first_over_time", &[M], V),
    function("floor", &[V], V),
    function("histogram_avg", &[V], V),
    function("histogram_count", &[V], V),
    function("histogram_fraction", &[S, S, V], V),
    function("histogram_quantile", &[S, V], V),
    Function {
        name: "histogram_quantiles",
        args: &[V, T, S],
        variadic: Variadic::AtMost(10),
        returns: V,
        experimental: true,
    },
    function("histogram_stddev", &[V], V),
    function("histogram_stdvar", &[V], V),
    function("histogram_sum", &[V], V),
    optional("hour", &[V], 1, V),
    function("idelta", &[M], V),
    function("increase", &[M], V),
    Function { name: "info", args: &[V, V], variadic: Variadic::Optional(1), returns: V, experimental: true },
    Function {
        name: "integral",
        args: &[M, S],
        variadic: Variadic::Optional(1),
        returns: V,
        experimental: true,
    },
    function("irate", &[M], V),
    Function {
        name: "label_join",
        args: &[V, T, T, T],
        variadic: Variadic::Repeated,
        returns: V,
        experimental: false,
    },
    function("label_replace", &[V, T, T, T, T], V),
    function("last_over_time", &[M], V),
    function("ln", &[V], V),
    function("log10", &[V], V),
    function("log2", &[V], V),
    experimental("mad_over_time", &[M], V),
    experimental("max_of", &[S, S], S),
    function("max_over_time", &[M], V),
    experimental("min_of", &[S, S], S),
    function("min_over_time", &[M], V),
    optional("minute", &[V], 1, V),
    optional("month", &[V], 1, V),
    function("pi", &[], S),
    function("predict_linear", &[M, S], V),
    function("present_over_time", &[M], V),
    function("quantile_over_time", &[S, M], V),
    function("rad", &[V], V),
    experimental("range", &[], S),
    function("rate", &[M], V),
    function("resets", &[M], V),
    optional("round", &[V, S], 1, V),
    function("scalar", &[V], S),
    function("sgn", &[V], V),
    function("sin", &[V], V),
    function("sinh", &[V], V),
    function("sort", &[V], V),
    Function {
        name: "sort_by_label",
        args: &[V, T],
        variadic: Variadic::Repeated,
        returns: V,
        experimental: true,
    },
    Function {
        name: "sort_by_label_desc",
        args: &[V, T],
        variadic: Variadic::Repeated,
        returns: V,
        experimental: true,
    },
    function("sort_desc", &[V], V),
    function("sqrt", &[V], V),
    experimental("start", &[], S),
    experimental("start_timestamp", &[V], V),
    function("stddev_over_time", &[M], V),
    function("stdvar_over_time", &[M], V),
    experimental("step", &[], S),
    function("sum_over_time", &[M], V),
    function("tan", &[V], V),
    function("tanh", &[V], V),
    function("time", &[], S),
    function("timestamp", &[V], V),
    experimental("ts_of_first_over_time", &[M], V),
    experimental("ts_of_last_over_time", &[M], V),
    experimental("ts_of_max_over_time", &[M], V),
    experimental("ts_of_min_over_time", &[M], V),
    function("vector", &[S], V),
    optional("year", &[V], 1, V),
];

/// The function of this name, which is case-sensitive.
pub fn find_function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.binary_search_by(|function| function.name.cmp(name)).ok().and_then(|index| FUNCTIONS.get(index))
}

/// All functions, sorted by name.
pub fn functions() -> &'static [Function] {
    &FUNCTIONS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_so_that_every_name_is_found() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert!(functions().iter().all(|function| find_function(function.name).is_some()));
    }
}
