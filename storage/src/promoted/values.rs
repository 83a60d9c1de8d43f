use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanBuilder, Float64Builder, Int64Builder},
    error::ArrowError,
};

use super::ValueKind;
use crate::columns::SymbolBuilder;

/// A column of attributes' values, made of their texts.
pub(super) enum Values {
    Text(SymbolBuilder),
    Int(Int64Builder),
    Double(Float64Builder),
    Bool(BooleanBuilder),
}

impl Values {
    pub(super) fn with_capacity(kind: ValueKind, rows: usize) -> Values {
        match kind {
            ValueKind::Text => Values::Text(SymbolBuilder::with_capacity(rows)),
            ValueKind::Int => Values::Int(Int64Builder::with_capacity(rows)),
            ValueKind::Double => Values::Double(Float64Builder::with_capacity(rows)),
            ValueKind::Bool => Values::Bool(BooleanBuilder::with_capacity(rows)),
        }
    }

    /// Whether the text is a value of the column's type; if not, nothing is appended.
    pub(super) fn append(&mut self, text: &str) -> Result<bool, ArrowError> {
        Ok(match self {
            Values::Text(builder) => {
                builder.append(text)?;
                true
            }
            Values::Int(builder) => text.parse().map(|number| builder.append_value(number)).is_ok(),
            Values::Double(builder) => text.parse().map(|number| builder.append_value(number)).is_ok(),
            Values::Bool(builder) => text.parse().map(|flag| builder.append_value(flag)).is_ok(),
        })
    }

    pub(super) fn append_null(&mut self) {
        match self {
            Values::Text(builder) => builder.append_null(),
            Values::Int(builder) => builder.append_null(),
            Values::Double(builder) => builder.append_null(),
            Values::Bool(builder) => builder.append_null(),
        }
    }

    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Values::Text(builder) => Arc::new(builder.finish()?),
            Values::Int(mut builder) => Arc::new(builder.finish()),
            Values::Double(mut builder) => Arc::new(builder.finish()),
            Values::Bool(mut builder) => Arc::new(builder.finish()),
        })
    }
}
